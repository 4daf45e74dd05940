//! Calling others over HTTP and gRPC: the keys that stand directly in a component's section.
//!
//! A component's `Config` gets them by [`crate::http_client_config`] or
//! [`crate::grpc_client_config`], not by flattening, which would lose the positions of mistakes.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{Duration, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ClientTls;
use super::server::NO_EFFECT;
use crate::endpoint::{Endpoint, parse_proxy};

/// How to reach a server, whatever the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The server: a URL, or `host:port` for gRPC.
    pub endpoint: String,
    /// TLS.
    pub tls: ClientTls,
    /// Headers of every request.
    pub headers: Headers,
    /// How bodies of requests are compressed.
    pub compression: Compression,
    /// How hard to compress.
    pub compression_params: CompressionParams,
    /// The extension that adds credentials.
    pub auth: Option<Authentication>,
    /// An HTTP proxy to go through; empty for none.
    pub proxy_url: Secret,
    /// Signs of life on open HTTP/2 connections.
    pub keepalive: Option<Keepalive>,
    /// How long an unused connection stays open; 0 for ever.
    pub idle_conn_timeout: Duration,
    /// How many unused connections stay open.
    pub max_idle_conns: Option<u32>,
    /// A new connection for every request.
    pub disable_keep_alives: bool,
    /// The `:authority` of gRPC requests, if it is not that of the endpoint.
    pub authority: String,
    /// Keys that are accepted for the sake of other programs' configurations and do nothing.
    pub ignored: Vec<&'static str>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: ClientTls::default(),
            headers: Headers::default(),
            compression: Compression::None,
            compression_params: CompressionParams::default(),
            auth: None,
            proxy_url: Secret::default(),
            keepalive: None,
            idle_conn_timeout: Duration::from_secs(90),
            max_idle_conns: None,
            disable_keep_alives: false,
            authority: String::new(),
            ignored: Vec::new(),
        }
    }
}

impl ClientSettings {
    /// For this endpoint, everything else as by default.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ..Self::default() }
    }

    /// Reports what makes no sense in the settings of an HTTP client.
    pub fn validate_http(&self, problems: &mut Problems) {
        let endpoint = Endpoint::http(&self.endpoint);
        self.validate(endpoint, "`https://backend:4318`", problems);
    }

    /// Reports what makes no sense in the settings of a gRPC client.
    pub fn validate_grpc(&self, problems: &mut Problems) {
        let endpoint = Endpoint::grpc(&self.endpoint, self.tls.insecure);
        self.validate(endpoint, "`backend:4317`", problems);
    }

    fn validate(&self, endpoint: Result<Endpoint, String>, like: &str, problems: &mut Problems) {
        if self.endpoint.is_empty() {
            problems.push("endpoint", format!("is missing; name the server, such as {like}"));
        } else {
            match endpoint {
                Ok(endpoint) => self.validate_credentials(&endpoint, problems),
                Err(problem) => problems.push("endpoint", problem),
            }
        }
        self.tls.validate("tls", problems);
        for (name, value) in self.headers.iter() {
            let at = format!("headers::{name}");
            if HeaderName::try_from(name).is_err() {
                problems.push(&at, "is not the name of a header");
            } else if HeaderValue::try_from(value.expose()).is_err() {
                problems.push(&at, "has a value that no header can have, such as a line break");
            }
        }
        if self.auth.as_ref().is_some_and(|auth| auth.authenticator.is_empty()) {
            problems.push("auth::authenticator", "is missing; name an extension");
        }
        if !self.proxy_url.is_empty()
            && let Err(problem) = parse_proxy(self.proxy_url.expose())
        {
            problems.push("proxy_url", problem);
        }
        let (compression, level) = (self.compression, self.compression_params.level);
        if let Some(range) = compression.levels()
            && !range.contains(&level)
        {
            let (first, last) = (range.start(), range.end());
            let problem =
                format!("{compression} has the levels {first} to {last}; -1 for the usual one");
            problems.push("compression_params::level", problem);
        }
    }

    /// Reports keys that are accepted and do nothing.
    pub fn advise(&self, advice: &mut Problems) {
        for key in &self.ignored {
            advice.push(key, NO_EFFECT);
        }
    }

    fn validate_credentials(&self, endpoint: &Endpoint, problems: &mut Problems) {
        if endpoint.is_tls() || endpoint.is_loopback() || self.tls.insecure {
            return;
        }
        let header = self.headers.iter().map(|(name, _)| name).find(|name| is_credential(name));
        let what = match (&self.auth, header) {
            (Some(_), _) => "`auth`".to_owned(),
            (None, Some(header)) => format!("the header `{header}`"),
            (None, None) => return,
        };
        problems.push(
            "endpoint",
            format!(
                "{what} would cross the network for everybody to read; use `https://`, or say \
                 `tls: {{insecure: true}}`"
            ),
        );
    }
}

/// True for names of headers that hold credentials, as far as names tell.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "cookie", "password", "credential", "session"]
        .iter()
        .any(|word| name.contains(word))
}

/// The extension that adds credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    /// The extension's id, such as `bearertokenauth`.
    pub authenticator: String,
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    #[serde(alias = "")]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The name in `content-encoding` and `grpc-encoding`; nothing if there is none to name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Self::None => None,
            Self::Gzip => Some(-1..=9),
            Self::Zstd => Some(-1..=22),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("none"))
    }
}

/// How hard to compress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressionParams {
    /// The level: 1 (fast) to 9 for gzip, to 22 for zstd; 0 for gzip packs without compressing; -1
    /// for the usual one here, which is 1: a gateway has more network than processor.
    pub level: i32,
}

impl Default for CompressionParams {
    fn default() -> Self {
        Self { level: -1 }
    }
}

/// Signs of life on open HTTP/2 connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// How long a connection may be silent before it is asked whether it lives; 0 for never.
    /// Servers close connections that are asked more often than they allow.
    pub time: Duration,
    /// How long to wait for the answer before the connection counts as dead.
    pub timeout: Duration,
    /// Asks while no request is under way, too.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            permit_without_stream: false,
        }
    }
}

/// Headers of every request. Their values are secrets.
///
/// Written as a map, or as a list of `{name, value}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, Secret>);

impl Headers {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Adds one, in place of another of the same name.
    pub fn insert(&mut self, name: impl Into<String>, value: Secret) {
        self.0.insert(name.into(), value);
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Pair {
            name: String,
            value: Secret,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names and values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, value)) = map.next_entry()? {
                    headers.0.insert(name, value);
                }
                Ok(headers)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some(Pair { name, value }) = list.next_element()? {
                    headers.0.insert(name, value);
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Headers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Headers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "object", "additionalProperties": { "type": "string", "writeOnly": true } },
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": { "type": "string" },
                            "value": { "type": "string", "writeOnly": true },
                        },
                        "required": ["name", "value"],
                    },
                },
            ],
        })
    }
}

/// Defines the `Config` of a component that calls a server over HTTP: the keys of an HTTP client,
/// directly in its section, and the component's own.
///
/// ```
/// profpipe_network::http_client_config! {
///     /// Sends something.
///     pub struct Config {
///         endpoint: "", compression: profpipe_network::settings::Compression::Gzip;
///         /// How much at once.
///         pub at_once: u32 = 10,
///     }
/// }
/// assert_eq!(Config::default().at_once, 10);
/// assert_eq!(Config::default().client().endpoint, "");
/// ```
#[macro_export]
macro_rules! http_client_config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            endpoint: $endpoint:expr, compression: $compression:expr;
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $crate::__client_config! {
            $(#[$meta])*
            pub struct $name {
                /// The server: `https://host:port`, with a path if the server is behind one.
                pub endpoint: String = String::from($endpoint),
                /// How requests are compressed: `gzip`, `zstd` or `none`.
                pub compression: $crate::settings::Compression = $compression,
                /// An HTTP proxy to go through: `http://host:port`. TLS goes through it unread.
                pub proxy_url: $crate::__private::Secret = $crate::__private::Secret::default(),
                /// How long an unused connection stays open; `0` for ever.
                pub idle_conn_timeout: $crate::__private::Duration =
                    $crate::__private::Duration::from_secs(90),
                /// How many unused connections stay open.
                pub max_idle_conns: Option<u32> = None,
                /// As `max_idle_conns`: there is one server.
                pub max_idle_conns_per_host: Option<u32> = None,
                /// Does nothing; the number of consumers limits the connections.
                pub max_conns_per_host: Option<u32> = None,
                /// Makes a new connection for every request.
                pub disable_keep_alives: bool = false,
                /// How long an HTTP/2 connection may be silent before it is asked whether it lives;
                /// `0` for never.
                pub http2_read_idle_timeout: $crate::__private::Duration =
                    $crate::__private::Duration::from_secs(0),
                /// How long to wait for the answer.
                pub http2_ping_timeout: $crate::__private::Duration =
                    $crate::__private::Duration::from_secs(15),
                /// Does nothing; HTTP/2 is used where the server offers it.
                pub force_attempt_http2: Option<bool> = None,
                $($(#[$field_meta])* pub $field: $type = $default,)*
            }
            client(config, settings) {
                settings.proxy_url = config.proxy_url.clone();
                settings.idle_conn_timeout = config.idle_conn_timeout;
                settings.max_idle_conns = config.max_idle_conns_per_host.or(config.max_idle_conns);
                settings.disable_keep_alives = config.disable_keep_alives;
                if config.http2_read_idle_timeout != $crate::__private::Duration::from_secs(0) {
                    settings.keepalive = Some($crate::settings::Keepalive {
                        time: config.http2_read_idle_timeout,
                        timeout: config.http2_ping_timeout,
                        permit_without_stream: true,
                    });
                }
                if config.max_conns_per_host.is_some() {
                    settings.ignored.push("max_conns_per_host");
                }
                if config.force_attempt_http2.is_some() {
                    settings.ignored.push("force_attempt_http2");
                }
            }
        }
    };
}

/// As [`crate::http_client_config`], with the keys of a gRPC client.
#[macro_export]
macro_rules! grpc_client_config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            endpoint: $endpoint:expr, compression: $compression:expr;
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $crate::__client_config! {
            $(#[$meta])*
            pub struct $name {
                /// The server: `host:port`. `http://` before it means no TLS.
                pub endpoint: String = String::from($endpoint),
                /// How requests are compressed: `gzip`, `zstd` or `none`.
                pub compression: $crate::settings::Compression = $compression,
                /// Signs of life on open connections.
                pub keepalive: Option<$crate::settings::Keepalive> = None,
                /// The name of the server in requests, if it is not that of the endpoint.
                pub authority: String = String::new(),
                /// Does nothing; there is one connection, made again when it breaks.
                pub balancer_name: Option<String> = None,
                /// Does nothing; requests fail and are tried again.
                pub wait_for_ready: Option<bool> = None,
                $($(#[$field_meta])* pub $field: $type = $default,)*
            }
            client(config, settings) {
                settings.keepalive = config.keepalive.clone();
                settings.authority = config.authority.clone();
                if config.balancer_name.is_some() {
                    settings.ignored.push("balancer_name");
                }
                if config.wait_for_ready.is_some() {
                    settings.ignored.push("wait_for_ready");
                }
            }
        }
    };
}

/// What both protocols have.
#[doc(hidden)]
#[macro_export]
macro_rules! __client_config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
        client($config:ident, $settings:ident) $more:block
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// TLS.
            pub tls: $crate::settings::ClientTls,
            /// Headers of every request: a map of names and values.
            pub headers: $crate::settings::Headers,
            /// How hard to compress.
            pub compression_params: $crate::settings::CompressionParams,
            /// The extension that adds credentials.
            pub auth: Option<$crate::settings::Authentication>,
            /// Does nothing; buffers have the size that is needed.
            pub read_buffer_size: Option<u64>,
            /// Does nothing; buffers have the size that is needed.
            pub write_buffer_size: Option<u64>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                    tls: Default::default(),
                    headers: Default::default(),
                    compression_params: Default::default(),
                    auth: None,
                    read_buffer_size: None,
                    write_buffer_size: None,
                }
            }
        }

        impl $name {
            /// How to reach the server.
            pub fn client(&self) -> $crate::settings::ClientSettings {
                let $config = self;
                let mut $settings = $crate::settings::ClientSettings::new(&*self.endpoint);
                $settings.tls = self.tls.clone();
                $settings.headers = self.headers.clone();
                $settings.compression = self.compression;
                $settings.compression_params = self.compression_params.clone();
                $settings.auth = self.auth.clone();
                if self.read_buffer_size.is_some() {
                    $settings.ignored.push("read_buffer_size");
                }
                if self.write_buffer_size.is_some() {
                    $settings.ignored.push("write_buffer_size");
                }
                $more
                $settings
            }
        }
    };
}
