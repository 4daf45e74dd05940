#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use profpipe_engine::component::{Extension, ServerAuth};
use profpipe_engine::config::Section;

use super::{BasicAuth, Config};

fn config(text: &str) -> Config {
    Section::from_yaml(text).unwrap().read_valid().unwrap()
}

fn auth(text: &str) -> BasicAuth {
    BasicAuth::new(config(text), "basicauth").unwrap()
}

fn header(user: &str, password: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()
}

/// Scenario: users with bcrypt and plain passwords, of tenants and of none; wrong ones of all kinds,
/// twice, because right ones are remembered.
/// Guarantees: only the right password of the right user gets in, as that user's tenant.
#[test]
fn only_the_right_password_gets_in() {
    // At the lowest cost, so that the test is quick.
    let hash = bcrypt::hash("se:cret", 4).unwrap();
    let auth = auth(&format!(
        "{{htpasswd: {{inline: \"a:{hash}\\n# note\\n\\nb:plain:one\\n\"}}, tenants: {{t: [a]}}}}"
    ));
    let tenant = |values: &[&[u8]]| auth.authenticate(values).map(|who| who.tenant);
    for _ in 0..2 {
        assert_eq!(tenant(&[&header("a", "se:cret")]).unwrap().as_deref(), Some("t"));
        assert_eq!(tenant(&[&header("b", "plain:one")]).unwrap(), None);
        for (user, password) in
            [("a", ""), ("a", "se:cre"), ("a", &hash), ("b", "plain"), ("c", "x"), ("", "")]
        {
            let error = tenant(&[&header(user, password)]).unwrap_err().to_string();
            assert_eq!(error, "the user or the password is wrong");
        }
    }
    let malformed: [&[&[u8]]; 6] = [
        &[],
        &[b"Basic"],
        &[b"Basic !!"],
        &[b"Basic YQ=="],
        &[b"Bearer YTpi"],
        &[&header("b", "plain:one"), &header("b", "plain:one")],
    ];
    for values in malformed {
        assert!(tenant(values).is_err());
    }
}

/// Scenario: hashes of other kinds, damaged lines, nothing at all, a user of two tenants.
/// Guarantees: it does not start; the error names the line and what to do, and no secret.
#[test]
fn what_cannot_be_checked_does_not_start() {
    let cases = [
        ("{}", "it does nothing"),
        ("htpasswd: {inline: ''}", "there is no user"),
        ("htpasswd: {inline: canary}", "line 1: it is not written `user:hash`"),
        ("htpasswd: {inline: ':canary'}", "line 1: the user or the hash is empty"),
        ("htpasswd: {inline: 'u:{SHA}canary'}", "use `htpasswd -B`"),
        ("htpasswd: {inline: 'u:$apr1$canary'}", "use `htpasswd -B`"),
        ("htpasswd: {inline: 'u:$2y$10$canary'}", "the bcrypt hash is damaged"),
        ("htpasswd: {file: /no/such/file}", "cannot read /no/such/file"),
        ("client_auth: {password: canary}", "`client_auth::username` is empty"),
    ];
    for (text, expected) in cases {
        let error = BasicAuth::new(config(text), "x").err().expect(text).chain();
        assert!(error.contains(expected) && !error.contains("canary"), "{text}: {error}");
    }
    let twice = Section::from_yaml("tenants: {a: [u], b: [u]}").unwrap();
    assert!(twice.read_valid::<Config>().is_err());
}

/// Scenario: credentials to send, given in the configuration or in files.
/// Guarantees: the header is that of RFC 7617; an extension with only one half offers only that.
#[test]
fn the_client_half_sends_its_credentials() {
    let sent = |auth: &BasicAuth| {
        let headers = auth.client_auth().unwrap().headers().unwrap();
        (headers[0].0.clone(), headers[0].1.expose().to_owned())
    };
    let expected = ("authorization".to_owned(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
    let direct = auth("client_auth: {username: Aladdin, password: open sesame}");
    assert_eq!(sent(&direct), expected);
    assert!(direct.server_auth().is_none());
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    let text = format!("client_auth: {{username: Aladdin, password_file: '{}'}}", file.display());
    assert_eq!(sent(&auth(&text)), expected);
    assert!(auth("htpasswd: {inline: 'u:p'}").client_auth().is_none());
}
