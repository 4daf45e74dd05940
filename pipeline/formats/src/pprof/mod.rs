//! pprof: the format of google/pprof, to and from [`profpipe_profile`].
//!
//! [`decode`] accepts and rejects what google/pprof's `profile.ParseData` does, except that it
//! reads protobuf only: the text and binary formats of before 2016 are named and refused.
//!
//! # What becomes what
//! A file becomes one resource without attributes and one scope, with one profile for each sample
//! type; the profiles share stacks and hold a row for each sample. The profile of the type that pprof
//! shows first, the last unless the file names one, trades places with the first, since that is the one
//! that OTLP shows; writing a batch that came from no file does the same. What the model has no field for
//! becomes an attribute of the semantic conventions' `pprof.*`, see
//! [`attribute_names`](profpipe_profile::attribute_names).
//!
//! | pprof | model |
//! |---|---|
//! | label with a text | sample attribute, text |
//! | label with a number (also 0) and a unit | sample attribute, int, with the unit |
//! | several labels with one key | sample attribute, array |
//! | labels `trace_id` and `span_id`, in small hex digits and not zero | the sample's link |
//! | mapping's build id | `…build_id.go` if it has a slash, else `…build_id.gnu` |
//! | last comment `profpipe.samples.lost=N` | profile attribute `profpipe.samples.lost` |
//! | no sample type at all | one profile without a type, `pprof.scope.sample_type_order` = [] |
//!
//! Texts that are not UTF-8 get replacement characters. Functions and locations that no sample uses
//! are not written back; mappings are, in order, because the first stands for the program.
//!
//! # Several resources into one file
//! [`encode`] writes any batch as one file. The attributes of a sample's resource become labels of
//! it, under their own names; a sample's own attribute of that name wins. A link becomes the labels
//! `trace_id` and `span_id`. Profiles of one scope with equal time, duration and period are columns
//! of the same rows; a row that a profile lacks has 0 there. The columns of the file are the
//! sample types of all resources: where a resource has no profile of a type its rows have 0 there,
//! which changes no sum. Interval, comments and losses are united; the period is the first that
//! any profile states. Timestamps become their count, or the sum of their values.
//!
//! What pprof has no place for is left out: scope names, frame types, the reason why a frame has
//! no name, ids of profiles. Attributes that are neither text nor number become text.

mod attributes;
mod decode;
mod default_type;
mod encode;
mod labels;
mod wire;

use std::fmt;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use profpipe_profile::Profiles;

pub use wire::Writer;

pub use attributes::file_order;
pub(crate) use attributes::{find as find_attribute, text as attribute_text};
pub(crate) use decode::{foreign_text, inflate, top_fields};
pub(crate) use default_type::default_type;

/// The size that [`decode`] allows a profile to have decompressed, in bytes, and its samples to take
/// in memory.
pub const DEFAULT_LIMIT: usize = 256 << 20;

/// What a value takes in memory; in a file it takes a byte or more.
const VALUE_BYTES: usize = 32;

/// Why a profile could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes, or none after decompression.
    #[error("the profile is empty")]
    Empty,
    /// The gzip stream is damaged.
    #[error("the gzip data is damaged")]
    Gzip(#[source] std::io::Error),
    /// The profile has more bytes than allowed, once it is decompressed.
    #[error("the profile takes more than {} decompressed", Bytes(*limit))]
    TooLarge {
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// The tables made of the profile take more memory than allowed: each sample has a row for every
    /// sample type.
    #[error("the samples of the profile take more than {} of memory", Bytes(*limit))]
    TooMuchMemory {
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// The bytes are of a known format that is not pprof's protobuf.
    #[error("{0}")]
    Foreign(&'static str),
    /// Several profiles were written one after the other.
    #[error("several pprof profiles in one file")]
    Concatenated,
    /// The bytes break a rule of the format.
    #[error("not a valid pprof profile: {0}")]
    Malformed(String),
}

/// Why a batch could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The profile is larger than [`decode`] reads: too many samples, each with the labels of its
    /// resource.
    #[error("as one pprof file it takes more than {}", Bytes(*limit))]
    TooLarge {
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The profile has more values than [`decode`] reads: each sample has one for every sample type of
    /// the batch.
    #[error("as one pprof file it has more than {limit} values, samples times sample types")]
    TooManyValues {
        /// How many are allowed.
        limit: usize,
    },
    /// Compression failed.
    #[error("cannot compress the profile")]
    Gzip(#[source] std::io::Error),
}

/// A size as people write it: whole mebibytes or kibibytes where it is a multiple of one.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Reads a profile, compressed or not, that takes up to [`DEFAULT_LIMIT`] of memory.
///
/// # Errors
/// If the bytes are not a valid profile.
pub fn decode(data: &[u8]) -> Result<Profiles, DecodeError> {
    decode_bounded(data, DEFAULT_LIMIT)
}

/// Reads a profile, compressed or not, that has up to `limit` bytes decompressed.
///
/// What is made of its samples may take more memory than that: up to 32 bytes for each byte of the
/// limit, which is what the values of a profile take, and up to [`DEFAULT_LIMIT`] or the limit,
/// whichever is more.
///
/// # Errors
/// If the bytes are not a valid profile, or a limit does not suffice.
pub fn decode_bounded(data: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    decode::decode(data, limit)
}

/// Reads a profile that is not compressed (any more), of up to [`DEFAULT_LIMIT`] of memory.
pub(crate) fn decode_decompressed(message: &[u8]) -> Result<Profiles, DecodeError> {
    decode::decode_plain(message, DEFAULT_LIMIT)
}

/// Writes a batch as one profile, compressed.
///
/// # Errors
/// If the batch does not fit one file.
pub fn encode(profiles: &Profiles) -> Result<Vec<u8>, EncodeError> {
    let mut output = GzEncoder::new(Vec::new(), Compression::default());
    output.write_all(&encode_plain(profiles)?).map_err(EncodeError::Gzip)?;
    output.finish().map_err(EncodeError::Gzip)
}

/// Writes a batch as one profile, not compressed.
///
/// # Errors
/// If the batch does not fit one file.
pub fn encode_plain(profiles: &Profiles) -> Result<Vec<u8>, EncodeError> {
    encode::encode(profiles)
}
