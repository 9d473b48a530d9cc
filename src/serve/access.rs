//! Basic access (RFC 7617) by a file as `htpasswd -B` writes it: only bcrypt is taken, as docker-registry does.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    error::{Context, Error, Result},
    fd,
    oci::Digest,
};

/// So many passwords that were right are kept in mind: to check one takes a while on purpose.
const KNOWN_MAX: usize = 1000;

/// Who may read.
pub struct PasswordFile {
    /// By user.
    hashes: HashMap<String, String>,
    /// Fingerprints of what was right.
    known: Mutex<HashSet<Digest>>,
    /// Held by who checks a password.
    checking: Mutex<()>,
}

impl PasswordFile {
    /// Reads the file: a line a user, with a colon before the hash; blank lines and those with `#` say nothing.
    ///
    /// # Errors
    /// If it cannot be read, a line is malformed, or a hash is not of bcrypt.
    pub fn read(path: &Path) -> Result<PasswordFile> {
        let doing = || format!("reading {path:?}");
        let bytes = fd::read_file(path).doing(doing)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new("it is not UTF-8").doing(doing()))?;
        let mut hashes = HashMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let doing = || format!("reading {path:?}, line {}", n + 1);
            let (user, hash) = line.split_once(':').ok_or_else(|| Error::new("it is no USER:HASH").doing(doing()))?;
            if !["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) {
                let error = Error::new(format!("the hash of {user:?} is not of bcrypt")).doing(doing());
                return Err(error.hint("htpasswd -B makes such"));
            }
            hashes.insert(user.to_string(), hash.to_string());
        }
        match hashes.is_empty() {
            true => Err(Error::new("it names no user, so that nobody could read anything").doing(doing())),
            false => Ok(PasswordFile { hashes, known: Mutex::default(), checking: Mutex::default() }),
        }
    }

    /// The user whose name and password a header field `Authorization` holds, if they are right.
    pub fn user(&self, authorization: Option<&str>) -> Option<String> {
        let (scheme, value) = authorization?.split_once(' ')?;
        let pair = STANDARD.decode(value.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let pair = String::from_utf8(pair).ok()?;
        let (user, password) = pair.split_once(':')?;
        let hash = self.hashes.get(user)?;
        let fingerprint = Digest::of(format!("{hash}\n{pair}").as_bytes());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known().contains(&fingerprint) {
            // One at a time: whoever guesses does not keep the others from being served.
            let _checking = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
            bcrypt::verify(password, hash).ok().filter(|is_right| *is_right)?;
            let mut known = known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(fingerprint);
        }
        Some(user.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::scratch::Scratch;

    #[test]
    fn who_may_read() {
        let dir = Scratch::new();
        let path = dir.join("users");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            PasswordFile::read(&path)
        };
        let hash = bcrypt::hash("secret", 4).unwrap();
        let access = read(&format!("# those who may\n\nann:{hash}\n")).unwrap();
        let basic = |pair: &str| Some(format!("Basic {}", STANDARD.encode(pair)));
        for _ in 0..2 {
            assert_eq!(access.user(basic("ann:secret").as_deref()), Some("ann".into()));
            assert_eq!(access.user(basic("ann:wrong").as_deref()), None);
        }
        for other in [None, Some("Basic"), Some("Basic ???"), Some("Bearer x"), basic("bob:secret").as_deref()] {
            assert_eq!(access.user(other), None, "{other:?}");
        }
        for (text, why) in
            [("", "names no user"), ("ann", "line 1"), ("ann:{SHA}x", "not of bcrypt"), ("\nann:$apr1$x", "line 2")]
        {
            assert!(read(text).err().unwrap().to_string().contains(why), "{text:?}");
        }
    }
}
