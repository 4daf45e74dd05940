//! Profile files as they lie about: of any format, told by their content.
//!
//! Tools name files as they like (`cpu.prof`, `heap`, `out.txt`), so [`decode`] looks at what is in
//! them, decompressed if they are gzip. A name counts only where the content does not tell, for
//! which format an error is about. Beside single requests of OTLP it reads what the OpenTelemetry
//! Collector's `file` exporter writes: a request a line in JSON, or each after its length in protobuf.
//!
//! What was not taken as it stands is returned in words, for a person to see.

mod detect;
mod requests;
#[cfg(test)]
mod tests;

use profpipe_profile::Profiles;
use serde::de::IgnoredAny;

use self::detect::{Content, detect};
use crate::{cpuprofile, folded, otlp, pprof, speedscope};

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// pprof.
    Pprof,
    /// OTLP in protobuf.
    Otlp,
    /// OTLP in JSON.
    OtlpJson,
    /// Collapsed stacks.
    Folded,
    /// A file of speedscope.
    Speedscope,
    /// A CPU profile of V8.
    CpuProfile,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is of a known format that is not read.
    #[error("{0}")]
    Foreign(&'static str),
    /// It is not pprof, or not valid.
    #[error(transparent)]
    Pprof(#[from] pprof::DecodeError),
    /// It is not OTLP, or not valid.
    #[error(transparent)]
    Otlp(#[from] otlp::DecodeError),
    /// One of several requests of OTLP is not valid.
    #[error("request {number}: {cause}")]
    Request {
        /// The number of the request, from 1.
        number: usize,
        /// What is wrong with it.
        cause: otlp::DecodeError,
    },
    /// It is a file of speedscope, but not valid.
    #[error(transparent)]
    Speedscope(#[from] speedscope::DecodeError),
    /// It is a CPU profile of V8, but not valid.
    #[error(transparent)]
    CpuProfile(#[from] cpuprofile::DecodeError),
    /// It is not collapsed stacks.
    #[error(transparent)]
    Folded(#[from] folded::DecodeError),
}

/// What was read of a file.
#[derive(Debug)]
pub struct Decoded {
    /// The profiles.
    pub profiles: Profiles,
    /// The format.
    pub format: Format,
    /// What was not taken as it stands: skipped lines and the like.
    pub notes: Vec<String>,
}

/// Reads a file. `named` is the format that its name stands for, if it stands for one.
///
/// # Errors
/// If the content is of no format that is read, or is damaged.
pub fn decode(content: &[u8], named: Option<Format>) -> Result<Decoded, DecodeError> {
    let plain = pprof::inflate(content, pprof::DEFAULT_LIMIT.max(content.len()))?;
    if plain.is_empty() {
        return Err(DecodeError::Empty);
    }
    let mut notes = Vec::new();
    let (format, profiles) = match detect(&plain, named) {
        Content::Foreign(what) => return Err(DecodeError::Foreign(what)),
        Content::Pprof => (Format::Pprof, pprof::decode_decompressed(&plain)?),
        Content::Otlp => (Format::Otlp, otlp::decode(&plain)?),
        Content::OtlpAfterLengths => (Format::Otlp, requests::after_lengths(&plain, &mut notes)?),
        Content::Json => json(&plain, &mut notes)?,
        Content::Folded => match (folded::decode_file(&plain), named) {
            (Ok((profiles, deviations)), _) if is_likely(&deviations, named) => {
                add_notes(&deviations, &mut notes);
                (Format::Folded, profiles)
            }
            // A text that is not what its name says, and no text of stacks either.
            (_, Some(Format::Pprof)) => (Format::Pprof, pprof::decode_decompressed(&plain)?),
            (_, Some(Format::Otlp)) => (Format::Otlp, otlp::decode(&plain)?),
            (_, Some(Format::OtlpJson)) => (Format::OtlpJson, otlp::decode_json(&plain)?),
            (decoded, _) => (Format::Folded, decoded?.0),
        },
    };
    Ok(Decoded { profiles, format, notes })
}

/// Reads JSON: OTLP, or what else has keys of its own.
fn json(plain: &[u8], notes: &mut Vec<String>) -> Result<(Format, Profiles), DecodeError> {
    let error = match requests::json(plain, notes) {
        Ok(profiles) => return Ok((Format::OtlpJson, profiles)),
        Err(error) => error,
    };
    let plain = without_mark(plain);
    match serde_json::from_slice(plain) {
        Ok(Keys { shared: Some(_), profiles: Some(_), .. }) => {
            Ok((Format::Speedscope, speedscope::decode(plain)?))
        }
        Ok(Keys { nodes: Some(_), .. }) => Ok((Format::CpuProfile, cpuprofile::decode(plain)?)),
        _ => Err(error),
    }
}

/// The keys by which formats in JSON are told apart.
#[derive(serde::Deserialize)]
struct Keys {
    shared: Option<IgnoredAny>,
    profiles: Option<IgnoredAny>,
    nodes: Option<IgnoredAny>,
}

/// A text without its byte order mark.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// Whether a text is of stacks: where the name says something else, all of it has to be.
fn is_likely(deviations: &folded::Deviations, named: Option<Format>) -> bool {
    matches!(named, None | Some(Format::Folded)) || deviations.skipped == 0
}

fn add_notes(deviations: &folded::Deviations, notes: &mut Vec<String>) {
    let lines =
        |count: usize| if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    if let Some((line, problem)) = &deviations.first_skipped {
        let skipped = lines(deviations.skipped);
        notes.push(format!("skipped {skipped}, the first is line {line}: {problem}"));
    }
    if deviations.fractions > 0 {
        let rounded = lines(deviations.fractions);
        notes.push(format!(
            "{rounded} with a fraction in the count, rounded so that the sum is right"
        ));
    }
}
