//! The server block: where a component listens, who may send to it, and how much.
//!
//! The keys are the Collector's. [`server_config!`](crate::server_config) writes them into a
//! component's own configuration, so that they are read with exact positions.

use std::net::IpAddr;

use profpipe_engine::config::Problems;
use profpipe_engine::settings::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that a server needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// Where to listen, as `host:port`.
    pub endpoint: String,
    /// Encryption.
    pub tls: Option<ServerTls>,
    /// Who may send.
    pub auth: Option<ServerAuthentication>,
    /// The largest body, in bytes, before and after decompression.
    pub max_body: usize,
    /// The largest message of a gRPC call, in bytes, before and after decompression.
    pub max_message: usize,
    /// The codings of bodies that are taken; an empty name stands for none.
    pub compression_algorithms: Vec<String>,
    /// Listening beyond this host without encryption and credentials is meant so.
    pub insecure: bool,
    /// The header that names the tenant of a request, if it is trusted.
    pub tenant_header: Option<String>,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// How long a request's header may take.
    pub header_timeout: std::time::Duration,
    /// How long a request's body may take.
    pub body_timeout: std::time::Duration,
    /// How long a connection without a request stays open.
    pub idle_timeout: std::time::Duration,
    /// Whether a connection is used for more than one request.
    pub keep_alive: bool,
    /// Pings on HTTP/2 connections.
    pub keepalive: Keepalive,
    /// Which pages of other sites may send by HTTP.
    pub cors: Option<Cors>,
    /// Keys that are accepted for the sake of other programs' configurations and do nothing.
    pub ignored: Vec<&'static str>,
}

/// Encryption of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTls {
    /// A file with the certificate and what vouches for it, in PEM.
    pub cert_file: Option<String>,
    /// A file with the certificate's private key, in PEM.
    pub key_file: Option<String>,
    /// The certificate itself, in PEM.
    pub cert_pem: Option<String>,
    /// The private key itself, in PEM.
    pub key_pem: Option<Secret>,
    /// A file with the authorities that clients' certificates must come from. With it, a client
    /// without such a certificate is rejected.
    pub client_ca_file: Option<String>,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
    pub min_version: Option<TlsVersion>,
    /// The newest version of TLS that is spoken: `1.2` or `1.3`.
    pub max_version: Option<TlsVersion>,
    /// How often, at most, files are looked at for changes when a connection is made: `10s` unless set;
    /// changed ones are used from then on. `0` means that they are read only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_interval: Option<Duration>,
    /// Kept for the Collector's configurations: `reload_interval` covers the authorities of
    /// clients, too.
    pub client_ca_file_reload: bool,
}

/// A version of TLS.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Who may send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerAuthentication {
    /// The id of the extension that knows: `bearertokenauth`, `basicauth/agents` …
    pub authenticator: String,
}

/// Which pages of other sites may send. None may while `allowed_origins` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins such as `https://app.example.com`; one `*` in it stands for any text, and `*` alone for
    /// every origin.
    pub allowed_origins: Vec<String>,
    /// Headers that their requests may have, beside those of every browser; `*` for any.
    pub allowed_headers: Vec<String>,
    /// Headers of answers that they may read.
    pub exposed_headers: Vec<String>,
    /// How long a browser remembers what it may send, in seconds; `0` leaves it to the browser, which
    /// then asks before nearly every request.
    pub max_age: u64,
}

/// Pings and ages of gRPC connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// What the server does.
    pub server_parameters: ServerParameters,
    /// What it demands of clients: read for the Collector's configurations, without effect.
    pub enforcement_policy: EnforcementPolicy,
}

/// What the server does about quiet connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerParameters {
    /// A connection without a request for so long is closed; `0` means after 60 seconds.
    pub max_connection_idle: Duration,
    /// A connection is closed when it is so old; `0` means never. With a load balancer in front,
    /// this spreads clients again.
    pub max_connection_age: Duration,
    /// How long the requests of such a connection may go on; `0` means 30 seconds.
    pub max_connection_age_grace: Duration,
    /// How often a client is asked whether it is still there; `0` means every two hours.
    pub time: Duration,
    /// How long it may take to answer that; `0` means 20 seconds.
    pub timeout: Duration,
}

/// What a server demands of clients that ping it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnforcementPolicy {
    /// The shortest time between pings.
    pub min_time: Duration,
    /// Whether pings are allowed without a request.
    pub permit_without_stream: bool,
}

/// What is said about a key that does nothing.
pub(crate) const NO_EFFECT: &str = "accepted, but it has no effect in this version";

/// The codings that are understood.
pub(crate) const CODINGS: [&str; 5] = ["", "gzip", "zstd", "zlib", "deflate"];

/// The keys that are written although they do nothing.
#[doc(hidden)]
pub fn ignored(keys: &[(&'static str, bool)], tls: Option<&ServerTls>) -> Vec<&'static str> {
    let written = keys.iter().filter(|(_, is_written)| *is_written).map(|(key, _)| *key);
    let reload = tls.is_some_and(|tls| tls.client_ca_file_reload);
    written.chain(reload.then_some("tls::client_ca_file_reload")).collect()
}

/// The codings that are taken unless the configuration says otherwise.
pub fn default_codings() -> Vec<String> {
    CODINGS.iter().map(|&name| name.to_owned()).collect()
}

impl ServerSettings {
    /// Reports what makes no sense, under the keys below `prefix` (empty, or with `::` at its end).
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        let mut problem =
            |key: &str, message: String| problems.push(&format!("{prefix}{key}"), message);
        match split(&self.endpoint) {
            Err(message) => problem("endpoint", message),
            Ok((host, _)) if !self.insecure && !is_loopback(host) && !self.is_guarded() => {
                let lack = match (self.tls.is_some(), self.auth.is_some()) {
                    (true, _) => "`auth` or `tls::client_ca_file`",
                    (_, true) => "`tls`",
                    _ => "`tls` and `auth`",
                };
                problem(
                    "endpoint",
                    format!(
                        "`{}` takes data from the network without {lack}; add that, listen at \
                         localhost, or write `insecure: true` if something else protects it",
                        self.endpoint
                    ),
                );
            }
            Ok(_) => {}
        }
        if let Some(tls) = &self.tls {
            tls.validate(&mut |key, message| problem(&format!("tls::{key}"), message));
        }
        if self.auth.as_ref().is_some_and(|auth| auth.authenticator.is_empty()) {
            problem("auth::authenticator", "is empty; name an extension".to_owned());
        }
        for name in &self.compression_algorithms {
            if !CODINGS.contains(&name.as_str()) {
                problem(
                    "compression_algorithms",
                    format!("`{name}` is not supported; use gzip, zstd, zlib or deflate"),
                );
            }
        }
        let names_header = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !self.tenant_header.as_ref().is_none_or(names_header) {
            problem("tenant_header", "is not the name of a header".to_owned());
        }
        if self.max_connections == 0 {
            problem("max_connections", "must be at least 1".to_owned());
        }
        if self.max_body == 0 {
            problem("max_request_body_size", "must be at least 1".to_owned());
        }
    }

    /// Reports keys that are accepted and do nothing, under `prefix` as [`Self::validate`].
    pub fn advise(&self, prefix: &str, advice: &mut Problems) {
        for key in &self.ignored {
            advice.push(&format!("{prefix}{key}"), NO_EFFECT);
        }
        let Some(cors) = &self.cors else { return };
        if cors.allowed_origins.is_empty() {
            let message = "`allowed_origins` is empty, so no page of another site may send";
            advice.push(&format!("{prefix}cors"), message);
        } else if cors.max_age == 0 {
            let message = "without `max_age` browsers ask again before nearly every request; set how \
                           many seconds they remember what they may send";
            advice.push(&format!("{prefix}cors"), message);
        }
    }

    /// Encrypted, and the sender is known by credentials or by its certificate.
    fn is_guarded(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| self.auth.is_some() || tls.client_ca_file.is_some())
    }
}

impl ServerTls {
    fn validate(&self, problem: &mut dyn FnMut(&str, String)) {
        match (&self.cert_file, &self.cert_pem) {
            (None, None) => problem("cert_file", "is missing; a server needs one".to_owned()),
            (Some(_), Some(_)) => {
                problem("cert_pem", "is given beside cert_file; write one of them".to_owned());
            }
            _ => {}
        }
        match (&self.key_file, &self.key_pem) {
            (None, None) => problem("key_file", "is missing; a server needs one".to_owned()),
            (Some(_), Some(_)) => {
                problem("key_pem", "is given beside key_file; write one of them".to_owned());
            }
            _ => {}
        }
        if let (Some(min), Some(max)) = (self.min_version, self.max_version)
            && min > max
        {
            problem("max_version", "is older than min_version".to_owned());
        }
    }
}

/// The host and port of an endpoint.
pub(crate) fn split(endpoint: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("`{endpoint}` is not `host:port`, such as localhost:4318");
    if endpoint.contains("://") {
        return Err(format!("`{endpoint}` is an address to send to; write `host:port` to listen"));
    }
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    Ok((host, port.parse().map_err(|_| wrong())?))
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Defines a configuration that has the keys of an HTTP or gRPC server and some of its own.
///
/// ```
/// profpipe_network::server_config! {
///     /// How the component listens.
///     pub struct Config: http("localhost:4040") {
///         /// A key of the component's own.
///         pub path: String = "/".to_owned(),
///     }
/// }
/// let settings = Config::default().server();
/// assert_eq!(settings.endpoint, "localhost:4040");
/// ```
///
/// `server()` gives the settings; the component calls their `validate`.
#[macro_export]
macro_rules! server_config {
    (
        $(#[$about:meta])*
        $visibility:vis struct $name:ident: http($endpoint:expr) {
            $($(#[$doc:meta])* $access:vis $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(
            Debug, Clone, PartialEq,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        #[serde(deny_unknown_fields, default)]
        $visibility struct $name {
            /// Where to listen, as `host:port`. Beyond this host it takes `tls` and `auth`, or
            /// `insecure: true`.
            pub endpoint: String,
            /// Encryption; without it, none.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tls: Option<$crate::settings::server::ServerTls>,
            /// Who may send; without it, everybody.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub auth: Option<$crate::settings::server::ServerAuthentication>,
            /// The largest request, in bytes, before and after decompression.
            pub max_request_body_size: ::profpipe_engine::settings::ByteSize,
            /// The codings of bodies that are taken; an empty name stands for none.
            pub compression_algorithms: Vec<String>,
            /// Kept for the Collector's configurations: `tenant_header` says what is used.
            pub include_metadata: bool,
            /// Which pages of other sites may send, for programs in browsers; none by default.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub cors: Option<$crate::settings::server::Cors>,
            /// How long a request's header may take.
            pub read_header_timeout: ::profpipe_engine::settings::Duration,
            /// How long a request's body may take, beside what its size allows (16 KiB a second);
            /// `0` means 30 seconds.
            pub read_timeout: ::profpipe_engine::settings::Duration,
            /// Kept for the Collector's configurations: a connection that takes no answer counts as
            /// idle.
            pub write_timeout: ::profpipe_engine::settings::Duration,
            /// How long a connection without a request stays open.
            pub idle_timeout: ::profpipe_engine::settings::Duration,
            /// Whether a connection is used for more than one request.
            pub keep_alives_enabled: bool,
            /// The most connections at a time; more of them wait.
            pub max_connections: usize,
            /// Listening beyond this host without `tls` and `auth` is meant so.
            pub insecure: bool,
            /// The header that names the tenant, such as `X-Scope-OrgID`. Set it only if no one
            /// but a trusted proxy can send it: a tenant known by credentials goes before.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tenant_header: Option<String>,
            $($(#[$doc])* $access $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    endpoint: String::from($endpoint),
                    tls: None,
                    auth: None,
                    max_request_body_size: ::profpipe_engine::settings::ByteSize::mib(20),
                    compression_algorithms: $crate::settings::server::default_codings(),
                    include_metadata: false,
                    cors: None,
                    read_header_timeout: ::profpipe_engine::settings::Duration::from_secs(10),
                    read_timeout: ::profpipe_engine::settings::Duration::from_secs(30),
                    write_timeout: ::profpipe_engine::settings::Duration::from_secs(30),
                    idle_timeout: ::profpipe_engine::settings::Duration::from_secs(60),
                    keep_alives_enabled: true,
                    max_connections: 1024,
                    insecure: false,
                    tenant_header: None,
                    $($field: $default,)*
                }
            }
        }

        impl $name {
            /// What the server is to do.
            $visibility fn server(&self) -> $crate::settings::server::ServerSettings {
                let limit = usize::try_from(self.max_request_body_size.0).unwrap_or(usize::MAX);
                let or = |time: ::profpipe_engine::settings::Duration, seconds| match time.0 {
                    ::std::time::Duration::ZERO => ::std::time::Duration::from_secs(seconds),
                    time => time,
                };
                let usual = Self::default();
                let ignored = [
                    ("include_metadata", self.include_metadata != usual.include_metadata),
                    ("write_timeout", self.write_timeout != usual.write_timeout),
                ];
                $crate::settings::server::ServerSettings {
                    cors: self.cors.clone(),
                    ignored: $crate::settings::server::ignored(&ignored, self.tls.as_ref()),
                    endpoint: self.endpoint.clone(),
                    tls: self.tls.clone(),
                    auth: self.auth.clone(),
                    max_body: limit,
                    max_message: limit,
                    compression_algorithms: self.compression_algorithms.clone(),
                    insecure: self.insecure,
                    tenant_header: self.tenant_header.clone(),
                    max_connections: self.max_connections,
                    max_concurrent_streams: 128,
                    header_timeout: or(self.read_header_timeout, 10),
                    body_timeout: or(self.read_timeout, 30),
                    idle_timeout: or(self.idle_timeout, 60),
                    keep_alive: self.keep_alives_enabled,
                    keepalive: ::std::default::Default::default(),
                }
            }
        }
    };
    (
        $(#[$about:meta])*
        $visibility:vis struct $name:ident: grpc($endpoint:expr) {
            $($(#[$doc:meta])* $access:vis $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(
            Debug, Clone, PartialEq,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        #[serde(deny_unknown_fields, default)]
        $visibility struct $name {
            /// Where to listen, as `host:port`. Beyond this host it takes `tls` and `auth`, or
            /// `insecure: true`.
            pub endpoint: String,
            /// Encryption; without it, none.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tls: Option<$crate::settings::server::ServerTls>,
            /// Who may send; without it, everybody.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub auth: Option<$crate::settings::server::ServerAuthentication>,
            /// The largest message in MiB, before and after decompression.
            pub max_recv_msg_size_mib: usize,
            /// The most requests at a time on one connection; `0` means 128.
            pub max_concurrent_streams: u32,
            /// Kept for the Collector's configurations, without effect.
            pub read_buffer_size: ::profpipe_engine::settings::ByteSize,
            /// Kept for the Collector's configurations, without effect.
            pub write_buffer_size: ::profpipe_engine::settings::ByteSize,
            /// Pings, and the age of connections.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub keepalive: Option<$crate::settings::server::Keepalive>,
            /// Kept for the Collector's configurations: `tenant_header` says what is used.
            pub include_metadata: bool,
            /// The most connections at a time; more of them wait.
            pub max_connections: usize,
            /// Listening beyond this host without `tls` and `auth` is meant so.
            pub insecure: bool,
            /// The header that names the tenant, such as `X-Scope-OrgID`. Set it only if no one
            /// but a trusted proxy can send it: a tenant known by credentials goes before.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tenant_header: Option<String>,
            $($(#[$doc])* $access $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    endpoint: String::from($endpoint),
                    tls: None,
                    auth: None,
                    max_recv_msg_size_mib: 4,
                    max_concurrent_streams: 0,
                    read_buffer_size: ::profpipe_engine::settings::ByteSize(512 << 10),
                    write_buffer_size: ::profpipe_engine::settings::ByteSize(32 << 10),
                    keepalive: None,
                    include_metadata: false,
                    max_connections: 1024,
                    insecure: false,
                    tenant_header: None,
                    $($field: $default,)*
                }
            }
        }

        impl $name {
            /// What the server is to do.
            $visibility fn server(&self) -> $crate::settings::server::ServerSettings {
                // As in the Collector, 0 stands for the default.
                let limit = match self.max_recv_msg_size_mib {
                    0 => 4 << 20,
                    size => size.saturating_mul(1 << 20),
                };
                let keepalive = self.keepalive.clone().unwrap_or_default();
                let idle = match keepalive.server_parameters.max_connection_idle.0 {
                    ::std::time::Duration::ZERO => ::std::time::Duration::from_secs(60),
                    time => time,
                };
                let usual = Self::default();
                let ignored = [
                    ("include_metadata", self.include_metadata != usual.include_metadata),
                    ("read_buffer_size", self.read_buffer_size != usual.read_buffer_size),
                    ("write_buffer_size", self.write_buffer_size != usual.write_buffer_size),
                    (
                        "keepalive::enforcement_policy",
                        keepalive.enforcement_policy != ::std::default::Default::default(),
                    ),
                ];
                $crate::settings::server::ServerSettings {
                    cors: None,
                    ignored: $crate::settings::server::ignored(&ignored, self.tls.as_ref()),
                    endpoint: self.endpoint.clone(),
                    tls: self.tls.clone(),
                    auth: self.auth.clone(),
                    max_body: limit,
                    max_message: limit,
                    compression_algorithms: $crate::settings::server::default_codings(),
                    insecure: self.insecure,
                    tenant_header: self.tenant_header.clone(),
                    max_connections: self.max_connections,
                    max_concurrent_streams: match self.max_concurrent_streams {
                        0 => 128,
                        streams => streams,
                    },
                    header_timeout: ::std::time::Duration::from_secs(10),
                    body_timeout: ::std::time::Duration::from_secs(30),
                    idle_timeout: idle,
                    keep_alive: true,
                    keepalive,
                }
            }
        }
    };
}
