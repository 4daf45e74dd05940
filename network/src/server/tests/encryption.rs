//! TLS: both protocols, certificates of clients, certificates that change, certificates that are none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{ask_over, collect, http2, request, settings, setup, start};
use crate::server::Server;
use crate::settings::server::{ServerSettings, ServerTls, TlsVersion};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for localhost and its key, in PEM.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn encrypted(directory: &Path, authority: &Authority) -> ServerSettings {
    let (cert, key) = issue(authority);
    let mut settings = settings();
    settings.tls = Some(ServerTls {
        cert_file: Some(write(directory, "cert.pem", &cert)),
        key_file: Some(write(directory, "key.pem", &key)),
        ..ServerTls::default()
    });
    settings
}

async fn connect(
    to: std::net::SocketAddr,
    authority: &Authority,
    identity: Option<(String, String)>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Scenario: HTTP/1.1 and HTTP/2 over TLS; a client without TLS.
/// Guarantees: the first two are served, the protocol is agreed on; the third gets nothing.
#[tokio::test]
async fn both_protocols() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let server = start(encrypted(directory.path(), &authority));
    let to = server.address;
    let stream = connect(to, &authority, None, b"http/1.1").await.unwrap();
    assert_eq!(ask_over(stream, "POST", "/echo", &[], b"x").await.status, 200);
    let stream = connect(to, &authority, None, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2(stream).await;
    let asked = request("POST", "https://localhost/echo", &[], b"two");
    assert_eq!(&collect(sender.send_request(asked).await.unwrap()).await.body[..], b"two");
    let answer = super::support::raw(to, b"POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
}

/// Scenario: a server that wants certificates of clients, with a good one, one of another authority, none.
/// Guarantees: only the first is served.
#[tokio::test]
async fn clients_show_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(), authority());
    let mut settings = encrypted(directory.path(), &ours);
    settings.tls.as_mut().unwrap().client_ca_file =
        Some(write(directory.path(), "ca.pem", &ours.pem()));
    let server = start(settings);
    let to = server.address;
    let stream = connect(to, &ours, Some(issue(&ours)), b"http/1.1").await.unwrap();
    assert_eq!(ask_over(stream, "POST", "/echo", &[], b"x").await.status, 200);
    for identity in [None, Some(issue(&others))] {
        // In TLS 1.3 the client hears of it only when it reads.
        let Ok(mut stream) = connect(to, &ours, identity, b"http/1.1").await else { continue };
        let mut answer = Vec::new();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(stream.read_to_end(&mut answer).await.is_err() || answer.is_empty());
    }
}

/// Scenario: clients that show the certificate of an authority as their own: the one that is trusted,
/// with and without a purpose, and others.
/// Guarantees: the first is served, as Go does; one for servers only and others are not.
#[tokio::test]
async fn clients_show_certificates_of_authorities() {
    let directory = tempfile::tempdir().unwrap();
    let own = |purposes: &[rcgen::ExtendedKeyUsagePurpose]| {
        let mut params = CertificateParams::new(vec!["agent".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = purposes.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let servers = own(&[rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    let (good, other) = (own(&[]), own(&[]));
    let ours = authority();
    let mut settings = encrypted(directory.path(), &ours);
    settings.tls.as_mut().unwrap().client_ca_file =
        Some(write(directory.path(), "ca.pem", &format!("{}{}", good.0, servers.0)));
    let server = start(settings);
    let to = server.address;
    let stream = connect(to, &ours, Some(good), b"http/1.1").await.unwrap();
    assert_eq!(ask_over(stream, "POST", "/echo", &[], b"x").await.status, 200);
    for identity in [other, servers] {
        let Ok(mut stream) = connect(to, &ours, Some(identity), b"http/1.1").await else {
            continue;
        };
        let mut answer = Vec::new();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(stream.read_to_end(&mut answer).await.is_err() || answer.is_empty());
    }
}

/// Scenario: a certificate is replaced by one of another authority, then by nonsense.
/// Guarantees: new connections get the new one; nonsense changes nothing.
#[tokio::test]
async fn certificates_are_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let mut settings = encrypted(directory.path(), &old);
    let tls = settings.tls.as_mut().unwrap();
    tls.reload_interval = Some(profpipe_engine::settings::Duration::from_millis(1));
    let server = start(settings);
    let to = server.address;
    connect(to, &old, None, b"h2").await.unwrap();
    let replace = |cert: &str, key: &str, age: u64| {
        for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
            write(directory.path(), name, text);
            let file = std::fs::File::options().write(true).open(directory.path().join(name));
            let time = SystemTime::now() - Duration::from_secs(age);
            file.unwrap().set_modified(time).unwrap();
        }
    };
    let (cert, key) = issue(&new);
    replace(&cert, &key, 100);
    tokio::time::sleep(Duration::from_millis(5)).await;
    connect(to, &new, None, b"h2").await.unwrap();
    assert!(connect(to, &old, None, b"h2").await.is_err());
    replace("nonsense", &key, 50);
    tokio::time::sleep(Duration::from_millis(5)).await;
    connect(to, &new, None, b"h2").await.unwrap();
}

/// Scenario: files that are not there, hold nothing, or do not belong together.
/// Guarantees: one line that names the file, when the server is built; no key is in it.
#[test]
fn bad_certificates_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let good = encrypted(directory.path(), &authority);
    let (_, other_key) = issue(&authority);
    let empty = write(directory.path(), "empty.pem", "");
    let other = write(directory.path(), "other.pem", &other_key);
    type Spoil<'a> = Box<dyn Fn(&mut ServerTls) + 'a>;
    let cases: [(&str, Spoil<'_>); 5] = [
        ("cert_file /none cannot be read", Box::new(|tls| tls.cert_file = Some("/none".into()))),
        ("holds no certificate in PEM", Box::new(|tls| tls.cert_file = Some(empty.clone()))),
        ("holds no private key in PEM", Box::new(|tls| tls.key_file = Some(empty.clone()))),
        ("the certificate in", Box::new(|tls| tls.key_file = Some(other.clone()))),
        ("empty.pem holds no cert", Box::new(|tls| tls.client_ca_file = Some(empty.clone()))),
    ];
    for (said, spoil) in cases {
        let mut settings = good.clone();
        spoil(settings.tls.as_mut().unwrap());
        let error = Server::build(settings, &setup()).unwrap_err().chain();
        assert!(error.contains(said) && !error.contains("PRIVATE"), "{said}: {error}");
    }
    let mut settings = good;
    settings.tls.as_mut().unwrap().min_version = Some(TlsVersion::V1_3);
    Server::build(settings, &setup()).unwrap();
}
