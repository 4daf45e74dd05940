//! What users may write.

use profpipe_engine::component;
use profpipe_engine::config::{Problems, Section};

use super::support::{Config, settings, setup};
use crate::server::Server;
use crate::settings::server::ServerAuthentication;

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.server().validate("", problems);
    }
}

fn errors(yaml: &str) -> String {
    let read = Section::from_yaml(yaml).unwrap().read_valid::<Config>();
    let errors = read.err().unwrap_or_default();
    errors.iter().map(|error| format!("{}: {}\n", error.path, error.message)).collect()
}

/// Scenario: addresses of this host and others, with and without what protects them.
/// Guarantees: an open one is rejected with what to do, unless it is meant so.
#[test]
fn open_addresses_are_rejected() {
    let tls = "tls: {cert_file: c, key_file: k}";
    let mutual = "tls: {cert_file: c, key_file: k, client_ca_file: a}";
    for good in [
        "endpoint: localhost:4318".to_owned(),
        "endpoint: '127.8.9.1:4318'".to_owned(),
        "endpoint: '[::1]:4318'".to_owned(),
        "{endpoint: '0.0.0.0:4318', insecure: true}".to_owned(),
        "{endpoint: ':4318', insecure: true}".to_owned(),
        format!("{{endpoint: '0.0.0.0:4318', {tls}, auth: {{authenticator: x}}}}"),
        format!("{{endpoint: '0.0.0.0:4318', {mutual}}}"),
    ] {
        assert_eq!(errors(&good), "", "{good}");
    }
    for (bad, lack) in [
        ("endpoint: '0.0.0.0:4318'".to_owned(), "`tls` and `auth`"),
        ("endpoint: ':4318'".to_owned(), "`tls` and `auth`"),
        ("endpoint: '[::]:4318'".to_owned(), "`tls` and `auth`"),
        ("endpoint: 'gateway:4318'".to_owned(), "`tls` and `auth`"),
        (format!("{{endpoint: '10.0.0.1:4318', {tls}}}"), "`auth` or `tls::client_ca_file`"),
        ("{endpoint: '10.0.0.1:4318', auth: {authenticator: x}}".to_owned(), "without `tls`;"),
    ] {
        let said = errors(&bad);
        assert!(said.starts_with("endpoint: ") && said.contains(lack), "{bad}: {said}");
        assert!(said.contains("insecure: true"), "{said}");
    }
}

/// Scenario: values that make no sense.
/// Guarantees: each is named.
#[test]
fn nonsense_is_named() {
    for (bad, said) in [
        ("endpoint: localhost", "endpoint: `localhost` is not `host:port`"),
        ("endpoint: 'http://localhost:1'", "endpoint: `http://localhost:1` is an address to send"),
        ("endpoint: '::1:4318'", "endpoint: `::1:4318` is not"),
        ("tls: {}", "tls::cert_file: is missing"),
        ("tls: {cert_file: a, key_file: b, key_pem: c}", "tls::key_pem: is given beside"),
        (
            "tls: {cert_file: a, key_file: b, min_version: '1.3', max_version: '1.2'}",
            "tls::max_version: is older",
        ),
        ("auth: {}", "auth::authenticator: is empty"),
        ("compression_algorithms: [gzip, snappy]", "compression_algorithms: `snappy` is not"),
        ("tenant_header: 'a b'", "tenant_header: is not the name"),
        ("max_connections: 0", "max_connections: must be"),
        ("max_request_body_size: 0", "max_request_body_size: must be"),
        ("max_request_bodysize: 0", "max_request_bodysize: unknown key"),
    ] {
        let errors = errors(bad);
        assert!(errors.contains(said), "{bad}: {errors}");
    }
}

/// Scenario: an authenticator that is not there, and one that does not authenticate; an address in use.
/// Guarantees: one line that says so, when the server is built.
#[tokio::test]
async fn what_cannot_be_built() {
    for (id, said) in [("nobody", "there is no extension `nobody`"), ("bystander", "does not auth")]
    {
        let mut settings = settings();
        settings.auth = Some(ServerAuthentication { authenticator: id.into() });
        let error = Server::build(settings, &setup()).unwrap_err();
        assert!(error.chain().contains(said), "{}", error.chain());
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings();
    settings.endpoint = other.local_addr().unwrap().to_string();
    let error = Server::build(settings, &setup()).unwrap_err();
    assert!(error.chain().contains("something else listens there"), "{}", error.chain());
}
