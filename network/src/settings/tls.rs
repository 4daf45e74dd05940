//! TLS on the calling side.

use std::path::PathBuf;

use profpipe_engine::config::Problems;
use profpipe_engine::settings::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS on the calling side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// Talks without TLS. An `http://` endpoint does so anyway; with `insecure: true` it may also
    /// be given credentials over a network.
    pub insecure: bool,
    /// Accepts any certificate of the server. For tests: whoever is on the way reads everything.
    pub insecure_skip_verify: bool,
    /// A file of certificates (PEM) that may sign the server's. The system's without it.
    pub ca_file: Option<PathBuf>,
    /// As `ca_file`, but the certificates themselves.
    pub ca_pem: Option<Secret>,
    /// With `ca_file` or `ca_pem`: the system's certificates count too.
    pub include_system_ca_certs_pool: bool,
    /// A file with our certificate (PEM, with those between it and the root), for servers that ask
    /// who we are.
    pub cert_file: Option<PathBuf>,
    /// As `cert_file`, but the certificates themselves.
    pub cert_pem: Option<Secret>,
    /// A file with the private key of our certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// As `key_file`, but the key itself.
    pub key_pem: Option<Secret>,
    /// The name that the server's certificate must have, if it is not that of the endpoint.
    pub server_name_override: Option<String>,
    /// The oldest version of TLS to speak: `1.2` or `1.3`.
    pub min_version: Option<TlsVersion>,
    /// The newest version of TLS to speak.
    pub max_version: Option<TlsVersion>,
    /// How often, at most, files are looked at for changes when a connection is made: `10s` unless set;
    /// changed ones are used from then on. `0` means that they are read only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_interval: Option<Duration>,
}

/// A version of TLS.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

impl ClientTls {
    /// Reports what makes no sense, at the section `at` of the component.
    pub fn validate(&self, at: &str, problems: &mut Problems) {
        let at = |key: &str| format!("{at}::{key}");
        let twice = [
            ("ca_pem", "ca_file", self.ca_pem.is_some() && self.ca_file.is_some()),
            ("cert_pem", "cert_file", self.cert_pem.is_some() && self.cert_file.is_some()),
            ("key_pem", "key_file", self.key_pem.is_some() && self.key_file.is_some()),
        ];
        for (one, other, both) in twice {
            if both {
                problems.push(&at(one), format!("`{other}` is set too; remove one of them"));
            }
        }
        let certificate = self.cert_file.is_some() || self.cert_pem.is_some();
        let key = self.key_file.is_some() || self.key_pem.is_some();
        if certificate && !key {
            problems.push(&at("cert_file"), "its private key is missing; set `key_file` too");
        }
        if key && !certificate {
            problems.push(
                &at("key_file"),
                "the certificate of this key is missing; set `cert_file` too",
            );
        }
        if let (Some(min), Some(max)) = (self.min_version, self.max_version)
            && min > max
        {
            problems.push(&at("min_version"), "is newer than `max_version`");
        }
    }
}
