//! What users type about connections, in the Collector's keys.

mod client;
pub mod server;
mod tls;

pub use client::{
    Authentication, ClientSettings, Compression, CompressionParams, Headers, Keepalive,
};
pub use tls::{ClientTls, TlsVersion};

#[cfg(test)]
mod tests;
