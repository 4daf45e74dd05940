//! Comparing credentials without telling by the time it takes how much of them was right.

use profpipe_engine::component::Error;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A fingerprint of a secret: of equal length for all, so that comparing tells nothing about it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub(crate) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The one value of a header.
///
/// # Errors
/// If there is none, or more than one: two proxies may disagree about which of them counts.
pub(crate) fn only<'v>(header: &str, values: &[&'v [u8]]) -> Result<&'v [u8], Error> {
    match values {
        [value] => Ok(value),
        [] => Err(Error::new(format!("there is no `{header}` header"))),
        _ => Err(Error::new(format!("there is more than one `{header}` header"))),
    }
}

/// What follows the scheme in a header's value; schemes are the same in any case.
pub(crate) fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    if scheme.is_empty() {
        return Some(value.trim_ascii());
    }
    let (found, rest) = value.split_at_checked(scheme.len())?;
    let spaced = rest.first().is_some_and(|byte| *byte == b' ');
    (found.eq_ignore_ascii_case(scheme.as_bytes()) && spaced).then(|| rest.trim_ascii())
}
