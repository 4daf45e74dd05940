//! Load: some senders that post one request after the other until they are told to stop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::ledger::Ledger;
use crate::payload;
use crate::process::PATIENCE;

/// Where senders send to. It changes when a gateway is started again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Option<SocketAddr>>>);

impl Place {
    pub(crate) fn at(address: SocketAddr) -> Self {
        let place = Self::default();
        place.set(Some(address));
        place
    }

    pub(crate) fn set(&self, address: Option<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(crate) fn get(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Senders at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) answers: Arc<Answers>,
    threads: Vec<JoinHandle<()>>,
}

/// How often which answer came.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) success: AtomicUsize,
    /// 429 and 503, all of which said when to come again.
    pub(crate) later: AtomicUsize,
    /// Anything else with a status.
    pub(crate) other: AtomicUsize,
    /// No answer.
    pub(crate) broken: AtomicUsize,
}

impl Answers {
    pub(crate) fn success(&self) -> usize {
        self.success.load(Ordering::Relaxed)
    }

    pub(crate) fn later(&self) -> usize {
        self.later.load(Ordering::Relaxed)
    }
}

impl Load {
    /// So many senders, who send at most `limit` requests together.
    pub(crate) fn start(senders: usize, limit: usize, to: &Place, ledger: &Arc<Ledger>) -> Self {
        Self::paced(senders, limit, Duration::ZERO, to, ledger)
    }

    /// The same, where each begins a request at most this often.
    pub(crate) fn paced(
        senders: usize,
        limit: usize,
        every: Duration,
        to: &Place,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Answers::default());
        let left = Arc::new(AtomicUsize::new(limit));
        let threads = (0..senders)
            .map(|_| {
                let (stop, answers, left) =
                    (Arc::clone(&stop), Arc::clone(&answers), Arc::clone(&left));
                let (to, ledger) = (to.clone(), Arc::clone(ledger));
                std::thread::spawn(move || send(&stop, &left, every, &answers, &to, &ledger))
            })
            .collect();
        Self { stop, answers, threads }
    }

    /// Lets every sender finish its request, and fails if one has failed.
    pub(crate) fn stop(mut self) -> Arc<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
        Arc::clone(&self.answers)
    }

    /// Waits until everything up to the limit has been sent.
    pub(crate) fn finish(mut self) -> Arc<Answers> {
        self.join();
        Arc::clone(&self.answers)
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(
    stop: &AtomicBool,
    left: &AtomicUsize,
    every: Duration,
    answers: &Answers,
    to: &Place,
    ledger: &Ledger,
) {
    let take =
        || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    let mut connection: Option<(SocketAddr, Connection)> = None;
    let pause = || std::thread::sleep(Duration::from_millis(2));
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() < due {
            pause();
            continue;
        }
        let Some(address) = to.get() else {
            pause();
            continue;
        };
        if connection.as_ref().is_none_or(|(known, _)| *known != address) {
            match Connection::open(address, PATIENCE) {
                Ok(opened) => connection = Some((address, opened)),
                Err(_) => {
                    pause();
                    continue;
                }
            }
        }
        let Some((_, open)) = &mut connection else { continue };
        if take().is_err() {
            return;
        }
        // What is late is not made up for.
        due = (due + every).max(Instant::now());
        let id = ledger.take();
        ledger.sent(id);
        match open.post(&payload::request(id), "") {
            Ok(answer) if answer.status == 200 => {
                assert!(answer.body.is_empty(), "rejected a part of {id}: {answer:?}");
                ledger.promised(id);
                answers.success.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) if [429, 503].contains(&answer.status) => {
                let after =
                    answer.head.get("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert!(after.is_some(), "no Retry-After in {answer:?}");
                answers.later.fetch_add(1, Ordering::Relaxed);
                // Sooner than asked for: what is wanted here is load.
                pause();
            }
            Ok(answer) => {
                eprintln!("{id}: {answer:?}");
                answers.other.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                answers.broken.fetch_add(1, Ordering::Relaxed);
                connection = None;
            }
        }
    }
}
