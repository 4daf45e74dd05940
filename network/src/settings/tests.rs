#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_engine::component;
use profpipe_engine::config::{Problems, Section};

use super::*;

#[allow(unreachable_pub, reason = "the macros make public structs")]
mod http_config {
    crate::http_client_config! {
        /// A component.
        pub struct Config {
            endpoint: "", compression: crate::settings::Compression::Gzip;
            /// Its own.
            pub own: u32 = 7,
        }
    }
}

#[allow(unreachable_pub, reason = "the macros make public structs")]
mod grpc_config {
    crate::grpc_client_config! {
        /// A component.
        pub struct Config {
            endpoint: "", compression: crate::settings::Compression::Gzip;
        }
    }
}

impl component::Config for http_config::Config {
    fn validate(&self, problems: &mut Problems) {
        self.client().validate_http(problems);
    }
}

impl component::Config for grpc_config::Config {
    fn validate(&self, problems: &mut Problems) {
        self.client().validate_grpc(problems);
    }
}

fn http(text: &str) -> Result<ClientSettings, Vec<String>> {
    let read = Section::from_yaml(text).unwrap().read_valid::<http_config::Config>();
    read.map(|config| config.client()).map_err(texts)
}

fn grpc(text: &str) -> Result<ClientSettings, Vec<String>> {
    let read = Section::from_yaml(text).unwrap().read_valid::<grpc_config::Config>();
    read.map(|config| config.client()).map_err(texts)
}

fn texts(errors: Vec<profpipe_engine::config::ConfigError>) -> Vec<String> {
    errors
        .iter()
        .map(|error| format!("{}:{}: {}: {}", error.line, error.column, error.path, error.message))
        .collect()
}

/// Scenario: a section with every key of an HTTP client, as the Collector's documentation has them.
/// Guarantees: read; keys that do nothing are known as such.
#[test]
fn an_http_client() {
    let settings = http(
        "endpoint: https://backend:4318/otlp
compression: zstd
compression_params: {level: 3}
headers:
  X-Scope-OrgID: 1234
  authorization: Bearer x
tls:
  ca_file: /ca.pem
  cert_file: /cert.pem
  key_file: /key.pem
  min_version: 1.2
  max_version: \"1.3\"
  include_system_ca_certs_pool: true
  reload_interval: 1h
  server_name_override: other
auth: {authenticator: basicauth/x}
proxy_url: http://proxy:3128
idle_conn_timeout: 30s
max_idle_conns: 10
max_idle_conns_per_host: 5
max_conns_per_host: 7
http2_read_idle_timeout: 10s
http2_ping_timeout: 5s
read_buffer_size: 123
write_buffer_size: 0
",
    )
    .unwrap();
    assert_eq!(settings.compression, Compression::Zstd);
    assert_eq!(settings.tls.min_version, Some(TlsVersion::Tls12));
    assert_eq!(settings.max_idle_conns, Some(5));
    assert_eq!(settings.ignored, ["read_buffer_size", "write_buffer_size", "max_conns_per_host"]);
    let headers: Vec<_> = settings.headers.iter().map(|(n, v)| (n, v.expose())).collect();
    assert_eq!(headers, [("X-Scope-OrgID", "1234"), ("authorization", "Bearer x")]);
    assert!(settings.keepalive.unwrap().permit_without_stream);
}

/// Scenario: headers as a list, no compression in its two spellings, gRPC's own keys, nothing at all.
/// Guarantees: read.
#[test]
fn other_spellings() {
    let list =
        http("{endpoint: 'http://localhost:1', compression: '', headers: [{name: A, value: b}]}");
    let list = list.unwrap();
    assert_eq!(list.compression, Compression::None);
    assert_eq!(list.headers.iter().next().unwrap().1.expose(), "b");
    let none = http("{endpoint: 'http://localhost:1', compression: none, headers:, tls:}").unwrap();
    assert_eq!((none.compression, none.headers), (Compression::None, Headers::default()));
    let settings = grpc(
        "{endpoint: backend:4317, balancer_name: round_robin, keepalive: {time: 30s}, authority: x}",
    );
    let settings = settings.unwrap();
    assert_eq!(settings.ignored, ["balancer_name"]);
    assert_eq!(settings.keepalive.unwrap().time.0.as_secs(), 30);
    assert_eq!(http_config::Config::default().own, 7);
}

/// Scenario: one section with many mistakes.
/// Guarantees: each is found, with its position and what to do.
#[test]
fn mistakes() {
    let errors = http(
        "endpoint: backend:4318
compression: snappy
compression_params: {level: 99}
headers:
  bad name: x
tls:
  min_version: 1.0
  ca_file: /a
  ca_pem: b
  key_file: /c
proxy_url: socks5://x
retries: 3
",
    );
    let errors = errors.unwrap_err().join("\n");
    for expected in [
        "1:11: endpoint: ",
        "2:14: compression: ",
        "compression_params::level: gzip has the levels",
        "headers::bad name: is not the name",
        "7:16: tls::min_version: ",
        "tls::ca_pem: `ca_file`",
        "tls::key_file: the certificate",
        "proxy_url: only HTTP proxies",
        "retries: unknown key",
    ] {
        assert!(errors.contains(expected), "no `{expected}` in:\n{errors}");
    }
    assert!(http("").unwrap_err()[0].contains("endpoint: is missing"));
    assert!(grpc("endpoint: backend").unwrap_err()[0].contains("has no port"));
}

/// Scenario: credentials in the settings of a server that is reached without TLS.
/// Guarantees: a mistake, unless it is this machine or is said to be wanted; a tenant is no
/// credential.
#[test]
fn credentials_without_tls() {
    for bad in [
        "{endpoint: 'http://backend:1', headers: {Authorization: x}}",
        "{endpoint: 'http://10.0.0.1:1', headers: {x-api-key: x}}",
        "{endpoint: 'http://backend:1', auth: {authenticator: b}}",
    ] {
        let errors = http(bad).unwrap_err();
        assert!(errors[0].contains("tls: {insecure: true}"), "{errors:?}");
    }
    assert!(grpc("{endpoint: 'http://b:1', auth: {authenticator: b}}").is_err());
    for good in [
        "{endpoint: 'http://backend:1', headers: {X-Scope-OrgID: x}}",
        "{endpoint: 'http://127.0.0.1:1', headers: {Authorization: x}}",
        "{endpoint: 'https://backend:1', headers: {Authorization: x}}",
        "{endpoint: 'http://backend:1', headers: {Authorization: x}, tls: {insecure: true}}",
    ] {
        http(good).unwrap();
    }
}

/// Scenario: the settings are shown.
/// Guarantees: values of headers and of the proxy's address are not.
#[test]
fn secrets_are_not_shown() {
    let text = "{endpoint: 'https://b:1', headers: {a: s3cret}, proxy_url: 'http://u:s3cret@p:1'}";
    let config = Section::from_yaml(text).unwrap().read_valid::<http_config::Config>().unwrap();
    let shown =
        format!("{config:?} {} {:?}", serde_json::to_string(&config).unwrap(), config.client());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("[redacted]"));
}
