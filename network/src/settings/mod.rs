//! What users type about connections, in the Collector's keys.

mod client;
pub mod server;
mod tls;

pub use client::{
    Authentication, ClientSettings, Compression, CompressionParams, Headers, Keepalive,
};
pub use tls::{ClientTls, TlsVersion};

use profpipe_engine::settings::Duration;

/// How often files of certificates are looked at where the configuration does not say.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// How often files of certificates are looked at; zero: they are read only once.
pub(crate) fn reload_interval(written: Option<Duration>) -> std::time::Duration {
    written.unwrap_or(RELOAD_INTERVAL).0
}

#[cfg(test)]
mod tests;
