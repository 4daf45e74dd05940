//! Who is trusted, and who we are.

use std::path::PathBuf;
use std::sync::Arc;

use http::Version;
use profpipe_engine::component::Extensions;
use profpipe_engine::settings::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client;
use super::server::{Server, answer};
use crate::client::{Client, ErrorKind, Request};
use crate::settings::{ClientSettings, ClientTls, TlsVersion};

/// Someone who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

type Versions = &'static [&'static SupportedProtocolVersion];
static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// A server with this certificate; with `clients` it wants one signed by them.
async fn serve(identity: &Identity, clients: Option<&Authority>, versions: Versions) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let chain = vec![identity.certificate.der().clone()];
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Server::serve(Some(config), |_| answer(200, "safe")).await
}

fn settings(tls: ClientTls) -> ClientSettings {
    ClientSettings { tls, ..ClientSettings::default() }
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls { ca_pem: Some(Secret::new(authority.pem())), ..ClientTls::default() }
}

fn get(server: &Server, host: &str) -> Request {
    Request::get(format!("https://{host}:{}/", server.address.port()).parse().unwrap())
}

/// Sends a request with these settings; the problem, if there is one.
async fn problem(tls: ClientTls, server: &Server, host: &str) -> Option<String> {
    match client(&settings(tls)).send(get(server, host)).await {
        Ok(response) => {
            assert_eq!(&response.body[..], b"safe");
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Scenario: a server with a certificate of our authority; clients that trust it, trust another
/// one, trust the system's, call it by another name, look at nothing.
/// Guarantees: only who should talk to it does, over HTTP/2, and the others say why not.
#[tokio::test]
async fn who_is_trusted() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = serve(&ours.sign("localhost", |_| {}), None, rustls::ALL_VERSIONS).await;
    assert_eq!(problem(trusting(&ours), &server, "localhost").await, None);
    assert_eq!(server.seen()[0].version, Version::HTTP_2);
    let both = ClientTls { include_system_ca_certs_pool: true, ..trusting(&ours) };
    assert_eq!(problem(both, &server, "localhost").await, None);
    for tls in [trusting(&theirs), ClientTls::default()] {
        let problem = problem(tls, &server, "localhost").await.unwrap();
        assert!(problem.contains("UnknownIssuer"), "{problem}");
    }
    let other_name = problem(trusting(&ours), &server, "127.0.0.1").await.unwrap();
    assert!(other_name.contains("not valid for name"), "{other_name}");
    let server_name_override = Some("localhost".to_owned());
    let renamed = ClientTls { server_name_override, ..trusting(&ours) };
    assert_eq!(problem(renamed, &server, "127.0.0.1").await, None);
    let blind = ClientTls { insecure_skip_verify: true, ..trusting(&theirs) };
    assert_eq!(problem(blind, &server, "127.0.0.1").await, None);
    assert_eq!(server.seen().len(), 4);
}

/// An authority's own certificate, for `localhost`, changed so.
fn own(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap(), key }
}

/// Scenario: servers whose certificate is that of an authority, as `openssl req -x509` makes them: the
/// one that is trusted, one that a trusted authority signed; another one, one past its date, one for
/// another name, one that is for clients, one that the trusted authority may not sign.
/// Guarantees: the first two are trusted, as Go does, over every version; the others are not, whatever
/// says so.
#[tokio::test]
async fn authorities_as_servers() {
    let trusted = |identity: &Identity| ClientTls {
        ca_pem: Some(Secret::new(identity.certificate.pem())),
        ..ClientTls::default()
    };
    let good = own(|_| {});
    for versions in [&TLS12, &TLS13] {
        let server = serve(&good, None, versions).await;
        assert_eq!(problem(trusted(&good), &server, "localhost").await, None);
        assert!(problem(trusted(&own(|_| {})), &server, "localhost").await.is_some());
        assert!(problem(trusted(&good), &server, "127.0.0.1").await.is_some());
        assert!(problem(ClientTls::default(), &server, "localhost").await.is_some());
    }
    let ours = Authority::new("ours");
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = ours.sign("localhost", |params| params.is_ca = is_ca);
    let server = serve(&signed, None, rustls::ALL_VERSIONS).await;
    assert_eq!(problem(trusting(&ours), &server, "localhost").await, None);
    let theirs = Authority::new("ours");
    let error = problem(trusting(&theirs), &server, "localhost").await.unwrap();
    assert!(!error.contains("safe"), "the name alone is not a signature: {error}");
    for bad in [
        own(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)),
        own(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ] {
        let server = serve(&bad, None, rustls::ALL_VERSIONS).await;
        assert!(problem(trusted(&bad), &server, "localhost").await.is_some());
        assert!(server.seen().is_empty());
    }
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = is_ca;
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.com".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate().unwrap();
    let narrow = Authority(CertifiedIssuer::self_signed(params, key).unwrap());
    let signed = narrow.sign("localhost", |params| params.is_ca = is_ca);
    let server = serve(&signed, None, rustls::ALL_VERSIONS).await;
    assert!(problem(trusting(&narrow), &server, "localhost").await.is_some());
}

/// Scenario: a certificate that is past its date, and one that is not yet valid.
/// Guarantees: refused, with the reason.
#[tokio::test]
async fn dates_of_certificates() {
    let ours = Authority::new("ours");
    let expired =
        ours.sign("localhost", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let server = serve(&expired, None, rustls::ALL_VERSIONS).await;
    let problem_of = problem(trusting(&ours), &server, "localhost").await.unwrap();
    assert!(problem_of.contains("expired"), "{problem_of}");
    let early =
        ours.sign("localhost", |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    let server = serve(&early, None, rustls::ALL_VERSIONS).await;
    let problem_of = problem(trusting(&ours), &server, "localhost").await.unwrap();
    assert!(problem_of.contains("not valid yet"), "{problem_of}");
    assert!(server.seen().is_empty());
}

/// Scenario: a server that speaks only TLS 1.2, or only 1.3.
/// Guarantees: `min_version` and `max_version` decide whether we talk to it.
#[tokio::test]
async fn versions() {
    let ours = Authority::new("ours");
    let identity = ours.sign("localhost", |_| {});
    let old = serve(&identity, None, &TLS12).await;
    let new = serve(&identity, None, &TLS13).await;
    let from = ClientTls { min_version: Some(TlsVersion::Tls13), ..trusting(&ours) };
    let to = ClientTls { max_version: Some(TlsVersion::Tls12), ..trusting(&ours) };
    assert_eq!(problem(trusting(&ours), &old, "localhost").await, None);
    assert_eq!(problem(from.clone(), &new, "localhost").await, None);
    assert_eq!(problem(to.clone(), &old, "localhost").await, None);
    assert!(problem(from, &old, "localhost").await.is_some());
    assert!(problem(to, &new, "localhost").await.is_some());
}

fn write(directory: &TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    Some(path)
}

/// Scenario: a server that wants to know who calls; a client with the right certificate, with one of
/// another authority, with none.
/// Guarantees: only the first is served.
#[tokio::test]
async fn who_we_are() {
    let (ours, theirs, directory) =
        (Authority::new("ours"), Authority::new("theirs"), TempDir::new().unwrap());
    let server = serve(&ours.sign("localhost", |_| {}), Some(&ours), rustls::ALL_VERSIONS).await;
    let mut results = Vec::new();
    for authority in [&ours, &theirs] {
        let me = authority.sign("me", |_| {});
        let tls = ClientTls {
            cert_file: write(&directory, "cert.pem", &me.certificate.pem()),
            key_file: write(&directory, "key.pem", &me.key.serialize_pem()),
            ..trusting(&ours)
        };
        results.push(problem(tls, &server, "localhost").await);
    }
    results.push(problem(trusting(&ours), &server, "localhost").await);
    assert_eq!(results[0], None);
    assert!(results[1].is_some() && results[2].is_some(), "{results:?}");
    assert_eq!(server.seen().len(), 1);
}

/// Scenario: the file of the trusted certificates is replaced, then broken, while a client lives that
/// looks at it, and one that is to read it only once.
/// Guarantees: a new connection of the first uses the new file, and a broken one leaves the last good
/// one; the second goes on with what it read.
#[tokio::test]
async fn certificates_are_read_anew() {
    let (ours, theirs, directory) =
        (Authority::new("ours"), Authority::new("theirs"), TempDir::new().unwrap());
    let server = serve(&ours.sign("localhost", |_| {}), None, rustls::ALL_VERSIONS).await;
    let ca_file = write(&directory, "ca.pem", &theirs.pem());
    let client = |reload_interval| {
        let (ca_file, reload_interval) = (ca_file.clone(), Some(reload_interval));
        let tls = ClientTls { ca_file, reload_interval, ..ClientTls::default() };
        let mut settings = settings(tls);
        settings.disable_keep_alives = true;
        Client::builder(&settings).grpc().build(&Extensions::default()).unwrap()
    };
    let once = client(profpipe_engine::settings::Duration::default());
    let client = client(profpipe_engine::settings::Duration::from_millis(1));
    let error = client.send(get(&server, "localhost")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    // The length differs too, for file systems whose clock is coarse.
    write(&directory, "ca.pem", &format!("{}\n\n", ours.pem()));
    client.send(get(&server, "localhost")).await.unwrap();
    write(&directory, "ca.pem", "-----BEGIN CERTIFICATE-----\nhalf");
    client.send(get(&server, "localhost")).await.unwrap();
    assert!(once.send(get(&server, "localhost")).await.is_err());
}

/// Scenario: files that are missing, are no PEM, or do not belong together.
/// Guarantees: the client is not built, and the error names the file.
#[test]
fn broken_files() {
    let (ours, directory) = (Authority::new("ours"), TempDir::new().unwrap());
    let (one, other) = (ours.sign("one", |_| {}), ours.sign("other", |_| {}));
    let bad = write(&directory, "bad.pem", "no certificate");
    let cert = write(&directory, "cert.pem", &one.certificate.pem());
    let key = write(&directory, "key.pem", &other.key.serialize_pem());
    let none = Some(directory.path().join("none.pem"));
    let cases = [
        (ClientTls { ca_file: none, ..ClientTls::default() }, "none.pem"),
        (ClientTls { ca_file: bad.clone(), ..ClientTls::default() }, "bad.pem"),
        (
            ClientTls { cert_file: cert.clone(), key_file: bad, ..ClientTls::default() },
            "bad.pem has no private key",
        ),
        (
            ClientTls { cert_file: cert, key_file: key, ..ClientTls::default() },
            "do not work together",
        ),
    ];
    for (tls, expected) in cases {
        let error = Client::builder(&settings(tls)).build(&Extensions::default()).unwrap_err();
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}

/// Scenario: TLS through a proxy that grants a tunnel, and one that refuses it.
/// Guarantees: the server is verified through the tunnel; a rejection is an error that says so, and what
/// the proxy says cannot disturb a terminal.
#[tokio::test]
async fn through_a_tunnel() {
    let ours = Authority::new("ours");
    let server = serve(&ours.sign("localhost", |_| {}), None, rustls::ALL_VERSIONS).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let target = server.address;
    tokio::spawn(async move {
        for granted in [true, false] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("CONNECT localhost:"), "{request}");
            assert!(request.contains("Proxy-Authorization: Basic dTpw\r\n"), "{request}");
            if !granted {
                let rejection = b"HTTP/1.1 407 \x1b[31mwho are you\r\n\r\n";
                stream.write_all(rejection).await.unwrap();
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut onward = tokio::net::TcpStream::connect(target).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    let proxy_url = Secret::new(format!("http://u:p@{proxy}"));
    let settings =
        ClientSettings { proxy_url, disable_keep_alives: true, ..settings(trusting(&ours)) };
    client(&settings).send(get(&server, "localhost")).await.unwrap();
    let seen = &server.seen()[0];
    assert!(!seen.headers.contains_key("proxy-authorization"));
    let error = client(&settings).send(get(&server, "localhost")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("407") && !text.contains('\x1b'), "{text}");
}
