//! The client against servers on the loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;
mod outcomes;
mod policy;
mod requests;
mod server;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use profpipe_engine::component::{ClientAuth, Error, Extension, Extensions};
use profpipe_engine::settings::Secret;

use super::{Client, Endpoint};
use crate::settings::ClientSettings;

/// A client with these settings and no extensions.
fn client(settings: &ClientSettings) -> Client {
    Client::builder(settings).build(&Extensions::default()).unwrap()
}

/// Credentials that never change.
struct Token(&'static str);

impl Extension for Token {
    fn client_auth(&self) -> Option<&dyn ClientAuth> {
        Some(self)
    }
}

impl ClientAuth for Token {
    fn headers(&self) -> Result<Vec<(String, Secret)>, Error> {
        match self.0 {
            "" => Err(Error::new("the token file is empty")),
            token => Ok(vec![("Authorization".into(), Secret::new(format!("Bearer {token}")))]),
        }
    }
}

/// An extension `token` with this token.
fn token(token: &'static str) -> Extensions {
    let extension: Arc<dyn Extension> = Arc::new(Token(token));
    Extensions::new(BTreeMap::from([("token".to_owned(), extension)]))
}

/// Scenario: endpoints as people write them, right and wrong.
/// Guarantees: the right ones mean what the Collector takes them for, the wrong ones are refused.
#[test]
fn endpoints() {
    let http = |text| {
        Endpoint::http(text)
            .map(|e| (e.is_tls(), e.host().to_owned(), e.port(), e.path().to_owned()))
    };
    let right =
        |tls, host: &str, port, path: &str| Ok((tls, host.to_owned(), port, path.to_owned()));
    assert_eq!(http("https://backend:4318"), right(true, "backend", 4318, ""));
    assert_eq!(http("http://10.0.0.1/otlp/"), right(false, "10.0.0.1", 80, "/otlp"));
    assert_eq!(http("https://[::1]"), right(true, "::1", 443, ""));
    for wrong in [
        "",
        "backend:4318",
        "backend",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x?a=b",
        "http://x#y",
        "http://x:99999",
        "http://x:0",
        "http://x:",
        "http://a b",
        "//x",
    ] {
        assert!(Endpoint::http(wrong).is_err(), "{wrong}");
    }
    let grpc = |text, insecure| {
        Endpoint::grpc(text, insecure).map(|e| (e.is_tls(), e.host().to_owned(), e.port()))
    };
    let right = |tls, host: &str, port| Ok((tls, host.to_owned(), port));
    assert_eq!(grpc("backend:4317", false), right(true, "backend", 4317));
    assert_eq!(grpc("backend:4317", true), right(false, "backend", 4317));
    assert_eq!(grpc("http://backend:4317", false), right(false, "backend", 4317));
    assert_eq!(grpc("https://backend", true), right(true, "backend", 443));
    assert_eq!(grpc("dns:///backend:4317", true), right(false, "backend", 4317));
    assert_eq!(grpc("dns://8.8.8.8/backend:4317", true), right(false, "backend", 4317));
    assert_eq!(grpc("dns:backend:4317", true), right(false, "backend", 4317));
    assert_eq!(grpc("[::1]:4317", true), right(false, "::1", 4317));
    for wrong in
        ["", "backend", "unix:///x", "backend:x", "u@b:1", "::1:4317", "b:4317/path", "b:0"]
    {
        assert!(Endpoint::grpc(wrong, true).is_err(), "{wrong}");
    }
    for (host, expected) in [
        ("localhost", true),
        ("LOCALHOST.", true),
        ("a.localhost", true),
        ("127.8.0.1", true),
        ("[::1]", true),
        ("[::ffff:127.0.0.1]", true),
        ("10.0.0.1", false),
        ("localhost.evil", false),
    ] {
        let endpoint = Endpoint::http(&format!("http://{host}:1")).unwrap();
        assert_eq!(endpoint.is_loopback(), expected, "{host}");
    }
}

/// Scenario: bodies of several sizes, each way of compressing, several levels.
/// Guarantees: what is unpacked is what was packed; a body that unpacks to more than the limit is
/// refused; without compression nothing is copied.
#[tokio::test]
async fn compression() {
    use super::{compress, compress_aside, decompress};
    use crate::settings::Compression::{Gzip, None, Zstd};
    use bytes::Bytes;
    let text: Vec<u8> = (0..600_000_u32).flat_map(|n| (n / 7 % 251).to_le_bytes()).collect();
    for length in [0, 1, 1000, text.len()] {
        let body = Bytes::copy_from_slice(&text[..length]);
        for (how, level) in [(None, -1), (Gzip, -1), (Gzip, 0), (Gzip, 9), (Zstd, -1), (Zstd, 3)] {
            let packed = compress_aside(body.clone(), how, level).await.unwrap();
            assert_eq!(packed, compress(&body, how, level).unwrap());
            assert_eq!(decompress(&packed, how, length).unwrap(), body);
            if length > 0 && how != None {
                assert!(decompress(&packed, how, length - 1).is_err());
            }
        }
        assert_eq!(compress(&body, None, -1).unwrap().as_ptr(), body.as_ptr());
    }
    let bomb = compress(&Bytes::from(vec![0; 64 << 20]), Gzip, 9).unwrap();
    assert!(bomb.len() < 100_000);
    assert!(decompress(&bomb, Gzip, 1 << 20).is_err());
    assert!(decompress(b"not gzip", Gzip, 100).is_err());
    assert!(decompress(b"not zstd", Zstd, 100).is_err());
}
