//! A token server of the CNCF distribution token protocol, for a real registry: its tokens are
//! signed (RS256, by openssl(1)) and live two seconds.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::{
    scripted::{Answer, Content, Request, Scripted},
    util::{Dir, peer},
};

pub const SERVICE: &str = "tests";
const ISSUER: &str = "tests-issuer";
/// Docker's registry takes a token for so many seconds after it has run out.
const LEEWAY: u64 = 60;
const LIFE: u64 = 2;

/// A running token server. It knows alice, with the password `s3cret` or the identity token
/// `id3ntity`, and nobody else; she may do everything.
pub struct Tokens {
    scripted: Scripted,
    /// Each request that was granted: method, and scopes.
    granted: Arc<Mutex<Vec<String>>>,
    certificate: PathBuf,
}

impl Tokens {
    /// One that says that a token lives `announced` seconds.
    pub fn start(dir: &Dir, announced: u64) -> Tokens {
        let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout tokens.key -out tokens.pem";
        peer(dir, "openssl", &words.split(' ').collect::<Vec<_>>());
        let pem = dir.text("tokens.pem");
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let granted = Arc::new(Mutex::new(Vec::new()));
        let (noted, key) = (granted.clone(), dir.join("tokens.key"));
        let scripted = Scripted::start(Content::default(), move |request, _| {
            let Some((user, scopes)) = who(request) else {
                return Answer { status: 401, ..Answer::default() };
            };
            noted.lock().unwrap().push(format!("{} {}", request.method, scopes.join(" ")));
            let granted = if user.is_empty() { &[][..] } else { &scopes[..] };
            let token = token(&key, &der, user, granted);
            let name = if request.method == "POST" { "access_token" } else { "token" };
            let body = json!({name: token, "expires_in": announced}).to_string().into_bytes();
            Answer { status: 200, body, ..Answer::default() }
        });
        Tokens { scripted, granted, certificate: dir.join("tokens.pem") }
    }

    /// What a registry needs to know of it.
    pub fn access(&self) -> Value {
        json!({"token": {
            "realm": format!("{}/token", self.scripted.endpoint()),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": self.certificate,
        }})
    }

    pub fn granted(&self) -> Vec<String> {
        self.granted.lock().unwrap().clone()
    }
}

/// Who asks, empty if nobody says so, and for which scopes; `None` for wrong credentials.
fn who(request: &Request) -> Option<(&'static str, Vec<String>)> {
    let form = match request.method {
        "GET" => request.path.split_once('?')?.1.to_string(),
        "POST" => String::from_utf8(request.body.to_vec()).unwrap(),
        _ => return None,
    };
    let mut scopes = Vec::new();
    let mut identity = None;
    for pair in form.split('&') {
        let (key, value) = pair.split_once('=').unwrap();
        let value = value.replace("%20", " ").replace("%2C", ",");
        match key {
            "scope" => scopes.extend(value.split(' ').map(String::from)),
            "service" => assert_eq!(value, SERVICE),
            "refresh_token" => identity = Some(value),
            "grant_type" => assert_eq!(value, "refresh_token"),
            _ => {}
        }
    }
    let basic = STANDARD.encode("alice:s3cret");
    let user = match (request.headers.get("authorization"), identity) {
        (None, None) if request.method == "GET" => "",
        (Some(header), None) if *header == format!("Basic {basic}") => "alice",
        (None, Some(token)) if token == "id3ntity" => "alice",
        _ => return None,
    };
    Some((user, scopes))
}

fn token(key: &Path, certificate: &str, user: &str, scopes: &[String]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let access: Vec<Value> = scopes
        .iter()
        .map(|scope| {
            let (rest, actions) = scope.rsplit_once(':').unwrap();
            let (kind, name) = rest.split_once(':').unwrap();
            json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()})
        })
        .collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": now.to_string(),
        "nbf": now - 3600, "iat": now - 3600, "exp": now + LIFE - LEEWAY, "access": access,
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    assert!(fs::exists(key).unwrap());
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let signature = openssl.wait_with_output().unwrap();
    assert!(signature.status.success());
    format!("{signed}.{}", encode(&signature.stdout))
}
