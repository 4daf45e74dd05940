//! The version of the profiles signal that a sender speaks, while the signal is in development.

use http::HeaderMap;
use profpipe_network::server::Rejection;

/// The header, and the metadata of gRPC.
const NAME: &str = "otlp-profiles-development-version";
/// The version that we speak: that of proto 1.10 and 1.11.
const OURS: &str = "1";

/// Checks the version before anything is decoded; a sender that names none speaks version 1.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(()) };
    if values.next().is_some() {
        return Err(Rejection::invalid(format!("{NAME} is given more than once")));
    }
    let value = value.as_bytes();
    if value == OURS.as_bytes() {
        return Ok(());
    }
    let is_version = !value.is_empty()
        && value.len() <= 10
        && !value.starts_with(b"0")
        && value.iter().all(u8::is_ascii_digit);
    Err(Rejection::invalid(match std::str::from_utf8(value) {
        Ok(version) if is_version => {
            format!("{NAME} {version} is not supported; this receiver takes version {OURS}")
        }
        _ => format!("{NAME} must be one positive decimal number without leading zeros"),
    }))
}
