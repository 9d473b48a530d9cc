//! What a request is answered with: the pull side of the distribution specification 1.1, and a page for people.

use std::sync::Arc;

use super::{
    content::{Condition, Held},
    http::{AnswerHead, ClientRequest, Part, Refusal, error_json, part_of},
    library::{Library, NAME_MAX, referrers_index},
    page,
};
use crate::{
    log,
    oci::{Digest, json, media, reference::is_component, reference::is_tag},
};

/// So many names are listed at once, at the most.
const LISTED_MAX: usize = 10_000;

/// What follows the head of an answer.
#[derive(Clone)]
pub enum AnswerBody {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A part of a blob: from where on, and how many bytes.
    Blob(Digest, Arc<Held>, u64, u64),
}

impl AnswerBody {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            AnswerBody::Bytes(bytes) => bytes.len() as u64,
            AnswerBody::Blob(.., len) => *len,
        }
    }
}

/// An answer.
#[derive(Clone)]
pub struct ServedAnswer {
    /// Its head.
    pub head: AnswerHead,
    /// What follows it, unless only the head is asked for.
    pub body: AnswerBody,
}

impl ServedAnswer {
    /// An error as the specification has it.
    pub fn error(status: u16, code: &str, message: &str) -> ServedAnswer {
        ServedAnswer::bytes(AnswerHead::new(status).with("Content-Type", "application/json"), error_json(code, message))
    }

    /// For a request that would write.
    fn only_read() -> ServedAnswer {
        let mut answer = ServedAnswer::error(405, "UNSUPPORTED", "this registry is only read");
        answer.head = answer.head.with("Allow", "GET, HEAD");
        answer
    }

    /// For a request with a body, which is not read.
    pub fn refused(request: &ClientRequest, refusal: Refusal) -> ServedAnswer {
        match request.method.as_str() {
            "GET" | "HEAD" => ServedAnswer::refusal(refusal),
            _ => ServedAnswer::only_read(),
        }
    }

    /// For a request that is refused.
    pub fn refusal(refusal: Refusal) -> ServedAnswer {
        ServedAnswer::error(refusal.status, "UNSUPPORTED", refusal.why)
    }

    /// The same with what every answer says.
    pub fn with_common_fields(self) -> ServedAnswer {
        let head = self.head.with("Docker-Distribution-API-Version", "registry/2.0");
        ServedAnswer { head: head.with("X-Content-Type-Options", "nosniff"), body: self.body }
    }

    fn bytes(head: AnswerHead, bytes: Vec<u8>) -> ServedAnswer {
        ServedAnswer { head, body: AnswerBody::Bytes(bytes.into()) }
    }

    fn json(bytes: Vec<u8>) -> ServedAnswer {
        ServedAnswer::bytes(AnswerHead::new(200).with("Content-Type", "application/json"), bytes)
    }
}

/// Answers a request.
pub fn answer(library: &Library, request: &ClientRequest) -> ServedAnswer {
    match request.method.as_str() {
        "GET" | "HEAD" => route(library, request),
        _ => ServedAnswer::only_read(),
    }
}

fn route(library: &Library, request: &ClientRequest) -> ServedAnswer {
    let path = request.path.as_str();
    match path {
        "/" => return page(library, request),
        "/v2" | "/v2/" => return ServedAnswer::json(b"{}\n".to_vec()),
        "/v2/_catalog" => return catalog(library, request),
        _ => {}
    }
    let not_found = || ServedAnswer::error(404, "NAME_UNKNOWN", "there is nothing of that name");
    let Some(rest) = path.strip_prefix("/v2/") else { return not_found() };
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return in_repository(library, request, name, tags);
    }
    // The last part but one says what is asked for; a name may have any number of parts.
    let mut parts = rest.rsplitn(3, '/');
    let (Some(last), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return not_found() };
    match kind {
        "manifests" => {
            in_repository(library, request, name, |library, request, name| manifest(library, request, name, last))
        }
        "blobs" => in_repository(library, request, name, |library, request, _| blob(library, request, last)),
        "referrers" => in_repository(library, request, name, |library, request, _| referrers(library, request, last)),
        _ => not_found(),
    }
}

fn page(library: &Library, request: &ClientRequest) -> ServedAnswer {
    let wants_html = request.field("accept").is_some_and(|accept| accept.contains("text/html"));
    let host = request.field("host").unwrap_or("HOST");
    let (kind, text) = match wants_html {
        true => ("text/html; charset=utf-8", page::html(library, host)),
        false => ("text/plain; charset=utf-8", page::text(library, host)),
    };
    let head = AnswerHead::new(200)
        .with("Content-Type", kind)
        .with("Vary", "Accept")
        .with("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    ServedAnswer::bytes(head, text.into_bytes())
}

/// Answers what is asked of a repository that there is. containerd says in `ns` which registry it is a mirror of.
fn in_repository(
    library: &Library,
    request: &ClientRequest,
    name: &str,
    answer: impl FnOnce(&Library, &ClientRequest, &str) -> ServedAnswer,
) -> ServedAnswer {
    if name.len() > NAME_MAX || !name.split('/').all(is_component) {
        return ServedAnswer::error(404, "NAME_INVALID", "that is no name of a repository");
    }
    let long = request.parameter("ns").map(|registry| format!("{}/{name}", registry.to_lowercase().replace(':', "_")));
    let known = |name: &str| library.tags(name).is_some();
    let is_of_another = long.is_some() && library.is_of_a_registry(name);
    match long.filter(|long| known(long)) {
        Some(long) => answer(library, request, &long),
        None if is_of_another => ServedAnswer::error(404, "NAME_UNKNOWN", "that registry has no such repository here"),
        None if known(name) => answer(library, request, name),
        None => ServedAnswer::error(404, "NAME_UNKNOWN", "there is no such repository"),
    }
}

fn manifest(library: &Library, request: &ClientRequest, name: &str, reference: &str) -> ServedAnswer {
    let unknown = || ServedAnswer::error(404, "MANIFEST_UNKNOWN", "there is no such manifest");
    let digest = match reference.parse::<Digest>() {
        Ok(digest) => digest,
        Err(_) if reference.contains(':') => {
            return ServedAnswer::error(400, "DIGEST_INVALID", "that is no digest");
        }
        Err(_) if !is_tag(reference) => return ServedAnswer::error(404, "MANIFEST_UNKNOWN", "that is no tag"),
        Err(_) => match library.tagged(name, reference) {
            Some(digest) => digest.clone(),
            None => match library.referrers_tagged(reference) {
                Some(digest) => digest.clone(),
                None => return unknown(),
            },
        },
    };
    let Some(media_type) = library.media_type(&digest) else { return unknown() };
    match library.content(&digest) {
        Ok(bytes) => document(request, media_type, &digest, bytes),
        Err(e) => {
            log::warn(format_args!("manifest {digest} cannot be served: {e}"));
            ServedAnswer::error(500, "MANIFEST_INVALID", "the manifest cannot be read, or is damaged")
        }
    }
}

/// A manifest, or something like it.
fn document(request: &ClientRequest, media_type: &str, digest: &Digest, bytes: Vec<u8>) -> ServedAnswer {
    let head = |status| of_digest(AnswerHead::new(status), digest);
    match is_known(request, digest) {
        true => ServedAnswer::bytes(head(304), Vec::new()),
        false => ServedAnswer::bytes(head(200).with("Content-Type", media_type), bytes),
    }
}

/// What every answer says that is about one digest.
fn of_digest(head: AnswerHead, digest: &Digest) -> AnswerHead {
    head.with("Docker-Content-Digest", digest.to_string()).with("ETag", format!("\"{digest}\""))
}

/// Whether the client has it already (RFC 9110, section 13.1.2).
fn is_known(request: &ClientRequest, digest: &Digest) -> bool {
    let tag = format!("\"{digest}\"");
    let known = request.field("if-none-match").unwrap_or_default();
    known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
}

fn blob(library: &Library, request: &ClientRequest, digest: &str) -> ServedAnswer {
    let Ok(digest) = digest.parse::<Digest>() else {
        return ServedAnswer::error(400, "DIGEST_INVALID", "that is no digest");
    };
    let Some(held) = library.blob(&digest) else {
        return ServedAnswer::error(404, "BLOB_UNKNOWN", "there is no such blob");
    };
    if held.condition() == Condition::Damaged {
        return ServedAnswer::error(500, "BLOB_UNKNOWN", "the blob is damaged in the archive");
    }
    let whole = AnswerBody::Blob(digest.clone(), held.clone(), 0, held.size());
    let head = |status| of_digest(AnswerHead::new(status), &digest).with("Accept-Ranges", "bytes");
    if is_known(request, &digest) {
        return ServedAnswer { head: head(304), body: AnswerBody::Bytes(Arc::default()) };
    }
    // Of another version no part is wanted (RFC 9110, section 13.1.5).
    let is_same = request.field("if-range").is_none_or(|tag| tag == format!("\"{digest}\""));
    let range = request.field("range").filter(|_| is_same && request.method == "GET");
    let octets = |status| head(status).with("Content-Type", "application/octet-stream");
    match part_of(range, held.size()) {
        Part::Whole => ServedAnswer { head: octets(200), body: whole },
        Part::Bytes(from, len) => {
            let range = format!("bytes {from}-{}/{}", from + len - 1, held.size());
            let body = AnswerBody::Blob(digest.clone(), held.clone(), from, len);
            ServedAnswer { head: octets(206).with("Content-Range", range), body }
        }
        Part::Nothing => {
            let mut answer = ServedAnswer::error(416, "RANGE_INVALID", "the blob is not so long");
            answer.head = answer.head.with("Content-Range", format!("bytes */{}", held.size()));
            answer
        }
    }
}

fn referrers(library: &Library, request: &ClientRequest, subject: &str) -> ServedAnswer {
    let Ok(subject) = subject.parse::<Digest>() else {
        return ServedAnswer::error(400, "DIGEST_INVALID", "that is no digest");
    };
    let artifact_type = request.parameter("artifactType").filter(|wanted| !wanted.is_empty());
    let head = AnswerHead::new(200).with("Content-Type", media::INDEX);
    let head = if artifact_type.is_some() { head.with("OCI-Filters-Applied", "artifactType") } else { head };
    let all = library.referrers(&subject).iter();
    let all = all.filter(|one| artifact_type.is_none_or(|wanted| one.artifact_type == wanted)).cloned().collect();
    ServedAnswer::bytes(head, referrers_index(all))
}

fn tags(library: &Library, request: &ClientRequest, name: &str) -> ServedAnswer {
    let all = library.tags(name).into_iter().flatten();
    listing(request, all, &format!("/v2/{name}/tags/list"), &|tags| serde_json::json!({ "name": name, "tags": tags }))
}

fn catalog(library: &Library, request: &ClientRequest) -> ServedAnswer {
    listing(request, library.repositories(), "/v2/_catalog", &|names| serde_json::json!({ "repositories": names }))
}

/// A list, or the part of it behind `last`, of at most `n` names, with a link to the next.
fn listing<'a>(
    request: &ClientRequest,
    all: impl Iterator<Item = &'a str>,
    path: &str,
    document: &dyn Fn(&[&str]) -> serde_json::Value,
) -> ServedAnswer {
    let most = match request.parameter("n").map(str::parse::<usize>) {
        None => LISTED_MAX,
        Some(Ok(n)) => n.min(LISTED_MAX),
        Some(Err(_)) => return ServedAnswer::error(400, "PAGINATION_NUMBER_INVALID", "n is no number"),
    };
    let last = request.parameter("last").unwrap_or_default();
    let mut behind = all.filter(|name| last.is_empty() || *name > last);
    let names: Vec<&str> = behind.by_ref().take(most).collect();
    let mut bytes = json::compact(&document(&names));
    bytes.push(b'\n');
    let mut answer = ServedAnswer::json(bytes);
    if let Some(end) = names.last().filter(|_| behind.next().is_some()) {
        let link = format!("<{path}?last={end}&n={most}>; rel=\"next\"");
        answer.head = answer.head.with("Link", link);
    }
    answer
}
