//! Which format some bytes are of.
//!
//! Text and protobuf differ in control characters, which protobuf has in every key of a message.
//! pprof and OTLP both begin with field 1, but only pprof has a field 6, its strings, and every
//! pprof profile has that; OTLP has fields 1 and 2. The length before a request is of four bytes, the
//! first of them small, which no protobuf message can begin with.

use super::{Format, requests, without_mark};
use crate::pprof::{foreign_text, top_fields};

/// How much of a file is looked at to tell text from other bytes.
const LOOKED_AT: usize = 4 << 10;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Pprof,
    Otlp,
    /// Requests of OTLP, each after its length.
    OtlpAfterLengths,
    /// A JSON object: most likely OTLP.
    Json,
    Folded,
    /// Something known that is not read.
    Foreign(&'static str),
}

/// How data compressed with zstd starts.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Starts of files that are not read, and what they are.
const FOREIGN: &[(&[u8], &str)] = &[
    (
        b"PERFILE2",
        "a recording of `perf record`, which is not read: take `perf script` and collapse its stacks",
    ),
    (b"FLR\0", "a recording of Java Flight Recorder, which is not read"),
    (ZSTD, "compressed with zstd: decompress it first"),
    (b"\x7fELF", "an executable, not a profile"),
];

/// Tells what some bytes are, by themselves; where they do not say, by the format that the name of
/// the file stands for.
pub(super) fn detect(bytes: &[u8], named: Option<Format>) -> Content {
    if let Some((_, what)) = FOREIGN.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Content::Foreign(what);
    }
    if bytes.get(4..).is_some_and(|rest| rest.starts_with(ZSTD)) {
        return Content::Foreign("requests compressed with zstd one by one, which are not read");
    }
    if is_text(bytes) {
        return text(bytes);
    }
    match top_fields(bytes) {
        Some(fields) if fields.contains(6) => Content::Pprof,
        Some(fields) if fields.are_within(&[1, 2]) && named != Some(Format::Pprof) => Content::Otlp,
        None if requests::has_lengths(bytes) => Content::OtlpAfterLengths,
        _ => match named {
            Some(Format::Otlp) => Content::Otlp,
            Some(Format::OtlpJson | Format::Speedscope | Format::CpuProfile) => Content::Json,
            Some(Format::Folded) => Content::Folded,
            Some(Format::Pprof) | None => Content::Pprof,
        },
    }
}

fn text(bytes: &[u8]) -> Content {
    let text = without_mark(bytes).trim_ascii_start();
    let object = text.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    if object.is_some_and(|inside| {
        inside.is_empty() || inside.starts_with(b"\"") || inside.starts_with(b"}")
    }) {
        return Content::Json;
    }
    if let Some(what) = foreign_text(text) {
        return Content::Foreign(what);
    }
    let start: Vec<u8> = text.iter().take(9).map(u8::to_ascii_lowercase).collect();
    let is_markup = [&b"<!doctype"[..], b"<html", b"<?xml", b"<svg"];
    if is_markup.iter().any(|tag| start.starts_with(tag)) {
        let head = text.get(..1024).unwrap_or(text);
        if head.windows(4).any(|bytes| bytes == b"<svg") {
            return Content::Foreign("a picture, such as a flame graph, which cannot be read");
        }
        return Content::Foreign("HTML or XML, not a profile");
    }
    Content::Folded
}

/// Whether bytes are text: in UTF-16 with a mark, or without control characters but those that a
/// text, or a name in it, may have.
fn is_text(bytes: &[u8]) -> bool {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return true;
    }
    let allowed = |byte: &u8| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    bytes.iter().take(LOOKED_AT).all(allowed)
}
