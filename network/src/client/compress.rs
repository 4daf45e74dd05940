//! Compressing what is sent, and unpacking the little that comes back.

use std::cell::RefCell;
use std::io::{self, Read as _};

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use crate::settings::Compression;

/// Bodies larger than this are compressed on a thread for blocking work: it takes about a
/// millisecond for each 300 KiB, and other connections would wait.
const ASIDE_BYTES: usize = 256 << 10;
/// The largest window of zstd that we make room for when unpacking, as a power of two: 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;
/// The level that `-1` stands for. On OTLP profiles of 0.2 to 0.5 MB, one core: gzip packs 280 MB/s at
/// level 1 into 0.33 to 0.41 of the size, and 62 to 83 MB/s at level 6, which other programs use, into
/// 0.25 to 0.31; zstd packs 420 to 480 MB/s at level 1 into 0.29 to 0.34.
const DEFAULT_LEVEL: i32 = 1;

/// Compresses a body. Without compression it is the same bytes, not a copy.
///
/// # Errors
/// If the library fails, which it has no reason to.
pub fn compress(body: &Bytes, how: Compression, level: i32) -> io::Result<Bytes> {
    let level = if level < 0 { DEFAULT_LEVEL } else { level };
    match how {
        Compression::None => Ok(body.clone()),
        Compression::Gzip => gzip(body, level.unsigned_abs().min(9)).map(Bytes::from),
        Compression::Zstd => zstd::bulk::compress(body, level).map(Bytes::from),
    }
}

thread_local! {
    /// To set up the tables of a compressor takes as long as to compress 3 KiB with it.
    static GZIP: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

/// The largest window, as a power of two: any reader has room for it.
const WINDOW_BITS: u8 = 15;

fn gzip(body: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let kept = GZIP.take().filter(|(kept, _)| *kept == level);
    let (_, mut state) = kept.unwrap_or_else(|| {
        (level, Compress::new_gzip(flate2::Compression::new(level), WINDOW_BITS))
    });
    state.reset();
    let mut packed = Vec::with_capacity(body.len() / 2 + 64);
    loop {
        let rest = body.get(state.total_in() as usize..).unwrap_or_default();
        if state.compress_vec(rest, &mut packed, FlushCompress::Finish)? == Status::StreamEnd {
            break;
        }
        packed.reserve(body.len() / 4 + 64);
    }
    GZIP.set(Some((level, state)));
    Ok(packed)
}

/// As [`compress`], beside the connections if it takes long.
///
/// # Errors
/// As [`compress`].
pub async fn compress_aside(body: Bytes, how: Compression, level: i32) -> io::Result<Bytes> {
    if body.len() <= ASIDE_BYTES || how == Compression::None {
        return compress(&body, how, level);
    }
    let work = profpipe_engine::overhead::aside(move || compress(&body, how, level));
    work.await.map_err(io::Error::other)?
}

/// Unpacks a body of at most `limit` bytes unpacked.
///
/// # Errors
/// If it is broken or larger.
pub fn decompress(body: &[u8], how: Compression, limit: usize) -> io::Result<Bytes> {
    let limit = limit as u64;
    let mut unpacked = Vec::new();
    match how {
        Compression::None => unpacked.extend_from_slice(body),
        Compression::Gzip => {
            let decoder = flate2::read::MultiGzDecoder::new(body);
            decoder.take(limit + 1).read_to_end(&mut unpacked)?;
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            decoder.take(limit + 1).read_to_end(&mut unpacked)?;
        }
    }
    if unpacked.len() as u64 > limit {
        return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
    }
    Ok(unpacked.into())
}
