//! Challenges: what a server wants with its 401 (RFC 9110, section 11.6).

use crate::registry::transport::http::Response;

/// What a server wants with its 401.
#[derive(Clone)]
pub enum Challenge {
    /// A user name and a password (RFC 7617).
    Basic,
    /// A token (RFC 6750) from the server at `realm`.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge of a response that can be answered, Bearer before Basic.
    pub fn of(response: &Response) -> Option<Challenge> {
        let all: Vec<Challenge> = response.headers("www-authenticate").flat_map(Challenge::all).collect();
        let is_bearer = |c: &Challenge| matches!(c, Challenge::Bearer { .. });
        let first = all.iter().position(is_bearer).unwrap_or(0);
        all.into_iter().nth(first)
    }

    /// A header may hold several, separated by commas.
    pub(crate) fn all(header: &str) -> Vec<Challenge> {
        let begins = |at: &usize| *at == 0 || header[..*at].trim_end().ends_with(',');
        let lower = header.to_ascii_lowercase();
        let mut starts: Vec<usize> =
            ["basic", "bearer"].iter().flat_map(|s| lower.match_indices(s)).map(|m| m.0).collect();
        starts.retain(begins);
        starts.into_iter().filter_map(|at| Challenge::parse(&header[at..])).collect()
    }

    fn parse(header: &str) -> Option<Challenge> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (key, value) in self::parameters(parameters) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Challenge::Bearer { realm: realm?, service, scope })
    }
}

/// `key="value", key=value`; a quoted value may hold commas and escaped quotes.
fn parameters(mut rest: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',', '\t']);
        let mut value = String::new();
        match after.strip_prefix('"') {
            Some(quoted) => {
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => value.extend(chars.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                rest = &quoted[end..];
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                value.push_str(after[..end].trim());
                rest = &after[end..];
            }
        }
        found.push((key, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://a/token",service="s, t",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(header) else { panic!() };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a/token", Some("s, t")));
        assert_eq!(scope.as_deref(), Some("repository:x:pull,push"));
        assert!(matches!(Challenge::parse("basic realm=x"), Some(Challenge::Basic)));
        assert!(Challenge::parse("Negotiate").is_none());
        assert!(Challenge::parse("Bearer realm").is_none());
        let two = r#"Basic realm="a, bearer b", Bearer realm="https://t/",service=s"#;
        assert!(matches!(&Challenge::all(two)[..], [Challenge::Basic, Challenge::Bearer { .. }]));
        assert_eq!(parameters(r#"a="x\"y" , b=c"#), [("a", "x\"y".to_string()), ("b", "c".to_string())]);
    }
}
