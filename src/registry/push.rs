//! What a repository is given but for the content of blobs: mounts, manifests and tags.

use ureq::http::{
    Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};

use super::{
    client::{Access, Call, Registries, RepositoryAccess},
    transport::{
        http::{Payload, Response},
        url::encoded,
    },
    upload::{UploadSession, check_stored},
};
use crate::{
    config::ReferrersSupport,
    error::{Context, Error, Result},
    oci::{Descriptor, Manifest, Repository, layout::MANIFEST_SIZE_MAX, media},
};

impl Registries {
    /// Whether a repository that is to be pushed to is known to have a blob. Where the registry does not say so, the
    /// upload will show.
    ///
    /// # Errors
    /// If the certificates for it cannot be read, or it does not answer for so long that it is given up.
    pub fn blob_exists(&self, repository: &Repository, descriptor: &Descriptor) -> Result<bool> {
        let access = self.access(repository, Access::Push)?;
        match self.trying(|| self.head_blob(&access, descriptor)) {
            Err(e) if e.is_away() => Err(e),
            asked => Ok(asked.unwrap_or(false)),
        }
    }

    /// Whether a repository is known to have a manifest as such. Some registries (distribution 2.8) answer the same for a
    /// manifest that was sent as a blob: what is there as a blob, too, is not known to be a manifest.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    pub fn manifest_exists(&self, repository: &Repository, descriptor: &Descriptor) -> Result<bool> {
        let access = self.access(repository, Access::Push)?;
        let call = Call::new(Method::HEAD, format!("manifests/{}", descriptor.digest)).with(ACCEPT, media::ACCEPT);
        let is_one = self.trying(|| {
            let response = self.send(&access, &call)?;
            let is_same = response.length().is_none_or(|length| length == descriptor.size);
            Ok(response.status().is_success() && is_same)
        })?;
        Ok(is_one && !self.trying(|| self.head_blob(&access, descriptor))?)
    }

    /// Looks whether a repository has a manifest, under its digest or under a tag.
    ///
    /// # Errors
    /// If it has another one there, or none, or cannot be asked.
    pub fn look(&self, repository: &Repository, descriptor: &Descriptor, tag: Option<&str>) -> Result<()> {
        let target = tag.map_or(descriptor.digest.to_string(), String::from);
        let doing = || format!("looking again at {target} in {repository}");
        let access = self.access(repository, Access::Pull)?;
        let bytes = self.trying(|| self.get_manifest(&access, &target)?.bytes(MANIFEST_SIZE_MAX)).doing(doing)?;
        match descriptor.digest.of_same(&bytes) {
            found if found == descriptor.digest => Ok(()),
            found => {
                Err(Error::new(format!("it is {found}, and was put there as {}", descriptor.digest)).doing(doing()))
            }
        }
    }

    /// Takes a blob over from another repository of the same registry. `None` if that is done; else the
    /// session that the registry has begun instead.
    ///
    /// # Errors
    /// If the registry does neither.
    pub fn mount(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from: &Repository,
    ) -> Result<Option<UploadSession>> {
        let access = self.access(repository, Access::Mount(from))?;
        let (digest, other) = (encoded(&descriptor.digest.to_string()), encoded(&from.path));
        let path = format!("blobs/uploads/?mount={digest}&from={other}");
        self.trying(|| {
            let response = self.send_bytes(&access, &Call::new(Method::POST, path.clone()), b"")?;
            match response.status() {
                StatusCode::CREATED => Ok(None),
                StatusCode::ACCEPTED => UploadSession::begun(&access, response).map(Some),
                _ => Err(response.refusal()),
            }
        })
    }

    /// # Errors
    /// If no endpoint answers.
    pub(super) fn send_bytes(&self, access: &RepositoryAccess, call: &Call, bytes: &[u8]) -> Result<Response> {
        self.first_endpoint(&access.host, |endpoint| self.send_to(endpoint, access, call, Payload::Bytes(bytes)))
    }

    /// Puts a manifest under its digest. What it refers to must be there. Where the registry does not
    /// keep referrers itself, the index at the subject's referrers tag is brought up to date; another
    /// client that does so at the same time may undo it.
    ///
    /// # Errors
    /// If the registry does not take it, or stores it as something else.
    pub fn push_manifest(&self, repository: &Repository, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let doing = || format!("pushing manifest {} to {repository}", descriptor.digest);
        let manifest = Manifest::parse(&descriptor.media_type, bytes).map_err(Error::new).doing(doing)?;
        let access = self.access(repository, Access::Push)?;
        let target = descriptor.digest.to_string();
        let put = self.trying(|| self.put_manifest(&access, &target, &descriptor.media_type, bytes));
        let kept = self.stored(&access, &target, put, descriptor).doing(doing)?;
        let Some(subject) = manifest.subject.clone().filter(|_| kept != Some(true)) else { return Ok(()) };
        // It was there before, and so may be what lists it.
        if kept.is_none() && self.referrers(repository, &subject, &[])?.iter().any(|d| d.digest == descriptor.digest) {
            return Ok(());
        }
        match access.host.referrers(&repository.path) {
            ReferrersSupport::Api => Ok(()),
            _ => self.list_referrer(&access, &subject.digest, &manifest.as_referrer(descriptor)).doing(doing),
        }
    }

    /// Puts a manifest that is there under a tag.
    ///
    /// # Errors
    /// As [`Registries::push_manifest`].
    pub fn tag(&self, repository: &Repository, descriptor: &Descriptor, bytes: &[u8], tag: &str) -> Result<()> {
        let doing = || format!("tagging {} as {repository}:{tag}", descriptor.digest);
        let access = self.access(repository, Access::Push)?;
        let put = self.trying(|| self.put_manifest(&access, tag, &descriptor.media_type, bytes));
        self.stored(&access, tag, put, descriptor).doing(doing).map(drop)
    }

    /// Whether the registry keeps a manifest's subject, if it has the manifest as what it is. `None`: it refused it
    /// because it has it already and changes nothing.
    fn stored(
        &self,
        access: &RepositoryAccess,
        target: &str,
        put: Result<Response>,
        descriptor: &Descriptor,
    ) -> Result<Option<bool>> {
        let refusal = match put {
            Ok(response) => return taken(response, descriptor).map(Some),
            // Immutable tags cannot be put again, not even with what they have.
            Err(e) if e.retry_after().is_none() && !e.is_signal() => e,
            Err(e) => return Err(e),
        };
        let there = self.trying(|| self.get_manifest(access, target)?.bytes(MANIFEST_SIZE_MAX));
        match there.map(|bytes| descriptor.digest.of_same(&bytes)) {
            Ok(digest) if digest == descriptor.digest => Ok(None),
            Ok(digest) => {
                let why = format!("{target} is {digest} there, and the registry does not change it");
                Err(refusal.after(why).hint("give another tag"))
            }
            Err(_) => Err(refusal),
        }
    }

    /// # Errors
    /// If the registry refuses it.
    pub(super) fn put_manifest(
        &self,
        access: &RepositoryAccess,
        target: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Response> {
        let call = Call::new(Method::PUT, format!("manifests/{target}")).with(CONTENT_TYPE, media_type);
        self.send_bytes(access, &call, bytes)?.expect_ok()
    }
}

/// Whether the registry keeps a manifest's subject, if it stored the manifest as what it is.
fn taken(response: Response, descriptor: &Descriptor) -> Result<bool> {
    check_stored(&response, &descriptor.digest)?;
    let kept = response.header("oci-subject").is_some();
    response.drain();
    Ok(kept)
}
