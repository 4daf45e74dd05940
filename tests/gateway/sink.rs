//! A backend that takes OTLP over HTTP, remembers what arrived, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::{Head, PATH};
use crate::ledger::Ledger;
use crate::payload;

/// What a backend does with a request that it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes it.
    Take,
    /// Answers this status, with `Retry-After` if there is one.
    Refuse(u16, Option<u32>),
    /// Takes those whose number is not divided by this, and answers 400 to the others.
    Poison(u64),
    /// Takes what is not larger than so many bytes, and answers 413 to the rest.
    Small(usize),
    /// Takes it, and closes the connection after so many bytes of the answer.
    Cut(usize),
    /// As [`Mood::Cut`], after one byte more each time; takes everything after so many of them.
    CutEach(usize),
    /// Takes it, and writes the answer byte by byte with this wait between them.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Does any of these, by turns.
    Anything,
}

/// A running backend.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    mood: Mutex<Mood>,
    turn: AtomicUsize,
    stop: AtomicBool,
    /// How often each status was answered.
    answers: Mutex<BTreeMap<u16, usize>>,
    /// What went wrong in a thread of it.
    trouble: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Sink {
    pub(crate) fn start(ledger: &Arc<Ledger>, mood: Mood) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), ledger, mood)
    }

    /// Starts one at an address, as after a time in which it was down.
    pub(crate) fn start_at(address: SocketAddr, ledger: &Arc<Ledger>, mood: Mood) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            mood: Mutex::new(mood),
            turn: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            answers: Mutex::default(),
            trouble: Mutex::default(),
            open: Mutex::default(),
        });
        let taken = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if taken.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&taken)) else { continue };
                lock(&shared.open).push(stream.try_clone().unwrap());
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn be(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// How often this status was answered.
    pub(crate) fn answered(&self, status: u16) -> usize {
        lock(&self.shared.answers).get(&status).copied().unwrap_or(0)
    }

    /// How often anything was answered.
    pub(crate) fn requests(&self) -> usize {
        self.shared.turn.load(Ordering::Relaxed)
    }

    /// Fails if anything that arrived was wrong.
    #[track_caller]
    pub(crate) fn check(&self) {
        let trouble = lock(&self.shared.trouble);
        assert!(trouble.is_empty(), "{}", trouble.join("\n"));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        // A connection that breaks is a sender that has gone.
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Ok(Some(head)) = Head::read(&mut reader) {
            let Ok(body) = head.read_body(&mut reader) else { return };
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = match unpack(&head, body) {
                Ok(body) => body,
                Err(error) => {
                    lock(&self.trouble).push(format!("{head:?}: {error}"));
                    return;
                }
            };
            if head.first != format!("POST {PATH} HTTP/1.1") {
                lock(&self.trouble).push(format!("not a request for profiles: {}", head.first));
                return;
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            if !self.answer(turn, &body, reader.get_mut()) {
                return;
            }
        }
    }

    /// Answers one request. False if the connection is to end.
    fn answer(&self, turn: usize, body: &[u8], to: &mut TcpStream) -> bool {
        let mood = *lock(&self.mood);
        let mood = match mood {
            // What makes the other side wait is rare, or nothing else would happen.
            Mood::Anything => match turn % 64 {
                0 => Mood::Refuse(503, None),
                16 => Mood::Refuse(502, None),
                32 => Mood::Cut(turn / 64 % 60),
                at if at % 8 == 3 => Mood::Slow(Duration::from_micros(200)),
                _ => Mood::Take,
            },
            other => other,
        };
        let mood = match mood {
            Mood::CutEach(most) if turn <= most => Mood::Cut(turn),
            other => other,
        };
        let status = match mood {
            Mood::Refuse(status, _) => status,
            Mood::Poison(by) if payload::read(body).keys().any(|id| id % by == 0) => 400,
            Mood::Small(limit) if body.len() > limit => 413,
            _ => 200,
        };
        *lock(&self.answers).entry(status).or_default() += 1;
        if status == 200 && mood != Mood::Silent {
            let arrived = std::panic::AssertUnwindSafe(|| self.ledger.arrived(body));
            if let Err(panic) = std::panic::catch_unwind(arrived) {
                let text = panic.downcast_ref::<String>().cloned();
                lock(&self.trouble).push(text.unwrap_or_else(|| "a panic".into()));
            }
        }
        let after = match mood {
            Mood::Refuse(_, Some(seconds)) => format!("retry-after: {seconds}\r\n"),
            _ => String::new(),
        };
        // Long, so that there is much to cut off.
        let answer = format!(
            "HTTP/1.1 {status} Said\r\n{after}x-padding: {:120}.\r\ncontent-length: 0\r\n\r\n",
            ""
        );
        let answer = answer.as_bytes();
        let written = match mood {
            Mood::Silent => {
                // Until the other side goes.
                let _ = to.read(&mut [0]);
                return false;
            }
            Mood::Cut(bytes) => {
                let _ = to.write_all(answer.get(..bytes).unwrap_or(answer));
                let _ = to.shutdown(Shutdown::Both);
                return false;
            }
            Mood::Slow(wait) => answer.iter().try_for_each(|byte| {
                std::thread::sleep(wait);
                to.write_all(&[*byte])
            }),
            _ => to.write_all(answer),
        };
        written.is_ok()
    }
}

fn unpack(head: &Head, body: Vec<u8>) -> std::io::Result<Vec<u8>> {
    match head.get("content-encoding") {
        None | Some("identity") => Ok(body),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut unpacked)?;
            Ok(unpacked)
        }
        Some(other) => Err(std::io::Error::other(format!("the coding {other}"))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
