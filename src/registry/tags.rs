//! The tags of a repository (distribution specification, "Listing Tags").

use serde::Deserialize;
use ureq::http::Method;

use super::client::{Access, Call, Registries, RequestTarget, UNSTATED_MANIFEST_MAX};
use crate::{
    error::{Context, Error, Result},
    oci::{Repository, json::or_default, layout::MANIFEST_SIZE_MAX},
};

/// More pages of tags than an honest registry has for one repository.
const PAGES_MAX: usize = 10_000;

/// One page.
#[derive(Deserialize)]
struct TagPage {
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
}

impl Registries {
    /// All tags of a repository, in the order in which the registry lists them.
    ///
    /// # Errors
    /// If the registry does not list them.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<String>> {
        let doing = || format!("listing the tags of {repository}");
        let access = self.access(repository, Access::Pull)?;
        let mut call = Call::new(Method::GET, "tags/list".into());
        let (mut all, mut size) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let (next, bytes) = self
                .trying(|| {
                    let response = self.send(&access, &call)?.expect_ok()?;
                    let next = self.next_url(&access, &response)?;
                    Ok((next, response.bytes(UNSTATED_MANIFEST_MAX)?))
                })
                .doing(doing)?;
            let page: TagPage = serde_json::from_slice(&bytes).doing(doing)?;
            size += bytes.len() as u64;
            if size > MANIFEST_SIZE_MAX {
                return Err(
                    Error::new(format!("the registry lists more than {MANIFEST_SIZE_MAX} bytes")).doing(doing())
                );
            }
            all.extend(page.tags);
            match next {
                Some(url) => call.at = RequestTarget::Url(url),
                None => return Ok(all),
            }
        }
        Err(Error::new(format!("the registry lists more than {PAGES_MAX} pages")).doing(doing()))
    }
}
