//! Senders that mean harm, or do it: bombs, drips, nonsense.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::{Connection, PATH};
use crate::payload::{self, ATTACK};

/// What a connection does, again and again.
#[derive(Debug, Clone)]
enum Harm {
    /// A body of a few kilobytes that unfolds without end.
    Bomb(&'static str, Arc<Vec<u8>>),
    /// One byte at a time, of a body that was announced to be large.
    Drip,
    /// Bytes that are no request, or a request that is no OTLP.
    Nonsense(Arc<Vec<u8>>),
    /// Messages of two bytes by the million, each of which is a structure for whoever decodes it.
    Swell(&'static str, Arc<Vec<u8>>),
}

/// Connections at work.
#[derive(Debug)]
pub(crate) struct Attack {
    stop: Arc<AtomicBool>,
    /// How often something was tried to its end.
    pub(crate) tries: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    /// So many connections: bombs of two kinds, drips, nonsense.
    pub(crate) fn start(connections: usize, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tries = Arc::new(AtomicUsize::new(0));
        let gzip = Arc::new(gzip_bomb());
        let zstd = Arc::new(zstd_bomb());
        let swelling: Vec<_> =
            swelling().into_iter().map(|(form, bytes)| (form, Arc::new(bytes))).collect();
        let nonsense: Vec<_> = nonsense().into_iter().map(Arc::new).collect();
        let threads = (0..connections)
            .map(|at| {
                let harm = match at % 4 {
                    0 => Harm::Bomb("gzip", Arc::clone(&gzip)),
                    1 => Harm::Bomb("zstd", Arc::clone(&zstd)),
                    2 if at % 12 == 2 => {
                        let (form, bytes) = &swelling[at / 12 % swelling.len()];
                        Harm::Swell(form, Arc::clone(bytes))
                    }
                    2 => Harm::Drip,
                    _ => Harm::Nonsense(Arc::clone(&nonsense[at / 4 % nonsense.len()])),
                };
                let (stop, tries) = (Arc::clone(&stop), Arc::clone(&tries));
                let body = move || {
                    while !stop.load(Ordering::Relaxed) {
                        // It is refused or cut off; both are fine, and so is a full backlog.
                        let _ = harm.once(to, &stop);
                        tries.fetch_add(1, Ordering::Relaxed);
                        wait(&stop, 50);
                    }
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn(body).unwrap()
            })
            .collect();
        Self { stop, tries, threads }
    }

    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Harm {
    fn once(&self, to: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
        let mut connection = Connection::open(to, Duration::from_secs(5))?;
        match self {
            Self::Bomb(coding, bytes) => {
                let answer = connection.post(bytes, &format!("content-encoding: {coding}\r\n"))?;
                assert_ne!(answer.status, 200, "a bomb was taken");
            }
            // Some are good for nothing, but no mistake: whatever the answer is, there is one.
            Self::Swell(form, bytes) => drop(connection.post_as(form, bytes, "")?),
            Self::Drip => {
                let head = format!(
                    "POST {PATH} HTTP/1.1\r\nhost: gateway\r\n\
                     content-type: application/x-protobuf\r\ncontent-length: 10000000\r\n\r\n"
                );
                connection.socket().write_all(head.as_bytes())?;
                while !stop.load(Ordering::Relaxed) {
                    connection.socket().write_all(b"x")?;
                    wait(stop, 1000);
                }
            }
            Self::Nonsense(bytes) => {
                connection.socket().write_all(bytes)?;
                let answer = connection.answer()?;
                assert_ne!(answer.status, 200, "nonsense was taken");
            }
        }
        Ok(())
    }
}

/// A pause between two blows, short once there is to be none. What is waited for is time itself.
fn wait(stop: &AtomicBool, milliseconds: u64) {
    for _ in 0..milliseconds.div_ceil(10) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A gigabyte of zeros.
fn gzip_bomb() -> Vec<u8> {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Ten megabytes behave as a gigabyte does for whoever stops in time; several members make the
    // rest, without the time that packing them takes.
    bomb.write_all(&vec![0; 10 << 20]).unwrap();
    let member = bomb.finish().unwrap();
    member.repeat(100)
}

/// A frame of zstd that is 4 bytes for each 128 KiB of zeros: ten kilobytes for 320 MiB.
fn zstd_bomb() -> Vec<u8> {
    // The magic number, a header without anything optional, a window of 128 KiB.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    for at in 0..2500_u32 {
        let is_last = u32::from(at == 2499);
        // A block that repeats one byte.
        let header = is_last | 1 << 1 | (128 << 10) << 3;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb
}

/// Four megabytes of the smallest parts that a request can have, of several kinds.
fn swelling() -> Vec<(&'static str, Vec<u8>)> {
    const SIZE: usize = 4 << 20;
    let field = |number: u8, body: Vec<u8>| {
        let mut field = vec![number << 3 | 2];
        let mut length = body.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [field, body].concat()
    };
    let empty = |number: u8| [number << 3 | 2, 0].repeat(SIZE / 2);
    // What is taken of it arrives somewhere: it says that it is ours.
    let resource = field(1, field(1, field(1, ATTACK.as_bytes().to_vec())));
    let profile = |body| field(1, [resource.clone(), field(2, field(2, body))].concat());
    let mut all = vec![
        // Resources, scopes, profiles, samples.
        empty(1),
        field(1, empty(2)),
        field(1, field(2, empty(2))),
        profile(empty(2)),
        // Values of one sample, packed.
        profile(field(2, field(4, vec![1; SIZE]))),
        // Attributes of a resource.
        field(1, field(1, empty(1))),
    ];
    // Every table of the dictionary, and the locations of a stack.
    all.extend((1..=7).map(|table| field(2, empty(table))));
    all.push(field(2, field(7, field(1, vec![0; SIZE]))));
    let list = |start: &str, item: &str, end: &str| {
        [start, &format!("{item},").repeat(SIZE / (item.len() + 1)), item, end].concat()
    };
    let sample = format!(
        r#"{{"resourceProfiles":[{{"resource":{{"attributes":[{{"key":"{ATTACK}"}}]}},
           "scopeProfiles":[{{"profiles":[{{"samples":["#
    );
    let texts = [
        list(&format!(r#"{sample}{{"timestampsUnixNano":["#), "0", "]}]}]}]}]}"),
        list(&sample, "{}", "]}]}]}]}"),
        list(r#"{"dictionary":{"stringTable":["#, "null", "]}}"),
        format!(r#"{{"dictionary":{{"stringTable":["{}"]}}}}"#, r"\n".repeat(SIZE / 2)),
    ];
    let all = all.into_iter().map(|bytes| ("protobuf", bytes));
    all.chain(texts.map(|text| ("json", text.into_bytes()))).collect()
}

fn nonsense() -> Vec<Vec<u8>> {
    let request = |headers: &str, body: &[u8]| {
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: gateway\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    };
    let protobuf = "content-type: application/x-protobuf\r\n";
    let with_length = |body: &[u8], more: &str| {
        request(&format!("{protobuf}{more}content-length: {}\r\n", body.len()), body)
    };
    let good = payload::request(1);
    let half = &good[..good.len() / 2];
    vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nonsense of TLS\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n".to_vec(),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000)).into(),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1000)).into(),
        with_length(half, ""),
        with_length(&[0xff; 1000], ""),
        // A length within that is far larger than the rest.
        with_length(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x07], ""),
        with_length(&good, "content-encoding: gzip\r\n"),
        with_length(&good, "content-encoding: zstd\r\n"),
        with_length(&good, "content-encoding: nonsense\r\n"),
        with_length(&good, "otlp-profiles-development-version: 99\r\n"),
        request(&format!("{protobuf}transfer-encoding: chunked\r\n"), b"zz\r\nx\r\n0\r\n\r\n"),
        request(&format!("{protobuf}content-length: 99999999999\r\n"), b""),
        request(&format!("{protobuf}content-length: -1\r\n"), b""),
        request("content-type: application/json\r\ncontent-length: 9\r\n", b"[[[[[[[[["),
        request("content-type: text/html\r\ncontent-length: 0\r\n", b""),
    ]
}
