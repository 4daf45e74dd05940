//! Requests to batches: everything between the bytes of a body and what goes on.
//!
//! A request is taken as a whole or not at all. Pyroscope itself stores the good series of a bad
//! request and answers with an error; a client that then tries again counts them twice.

use std::borrow::Cow;
use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use profpipe_engine::settings::ByteSize;
use profpipe_formats::pprof::{self, DecodeError};
use profpipe_profile::{Profiles, merge};

use super::labels::Identity;
use super::names::{self, SampleTypes};
use super::push::{Malformed, Series};
use super::query::{Format, Query};
use super::text;
use super::{dotnet, multipart, scripting};

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConvertError {
    /// It breaks a rule; sent again it will be refused again.
    #[error("{0}")]
    Invalid(String),
    /// It holds more than is allowed.
    #[error("{0}")]
    TooLarge(String),
    /// It is in a format that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// There is no room for it now.
    #[error("the memory budget is used up; come again later")]
    Busy,
}

/// Takes so many bytes of the memory budget; false if there is no room.
pub(super) type Pay<'a> = &'a mut dyn FnMut(usize) -> bool;

/// How much is decompressed at a time.
const CHUNK_BYTES: usize = 64 << 10;

impl From<Malformed> for ConvertError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Invalid(what)
    }
}

/// The profiles of a push request.
///
/// # Errors
/// If anything in it is wrong, or all profiles together take more than `limit`.
pub(super) fn push(
    series: Vec<Series>,
    limit: ByteSize,
    pay: Pay<'_>,
) -> Result<Profiles, ConvertError> {
    let mut left = limit.0;
    let mut all = Vec::new();
    for (at, one) in series.into_iter().enumerate() {
        let within = |what: String| format!("push series with index {at} failed: {what}");
        let identity = Identity::of(one.labels)
            .map_err(|Malformed(what)| ConvertError::Invalid(within(what)))?;
        for profile in one.profiles {
            let decoded =
                pprof(&profile, &mut left, limit, false, pay).map_err(|refused| match refused {
                    ConvertError::Invalid(what) => ConvertError::Invalid(within(what)),
                    ConvertError::TooLarge(what) => ConvertError::TooLarge(within(what)),
                    ConvertError::Unsupported(what) => ConvertError::Unsupported(within(what)),
                    ConvertError::Busy => ConvertError::Busy,
                })?;
            let Some(mut decoded) = decoded else { continue };
            identity.put_on(&mut decoded);
            all.push(decoded);
        }
    }
    Ok(merged(all))
}

/// The profiles of a request to `/ingest`.
///
/// # Errors
/// As [`push`].
pub(super) fn ingest(
    query: &Query,
    content_type: &str,
    body: &Bytes,
    limit: ByteSize,
    pay: Pay<'_>,
) -> Result<Profiles, ConvertError> {
    let (profile, sample_types) = match query.format {
        Format::Unsupported(name) => {
            return Err(ConvertError::Unsupported(format!(
                "format {name} is not supported; accepted are pprof (plain, gzip, or as the field \
                 `profile` of a form), folded or groups (`a;b;c 12`) and lines (`a;b;c`)"
            )));
        }
        Format::Groups | Format::Lines => {
            let (name, app) = text::named(&query.app)?;
            if body.len() as u64 > limit.0 {
                return Err(ConvertError::TooLarge(too_large(limit)));
            }
            // Names, functions, locations and stacks of it.
            if !pay(body.len().saturating_mul(2)) {
                return Err(ConvertError::Busy);
            }
            let mut profiles = text::decode(body, query)?;
            if profiles.sample_count() == 0 {
                return Ok(Profiles::new());
            }
            identity(query, name.to_owned(), app)?.put_on(&mut profiles);
            return Ok(profiles);
        }
        Format::Multipart => {
            let form = multipart::read(content_type, body)?;
            (body.slice_ref(form.profile), SampleTypes::read(form.sample_types)?)
        }
        Format::Pprof => (body.clone(), SampleTypes::usual()),
    };
    let is_dotnet = sample_types.is_dotnet(&query.spy);
    let mut left = limit.0;
    let Some(mut profiles) = pprof(&profile, &mut left, limit, is_dotnet, pay)? else {
        return Ok(Profiles::new());
    };
    if is_dotnet {
        names::underscore(&mut profiles);
    }
    if scripting::has_files_in_names(&query.spy) {
        // A long file name may be that of many functions.
        let bytes = scripting::bytes_of_names(&profiles.dictionary, &query.spy);
        if bytes > limit.0 {
            return Err(ConvertError::TooLarge(too_large(limit)));
        }
        if !pay(usize::try_from(bytes).unwrap_or(usize::MAX)) {
            return Err(ConvertError::Busy);
        }
        scripting::put_files_in_names(&mut profiles.dictionary, &query.spy);
    }
    // Agents that do not know the time write one near the epoch.
    const YEAR_1970: u64 = 365 * 86_400 * 1_000_000_000;
    for profile in profiles.profiles_mut() {
        if profile.time_unix_nano < YEAR_1970 {
            profile.time_unix_nano = query.from;
        }
        if profile.duration_nano == 0 {
            profile.duration_nano = query.until.saturating_sub(query.from);
        }
    }
    let name = sample_types.name(&profiles);
    identity(query, name, &query.app)?.put_on(&mut profiles);
    Ok(profiles)
}

/// One profile; nothing for no bytes, which some agents send when nothing happened. `left` is how many
/// bytes it may have once it is decompressed, and then how many are left.
fn pprof(
    profile: &[u8],
    left: &mut u64,
    limit: ByteSize,
    is_dotnet: bool,
    pay: Pay<'_>,
) -> Result<Option<Profiles>, ConvertError> {
    if profile.is_empty() {
        return Ok(None);
    }
    let allowed = *left;
    let mut plain = decompress(profile, allowed, limit, pay)?;
    *left = left.saturating_sub(plain.len() as u64);
    if is_dotnet {
        if !pay(plain.len()) {
            return Err(ConvertError::Busy);
        }
        if let Some(repaired) = dotnet::with_function_ids(&plain) {
            plain = repaired.into();
        }
    }
    // The tables take about as much again.
    if !pay(plain.len()) {
        return Err(ConvertError::Busy);
    }
    match pprof::decode_bounded(&plain, usize::try_from(allowed).unwrap_or(usize::MAX)) {
        Ok(profiles) => Ok(Some(profiles)),
        Err(DecodeError::Empty) => Ok(None),
        Err(DecodeError::TooLarge { .. }) => Err(ConvertError::TooLarge(too_large(limit))),
        Err(error @ DecodeError::TooMuchMemory { .. }) => {
            Err(ConvertError::TooLarge(error.to_string()))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(ConvertError::Invalid(format!("{error}{cause}")))
        }
    }
}

/// Decompresses a profile piece by piece, each paid for before it is kept.
fn decompress<'a>(
    profile: &'a [u8],
    left: u64,
    limit: ByteSize,
    pay: Pay<'_>,
) -> Result<Cow<'a, [u8]>, ConvertError> {
    if !profile.starts_with(&[0x1f, 0x8b]) {
        return Ok(profile.into());
    }
    let mut reader = MultiGzDecoder::new(profile);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut plain = Vec::new();
    loop {
        let read = reader
            .read(&mut chunk)
            .map_err(|error| ConvertError::Invalid(format!("the gzip data is damaged: {error}")))?;
        if read == 0 {
            return Ok(plain.into());
        }
        if (plain.len() + read) as u64 > left {
            return Err(ConvertError::TooLarge(too_large(limit)));
        }
        if !pay(read) {
            return Err(ConvertError::Busy);
        }
        plain.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
}

fn too_large(limit: ByteSize) -> String {
    format!("the profiles take more than {limit} decompressed (max_decompressed_size)")
}

fn merged(mut all: Vec<Profiles>) -> Profiles {
    match all.len() {
        1 => all.pop().unwrap_or_default(),
        _ => merge(all),
    }
}

/// Who is profiled, by a query.
fn identity(query: &Query, name: String, app: &str) -> Result<Identity, Malformed> {
    let mut labels = vec![
        ("__name__".to_owned(), name),
        ("__delta__".to_owned(), "false".to_owned()),
        ("pyroscope_spy".to_owned(), query.spy.clone()),
    ];
    let is_text = matches!(query.format, Format::Groups | Format::Lines);
    let allowed = query.labels.iter().filter(|(name, _)| !name.starts_with("__"));
    labels.extend(allowed.filter(|(name, _)| name != "pyroscope_spy").cloned());
    let has = |wanted: &str| labels.iter().any(|(name, _)| name == wanted);
    if !has("service_name") {
        labels.push(("service_name".to_owned(), app.to_owned()));
    } else if is_text && !has("app_name") {
        labels.push(("app_name".to_owned(), app.to_owned()));
    }
    Identity::of(labels)
}
