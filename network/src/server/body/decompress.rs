//! Decompression that never outgrows its limits.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use profpipe_engine::budget::Charge;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use super::{Coding, too_large};
use crate::server::rejection::Rejection;

/// A body may decompress to so many times its size …
const MAX_RATIO: usize = 200;
/// … and so many bytes more.
const SLACK_BYTES: usize = 1 << 20;
/// The largest window of zstd, as a power of two.
const WINDOW_LOG: u32 = 23;
/// So much is decompressed before it is looked whether that is too much: what a bomb costs until it is
/// rejected is the slack above and this many times the ratio, however large its chunks are.
pub(super) const STEP_BYTES: usize = 4 << 10;
/// Output of zstd is taken in pieces of this size.
const PIECE_BYTES: usize = 32 << 10;

/// Takes the bytes of a body and decompresses them.
pub(super) enum Decompressor {
    Identity(Output),
    Gzip(Box<MultiGzDecoder<Output>>),
    Zlib(Box<ZlibDecoder<Output>>),
    Zstd(Box<Zstd>),
}

pub(super) struct Zstd {
    decoder: ZstdDecoder<'static>,
    output: Output,
    piece: Vec<u8>,
    /// True between frames.
    whole: bool,
}

/// What came out.
pub(super) struct Output {
    bytes: Vec<u8>,
    /// `None` once it was given back with the body.
    charge: Option<Charge>,
    limit: usize,
    /// Bytes that went in; nothing is decompressed if it is `None`.
    input: Option<usize>,
    /// What decompression takes: from the start, and at most for its window.
    state: usize,
    window: usize,
    rejection: Option<Rejection>,
}

impl Decompressor {
    /// For a body of about `expected` bytes, if that is known, that may decompress to `limit`.
    pub(super) fn new(
        coding: Coding,
        limit: usize,
        expected: usize,
        charge: Charge,
    ) -> Result<Self, Rejection> {
        let mut output = Output {
            bytes: Vec::new(),
            charge: Some(charge),
            limit,
            input: (coding != Coding::Identity).then_some(0),
            state: coding.state(),
            window: if coding == Coding::Zstd { 1 << WINDOW_LOG } else { 0 },
            rejection: None,
        };
        output.pay(0)?;
        Ok(match coding {
            Coding::Identity => {
                // Memory that is not touched is not there yet.
                output.bytes.reserve_exact(expected.min(limit));
                Self::Identity(output)
            }
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(output))),
            Coding::Zlib => Self::Zlib(Box::new(ZlibDecoder::new(output))),
            Coding::Zstd => {
                let decoder = ZstdDecoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
                    Ok(decoder)
                });
                let decoder = decoder.map_err(|_| Rejection::busy())?;
                let piece = vec![0; PIECE_BYTES];
                Self::Zstd(Box::new(Zstd { decoder, output, piece, whole: true }))
            }
        })
    }

    /// Takes a chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Rejection> {
        let result = match self {
            Self::Identity(output) => output.write_all(chunk),
            _ => chunk.chunks(STEP_BYTES).try_for_each(|step| self.decompress(step)),
        };
        result.map_err(|error| self.explain(&error))
    }

    fn decompress(&mut self, step: &[u8]) -> io::Result<()> {
        self.output().count_input(step);
        match self {
            Self::Identity(output) => output.write_all(step),
            Self::Gzip(decoder) => decoder.write_all(step),
            Self::Zlib(decoder) => decoder.write_all(step),
            Self::Zstd(zstd) => zstd.push(step),
        }
    }

    /// The whole body, and what it takes of the budget.
    pub(super) fn finish(self) -> Result<(Bytes, Charge), Rejection> {
        let mut this = self;
        let finished = match &mut this {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Zstd(zstd) if zstd.whole => Ok(()),
            Self::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        if let Err(error) = finished {
            return Err(this.explain(&error));
        }
        let output = this.output();
        let mut bytes = std::mem::take(&mut output.bytes);
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        let mut charge = output.charge.take().ok_or_else(Rejection::busy)?;
        charge.resize(bytes.len());
        Ok((bytes.into(), charge))
    }

    fn output(&mut self) -> &mut Output {
        match self {
            Self::Identity(output) => output,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Zstd(zstd) => &mut zstd.output,
        }
    }

    fn explain(&mut self, error: &io::Error) -> Rejection {
        let name = match self {
            Self::Identity(_) => "it",
            Self::Gzip(_) => "gzip",
            Self::Zlib(_) => "zlib",
            Self::Zstd(_) => "zstd with a window of at most 8 MiB",
        };
        let rejection = self.output().rejection.take();
        rejection.unwrap_or_else(|| match error.kind() {
            io::ErrorKind::UnexpectedEof => Rejection::invalid("the compressed body was cut short"),
            _ => Rejection::invalid(format!("the body cannot be decompressed: it is not {name}")),
        })
    }
}

impl Zstd {
    fn push(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        loop {
            let status = self.decoder.run_on_buffers(chunk, &mut self.piece)?;
            let Some(piece) = self.piece.get(..status.bytes_written) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            self.output.write_all(piece)?;
            chunk = chunk.get(status.bytes_read..).unwrap_or_default();
            self.whole = status.remaining == 0;
            // A full piece may mean that more is waiting inside.
            let full = status.bytes_written == PIECE_BYTES;
            if chunk.is_empty() && (!full || self.whole) {
                return Ok(());
            }
            if status.bytes_read == 0 && status.bytes_written == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

impl Output {
    fn count_input(&mut self, chunk: &[u8]) {
        if let Some(input) = &mut self.input {
            *input += chunk.len();
        }
    }

    /// Makes the charge cover `length` bytes of output.
    fn pay(&mut self, length: usize) -> Result<(), Rejection> {
        let held = if self.input.is_some() { self.bytes.capacity().max(length) } else { length };
        // A window holds no more than what has come out.
        let needed = self.state + held + self.window.min(length);
        let Some(charge) = &mut self.charge else { return Ok(()) };
        let missing = needed.saturating_sub(charge.bytes());
        if missing > 0 && !charge.try_grow(missing) {
            return Err(Rejection::busy());
        }
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Rejection> {
        let length = self.bytes.len().saturating_add(piece.len());
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        let Some(input) = self.input else {
            self.pay(length)?;
            self.bytes.extend_from_slice(piece);
            return Ok(());
        };
        if length > input.saturating_mul(MAX_RATIO).saturating_add(SLACK_BYTES) {
            let message = format!("the body decompresses to more than {MAX_RATIO} times its size");
            return Err(Rejection::too_large(message));
        }
        if length > self.bytes.capacity() {
            let room = (self.bytes.capacity() * 2)
                .clamp(PIECE_BYTES, self.limit.max(PIECE_BYTES))
                .max(length);
            self.pay(room)?;
            self.bytes.reserve_exact(room - self.bytes.len());
        } else {
            self.pay(length)?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.append(piece) {
            Ok(()) => Ok(piece.len()),
            Err(rejection) => {
                self.rejection = Some(rejection);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
