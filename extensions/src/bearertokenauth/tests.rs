#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_engine::component::{ClientAuth, ServerAuth};
use profpipe_engine::config::Section;

use super::{BearerTokenAuth, Config};

fn auth(text: &str) -> BearerTokenAuth {
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    BearerTokenAuth::new(config, "bearertokenauth").unwrap()
}

fn tenant(auth: &BearerTokenAuth, values: &[&[u8]]) -> Result<String, String> {
    let identity = auth.authenticate(values).map_err(|error| error.to_string())?;
    Ok(identity.tenant.map_or_else(|| "-".to_owned(), |tenant| tenant.to_string()))
}

/// Scenario: right, wrong, missing, empty and doubled headers; schemes in other cases.
/// Guarantees: only the right one gets in, as its tenant, and no error repeats what was sent.
#[test]
fn only_known_tokens_get_in() {
    let auth = auth("{token: s3cret, tenants: {a: {tokens: [one, two]}, b: {token: three}}}");
    assert_eq!(tenant(&auth, &[b"Bearer s3cret"]), Ok("-".into()));
    assert_eq!(tenant(&auth, &[b"bearer  two "]), Ok("a".into()));
    assert_eq!(tenant(&auth, &[b"BEARER three"]), Ok("b".into()));
    let wrong: [&[&[u8]]; 9] = [
        &[],
        &[b""],
        &[b"Bearer"],
        &[b"Bearer "],
        &[b"Bearers3cret"],
        &[b"Bearer s3cre"],
        &[b"Bearer s3crett"],
        &[b"Basic s3cret"],
        &[b"Bearer s3cret", b"Bearer s3cret"],
    ];
    for values in wrong {
        let error = tenant(&auth, values).unwrap_err();
        assert!(!error.contains("s3c"), "{error}");
    }
}

/// Scenario: a token in a file that is replaced, emptied and removed; another scheme and header.
/// Guarantees: the new one counts, a bad file changes nothing, exporters send the first token.
#[test]
fn a_changed_file_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    let put = |text: &str| {
        // As those do it that write files which others read.
        let new = place.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    put("old\n");
    let auth = auth(&format!("{{filename: '{}', scheme: '', header: X-Key}}", file.display()));
    let look = || auth.tokens.look("bearertokenauth");
    let sent = || {
        let (name, value) = auth.headers().unwrap().remove(0);
        format!("{name}: {}", value.expose())
    };
    assert_eq!((sent().as_str(), auth.header()), ("x-key: old", "x-key"));
    assert!(tenant(&auth, &[b"old"]).is_ok());
    put("new\n\nold\n");
    look();
    assert_eq!(sent(), "x-key: new");
    assert!(tenant(&auth, &[b"old"]).is_ok() && tenant(&auth, &[b"new"]).is_ok());
    put("\n");
    look();
    std::fs::remove_file(&file).unwrap();
    look();
    assert_eq!(sent(), "x-key: new");
    put("last");
    look();
    assert!(tenant(&auth, &[b"old"]).is_err() && tenant(&auth, &[b"last"]).is_ok());
}

/// Scenario: no token at all, an empty one, one for two tenants, one that no header can carry.
/// Guarantees: it does not start, and no secret is in the error or in the printed configuration.
#[test]
fn senseless_tokens_do_not_start() {
    let cases = ["{}", "token: ''", "tenants: {a: {token: k}, b: {token: k}}", "token: \"a\\nb\""];
    for text in cases {
        let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
        assert!(BearerTokenAuth::new(config, "x").is_err(), "{text}");
    }
    let config: Config = Section::from_yaml("token: canary").unwrap().read_valid().unwrap();
    let printed = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
    assert!(!printed.contains("canary"));
    for wrong in ["header: 'a b'", "tenants: {'../x': {token: k}}", "scheme: 'a b'"] {
        assert!(Section::from_yaml(wrong).unwrap().read_valid::<Config>().is_err(), "{wrong}");
    }
}
