//! Credentials: Basic, tokens, helpers, `login` and `logout`, and that no secret is told.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use crate::{
    registry::{Registry, Setup, Storage, configure},
    scripted::{Answer, Content, Scripted},
    tokens::Tokens,
    util::{Dir, Outcome, ace_dt, finish, noise, peer, tool},
};

const IMAGE: &str = "reg.example.com/app:v1";
const ARCHIVE: [&str; 6] = ["mirror", "archive", "-q", "--force", "s", "out.tar"];

#[test]
fn a_real_registry_with_basic_access() {
    let dir = Dir::new();
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let htpasswd = peer(&dir, "htpasswd", &["-nbB", "alice", "s3cret"]);
    let htpasswd = dir.write("htpasswd", htpasswd);
    let registry = Registry::start_as(&dir.join("storage"), &Setup { htpasswd: Some(&htpasswd), ..Setup::default() });
    registry.configure(&dir, "http", 4);
    dir.write("s", IMAGE);
    let run = |secret: &str| {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("alice:{secret}"));
        dir.write("auth.json", format!(r#"{{"auths":{{"reg.example.com":{{"auth":"{auth}"}}}}}}"#));
        let words = ["mirror", "archive", "-q", "-v", "debug", "--force", "s", "out.tar"];
        let child = tool(&dir, &words).env("REGISTRY_AUTH_FILE", dir.join("auth.json")).spawn().unwrap();
        let outcome = crate::util::finish(child);
        for secret in ["s3cret", "wr0ng", &auth] {
            assert!(!outcome.err.contains(secret), "a secret is told: {}", outcome.err);
        }
        outcome
    };
    let outcome = run("s3cret").ok();
    assert!(outcome.err.contains("debug: GET http://127.0.0.1:"), "{}", outcome.err);
    let outcome = run("wr0ng");
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.contains("401") && outcome.err.contains("the credentials kept by"), "{}", outcome.err);
    let outcome = ace_dt(&dir, &["mirror", "archive", "-q", "--force", "s", "out.tar"]);
    outcome.fails(1, &["wants a user name and a password"]);
}

#[test]
fn a_token_is_fetched_once_for_all_threads() {
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = (0..40).map(|n| noise(n + 1, 100)).collect();
    content.image("app", "v1", &layers);
    let port = std::sync::Arc::new(std::sync::OnceLock::<u16>::new());
    let of_hook = port.clone();
    let scripted = Scripted::start(content, move |request, answer| {
        if let Some(query) = request.path.strip_prefix("/token?") {
            assert_eq!(query, "scope=repository:app:pull&service=tests");
            return Answer {
                status: 200,
                body: br#"{"token":"t0ken","expires_in":300}"#.to_vec(),
                ..Answer::default()
            };
        }
        if request.headers.get("authorization").is_some_and(|v| v == "Bearer t0ken") {
            return answer;
        }
        let realm = format!("http://127.0.0.1:{}/token", of_hook.get().unwrap());
        let challenge = format!(r#"Bearer realm="{realm}",service="tests",scope="repository:app:pull""#);
        Answer { status: 401, headers: vec![("WWW-Authenticate".into(), challenge)], ..Answer::default() }
    });
    port.set(scripted.port).unwrap();
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 8);
    dir.write("s", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar"]).ok();
    assert_eq!(scripted.requests().iter().filter(|r| r.contains("/token?")).count(), 1);
    assert_eq!(scripted.requests().len(), 1 + 1 + 1 + 41, "challenge, token, manifest, blobs");
}

#[test]
fn no_secret_follows_a_registry_elsewhere() {
    // The other server asks for everything that it can get.
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = heard.clone();
    let elsewhere = Scripted::start(Content::default(), move |request, _| {
        noted.lock().unwrap().extend(request.headers.get("authorization").cloned());
        Answer { status: 401, headers: vec![("WWW-Authenticate".into(), "Basic realm=x".into())], ..Answer::default() }
    });
    let other = elsewhere.endpoint();
    let scripted = Scripted::start(Content::small(), move |request, answer| {
        if !request.headers.contains_key("authorization") {
            return Answer {
                status: 401,
                headers: vec![("WWW-Authenticate".into(), "Basic realm=x".into())],
                ..Answer::default()
            };
        }
        let headers = match request.path {
            path if path.contains("/blobs/") => vec![("Location".into(), format!("{other}{path}"))],
            path if path.contains("/referrers/") => vec![("Link".into(), format!("<{other}{path}>; rel=\"next\""))],
            _ => return answer,
        };
        let status = if request.path.contains("/blobs/") { 307 } else { 200 };
        let body = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        Answer { status, headers, body, ..Answer::default() }
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write(".docker/config.json", r#"{"auths":{"reg.example.com":{"username":"alice","password":"s3cret"}}}"#);
    dir.write("s", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar"]).fails(1, &["401"]);
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "out.tar"]).fails(1, &["another server"]);
    assert!(!elsewhere.requests().is_empty(), "nobody was redirected");
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
}

/// A registry with one small image, open to alice alone.
fn closed(dir: &Dir) -> Registry {
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let htpasswd = dir.write("htpasswd", peer(dir, "htpasswd", &["-nbB", "alice", "s3cret"]));
    let registry = Registry::start_as(&dir.join("storage"), &Setup { htpasswd: Some(&htpasswd), ..Setup::default() });
    registry.configure(dir, "http", 4);
    dir.write("s", IMAGE);
    registry
}

/// Runs the tool with `input`, with everything told and these variables set.
fn told(dir: &Dir, words: &[&str], input: &str, variables: &[(&str, &Path)]) -> Outcome {
    let mut command = tool(dir, &[words, &["-v", "debug"]].concat());
    command.stdin(Stdio::piped()).envs(variables.iter().copied());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let outcome = finish(child);
    let all = format!("{}{}", outcome.err, outcome.text());
    for secret in ["s3cret", "id3ntity", "wr0ng", "YWxpY2U6czNjcmV0"] {
        assert!(!all.contains(secret), "a secret is told: {all}");
    }
    outcome
}

/// The last line, which is the error.
fn error(outcome: &Outcome) -> &str {
    assert_eq!(outcome.status, 1, "{}", outcome.err);
    outcome.err.lines().last().unwrap()
}

#[test]
fn login_checks_and_keeps_and_logout_forgets() {
    let dir = Dir::new();
    let registry = closed(&dir);
    let login = ["login", "reg.example.com", "-u", "alice", "--password-stdin"];
    ace_dt(&dir, &ARCHIVE)
        .fails(1, &["wants a user name and a password", "no credentials for reg.example.com", "ace-dt login"]);
    let outcome = told(&dir, &login, "wr0ng\n", &[]);
    assert!(error(&outcome).contains("401") && error(&outcome).contains("wrong credentials"), "{}", outcome.err);
    assert!(!dir.join(".docker/config.json").exists());
    told(&dir, &login, "s3cret\n", &[]).ok();
    let file = dir.join(".docker/config.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    ace_dt(&dir, &ARCHIVE).ok();
    // A file that is there keeps what else it holds, becomes unreadable for others, and is preferred.
    let podman = dir.write(".config/containers/auth.json", r#"{"auths":{"a.io":{"auth":"eDp5"}},"extra":[1]}"#);
    told(&dir, &["logout", "reg.example.com"], "", &[]).ok();
    ace_dt(&dir, &ARCHIVE).fails(1, &["no credentials for reg.example.com"]);
    fs::set_permissions(&podman, fs::Permissions::from_mode(0o644)).unwrap();
    told(&dir, &login, "s3cret", &[]).ok();
    let kept = dir.text(".config/containers/auth.json");
    assert!(kept.contains("eDp5") && kept.contains("extra") && kept.contains("reg.example.com"), "{kept}");
    assert_eq!(fs::metadata(&podman).unwrap().permissions().mode() & 0o777, 0o600);
    ace_dt(&dir, &ARCHIVE).ok();
    // skopeo reads what we keep, under the registry's own address.
    let address = format!("127.0.0.1:{}", registry.port);
    told(&dir, &["login", &address, "-ualice", "--password-stdin"], "s3cret", &[]).ok();
    let image = format!("docker://{address}/app:v1");
    let words = ["inspect", "--tls-verify=false", "--authfile", ".config/containers/auth.json", &image];
    peer(&dir, "skopeo", &[&["--tmpdir", "."], &words[..]].concat());
    told(&dir, &["logout", "reg.example.com"], "", &[]).ok();
    ace_dt(&dir, &["logout", "reg.example.com"]).fails(1, &["logging out of reg.example.com", "no credentials"]);
    // A file that is named is made; a directory for Docker likewise.
    for (variable, value, file) in
        [("REGISTRY_AUTH_FILE", "new/auth.json", "new/auth.json"), ("DOCKER_CONFIG", "dock", "dock/config.json")]
    {
        fs::create_dir_all(dir.join("dock")).unwrap();
        told(&dir, &login, "s3cret", &[(variable, &dir.join(value))]).ok();
        assert!(dir.text(file).contains("reg.example.com"));
        finish(tool(&dir, &ARCHIVE).env(variable, dir.join(value)).spawn().unwrap()).ok();
    }
}

#[test]
fn login_needs_a_registry_a_name_and_a_password() {
    let dir = Dir::new();
    for (words, input, named) in [
        (&["login", "reg.io", "--password-stdin"][..], "x", "--username is required"),
        (&["login", "reg.io", "-u", "a"], "x", "--password-stdin is required"),
        (&["login", "-u", "a", "--password-stdin"], "x", "REGISTRY is missing"),
        (&["login", "https://reg.io/", "-u", "a", "--password-stdin"], "x", "write the registry's name, reg.io"),
        (&["login", "alpine", "-u", "a", "--password-stdin"], "x", "is no registry"),
        (&["login", "reg.io", "-u", "a", "--password-stdin"], "\n", "it is empty"),
        (&["login", "reg.io", "-u", "a:b", "--password-stdin"], "x", "no colon"),
        (
            &["login", "reg.io", "-u", "a", "-p", "x", "--password-stdin"],
            "x",
            "has no flag -p: a password is read with --password-stdin",
        ),
    ] {
        crate::util::ace_dt_with(&dir, words, input.as_bytes()).fails(2, &[named]);
    }
    // A registry that asks for nothing cannot check anything, and says so.
    let scripted = Scripted::start(Content::default(), |_, _| Answer { status: 200, ..Answer::default() });
    configure(&dir, &scripted.endpoint(), 4);
    let words = ["login", "reg.example.com", "-u", "a", "--password-stdin"];
    let outcome = crate::util::ace_dt_with(&dir, &words, b"x").ok();
    assert!(outcome.err.contains("were not checked"), "{}", outcome.err);
}

/// A credential helper that keeps logins in a file.
fn helper(dir: &Dir) -> PathBuf {
    let script = r#"#!/bin/sh
cd "$HOME"
echo "$1" >> helper.calls
case $1 in
store) cat > helper.store ;;
get)
    read -r server
    case $server in
    broken*) echo "the key ring is locked"; exit 1 ;;
    odd*) echo '{"Username":"alice","Secret":"s3cret"}'; exit 1 ;;
    token*) printf '{"ServerURL":"%s","Username":"<token>","Secret":"id3ntity"}' "$server" ;;
    *) if grep -qs "$server" helper.store; then cat helper.store; else echo "credentials not found in native keychain"; exit 1; fi ;;
    esac ;;
erase) rm helper.store ;;
esac
"#;
    let path = dir.write("bin/docker-credential-tests", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut search = dir.join("bin").into_os_string();
    search.push(":");
    search.push(std::env::var_os("PATH").unwrap());
    search.into()
}

#[test]
fn a_credential_helper_keeps_logins() {
    let dir = Dir::new();
    let _registry = closed(&dir);
    let search = helper(&dir);
    let path = [("PATH", search.as_path())];
    for config in [r#"{"credsStore":"tests"}"#, r#"{"credHelpers":{"reg.example.com":"tests"}}"#] {
        dir.write(".docker/config.json", config);
        let outcome = told(&dir, &ARCHIVE, "", &path);
        assert!(error(&outcome).contains("no credentials for reg.example.com"), "{}", outcome.err);
        told(&dir, &["login", "reg.example.com", "-u", "alice", "--password-stdin"], "s3cret", &path).ok();
        assert!(dir.text("helper.store").contains("s3cret"));
        assert_eq!(dir.text(".docker/config.json"), config, "the file needs no change");
        fs::remove_file(dir.join("helper.calls")).unwrap();
        told(&dir, &ARCHIVE, "", &path).ok();
        // The helper for all is asked for the endpoint's own name too, which may be that of a mirror.
        let names = if config.contains("credsStore") { 2 } else { 1 };
        assert_eq!(dir.text("helper.calls"), "get\n".repeat(names), "it is asked once for each name");
        told(&dir, &["logout", "reg.example.com"], "", &path).ok();
        assert!(!dir.join("helper.store").exists());
    }
    let config = dir.text("ace-dt-config.yaml");
    dir.write("ace-dt-config.yaml", config.replace("reg.example.com", "broken.example.com"));
    dir.write(".docker/config.json", r#"{"credsStore":"tests"}"#);
    dir.write("s", "broken.example.com/app:v1");
    let outcome = told(&dir, &ARCHIVE, "", &path);
    assert!(error(&outcome).contains("docker-credential-tests"), "{}", outcome.err);
    assert!(error(&outcome).contains("the key ring is locked"), "{}", outcome.err);
    // What it prints when it fails is not told if it may be a secret.
    dir.write("ace-dt-config.yaml", config.replace("reg.example.com", "odd.example.com"));
    dir.write("s", "odd.example.com/app:v1");
    let outcome = told(&dir, &ARCHIVE, "", &path);
    assert!(error(&outcome).contains("docker-credential-tests"), "{}", outcome.err);
    dir.write(".docker/config.json", r#"{"credsStore":"absent"}"#);
    ace_dt(&dir, &ARCHIVE).fails(1, &["no program docker-credential-absent in $PATH", ".docker/config.json"]);
}

/// A registry that takes the tokens of a token server, with an image of 120 layers.
fn with_tokens(dir: &Dir, announced: u64) -> (Registry, Tokens) {
    let layers: Vec<Vec<u8>> = (0..120).map(|n| noise(n + 1, 256 << 10)).collect();
    Storage::new(&dir.join("storage")).image("app", "v1", &layers);
    let tokens = Tokens::start(dir, announced);
    let setup = Setup { tokens: Some(tokens.access()), ..Setup::default() };
    let registry = Registry::start_as(&dir.join("storage"), &setup);
    registry.configure(dir, "http", 4);
    dir.write("s", IMAGE);
    (registry, tokens)
}

/// Archives for some five seconds, to a reader that takes its time.
fn slowly(dir: &Dir) -> Outcome {
    let words = ["mirror", "archive", "-q", "-v", "debug", "s", "-"];
    let mut child = tool(dir, &words).spawn().unwrap();
    let mut from = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), vec![0; 256 << 10]);
        while let Ok(n @ 1..) = from.read(&mut piece) {
            all.extend_from_slice(&piece[..n]);
            thread::sleep(Duration::from_millis(50));
        }
        all
    });
    let outcome = finish(child);
    Outcome { out: reader.join().unwrap(), ..outcome }
}

#[test]
fn tokens_that_live_two_seconds() {
    // Once the token server says how long they live; once it lies, and the registry answers 401 in mid-run.
    for announced in [2, 300] {
        let dir = Dir::new();
        let (_registry, tokens) = with_tokens(&dir, announced);
        let auth = r#"{"auths":{"reg.example.com":{"username":"alice","password":"s3cret"}}}"#;
        dir.write(".docker/config.json", auth);
        let outcome = slowly(&dir).ok();
        dir.write("slow.tar", &outcome.out);
        peer(&dir, "tar", &["-tf", "slow.tar"]);
        let granted = tokens.granted();
        assert!((2..=8).contains(&granted.len()), "{announced}: {granted:?}");
        assert!(granted.iter().all(|g| g == "GET repository:app:pull"), "{granted:?}");
        let refused = outcome.err.lines().filter(|l| l.contains("/v2/") && l.contains(" 401 ")).count();
        assert!(announced == 2 || refused > 1, "no token was refused in mid-run: {}", outcome.err);
    }
}

#[test]
fn an_identity_token_is_exchanged() {
    let dir = Dir::new();
    let (registry, tokens) = with_tokens(&dir, 2);
    let auth = r#"{"auths":{"reg.example.com":{"auth":"YWxpY2U6","identitytoken":"id3ntity"}}}"#;
    dir.write(".docker/config.json", auth);
    told(&dir, &ARCHIVE, "", &[]).ok();
    assert!(tokens.granted().iter().all(|g| g == "POST repository:app:pull"), "{:?}", tokens.granted());
    dir.write(".docker/config.json", auth.replace("id3ntity", "wr0ng"));
    let outcome = told(&dir, &ARCHIVE, "", &[]);
    assert!(error(&outcome).contains("getting a token from http://127.0.0.1:"), "{}", outcome.err);
    assert!(error(&outcome).contains("401"), "{}", outcome.err);
    // A helper may say it too.
    let search = helper(&dir);
    dir.write(".docker/config.json", r#"{"credsStore":"tests"}"#);
    let config = dir.text("ace-dt-config.yaml");
    dir.write("ace-dt-config.yaml", config.replace("reg.example.com", "token.example.com"));
    dir.write("s", "token.example.com/app:v1");
    told(&dir, &ARCHIVE, "", &[("PATH", &search)]).ok();
    drop(registry);
}

#[test]
fn tokens_for_pushing_and_mounting() {
    let dir = Dir::new();
    let (_registry, tokens) = with_tokens(&dir, 2);
    told(&dir, &["login", "reg.example.com", "-u", "alice", "--password-stdin"], "s3cret", &[]).ok();
    let outcome = told(&dir, &["login", "reg.example.com", "-u", "alice", "--password-stdin"], "wr0ng", &[]);
    assert!(error(&outcome).contains("wrong credentials"), "{}", outcome.err);
    let outcome = told(&dir, &["mirror", "gather", "s", "reg.example.com/copy:v1"], "", &[]).ok();
    assert!(
        outcome.err.contains("121 blobs and 2 manifests are there, 30.0 MiB; 0 blobs were sent"),
        "{}",
        outcome.err
    );
    let granted = tokens.granted();
    assert!(granted.contains(&"GET repository:copy:pull,push".into()), "{granted:?}");
    assert!(granted.contains(&"GET repository:copy:pull,push repository:app:pull".into()), "{granted:?}");
    // Nobody but alice may.
    fs::remove_file(dir.join(".docker/config.json")).unwrap();
    let outcome = told(&dir, &ARCHIVE, "", &[]);
    assert!(error(&outcome).contains("no credentials for reg.example.com"), "{}", outcome.err);
}

#[test]
fn what_newcomers_did_to_auth_files() {
    let dir = Dir::new();
    let scripted = Scripted::start(Content::default(), |_, _| Answer { status: 200, ..Answer::default() });
    configure(&dir, &scripted.endpoint(), 4);
    let login =
        |registry: &str| ["login".to_string(), registry.into(), "-qu".into(), "a".into(), "--password-stdin".into()];
    let run = |registry: &str, file: &Path| {
        let words = login(registry);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = tool(&dir, &words).env("REGISTRY_AUTH_FILE", file).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"x").unwrap();
        child
    };
    // Only a regular file is replaced.
    peer(&dir, "mkfifo", &["fifo"]);
    let fifo = fs::File::options().read(true).write(true).open(dir.join("fifo")).unwrap();
    finish(run("reg.example.com", Path::new("/dev/null"))).fails(1, &["/dev/null", "it is no regular file"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    finish(run("reg.example.com", &dir.join("fifo"))).fails(1, &["fifo", "it is no regular file"]);
    drop(fifo);
    // Many at once lose nothing.
    let registries: Vec<String> = (0..12).map(|n| format!("r{n}.example.com")).collect();
    let all: Vec<String> =
        registries.iter().map(|r| format!("    {r}: {{endpoints: [\"{}\"]}}\n", scripted.endpoint())).collect();
    dir.write("ace-dt-config.yaml", format!("registryConfig:\n  registries:\n{}", all.concat()));
    let file = dir.join("new/auth.json");
    let runs: Vec<_> = registries.iter().map(|r| run(r, &file)).collect();
    runs.into_iter().for_each(|child| drop(finish(child).ok()));
    let kept = dir.text("new/auth.json");
    registries.iter().for_each(|r| assert!(kept.contains(r.as_str()), "{r} is lost: {kept}"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    let dir = Dir::new();
    dir.write("s", "alice:s3cret@reg.example.com/app:v1");
    for words in [
        &["login", "reg.io", "-u", "alice", "-p", "s3cret"][..],
        &["login", "reg.io", "s3cret", "-u", "alice", "--password-stdin"],
        &["login", "reg.io", "-u", "alice", "--password-stdin=s3cret"],
        &["login", "https://alice:s3cret@reg.io", "-u", "alice", "--password-stdin"],
        &["login", "alice:s3cret@reg.io", "-u", "alice", "--password-stdin"],
        &["mirror", "archive", "s", "out.tar"],
    ] {
        let outcome = crate::util::ace_dt_with(&dir, words, b"x").fails(2, &[]);
        assert!(!outcome.err.contains("s3cret"), "{words:?}: {}", outcome.err);
    }
}

#[test]
fn no_password_goes_in_the_clear_where_a_certificate_was_refused() {
    // On loopback, plain HTTP is tried where nobody speaks TLS; not where somebody else answers.
    let dir = Dir::new();
    let (_, certificate, key) = crate::tls::authority(&dir, "IP:127.0.0.1");
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let (certificate, key) = (dir.join(certificate), dir.join(key));
    let tls = Some((certificate.as_path(), key.as_path()));
    let registry = Registry::start_as(&dir.join("storage"), &Setup { tls, ..Setup::default() });
    dir.write("s", format!("127.0.0.1:{}/app:v1", registry.port));
    let outcome = ace_dt(&dir, &ARCHIVE).fails(1, &["https://127.0.0.1:", "the certificate of 127.0.0.1 is refused"]);
    assert!(!outcome.err.contains("http://"), "{}", outcome.err);
    drop(registry);
    // Where certificates are set up, HTTP is never meant.
    let plain = Scripted::honest(Content::small());
    dir.write(&format!(".docker/certs.d/127.0.0.1:{}/ca.pem", plain.port), dir.read("ca.pem"));
    dir.write("s", format!("127.0.0.1:{}/app:v1", plain.port));
    ace_dt(&dir, &[&ARCHIVE[..], &["--retries", "0"]].concat()).fails(1, &["https://127.0.0.1:"]);
    assert!(plain.requests().is_empty());
}
