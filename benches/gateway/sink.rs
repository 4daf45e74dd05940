//! The sink: takes requests by HTTP/1.1, counts their samples by a walk over lengths, keeps them, and
//! reads them when nothing is measured any more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::server::Server;

#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    samples: AtomicUsize,
    bodies: Mutex<Vec<Vec<u8>>>,
    silent: Mutex<Option<Instant>>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let sink = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&sink.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || while_open(&mut BufReader::new(stream), &state));
            }
        });
        sink
    }

    /// From now on, and so long, it answers nothing.
    pub(crate) fn be_silent(&self, time: Duration) {
        *self.state.silent.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Until so many samples have arrived.
    pub(crate) fn wait_for(&self, samples: usize, server: &Server) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.state.samples.load(Ordering::Relaxed) < samples {
            assert!(Instant::now() < deadline, "samples are missing:\n{}", server.said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What arrived, all of it.
    pub(crate) fn contents(&self) -> Content {
        let mut contents = Content::default();
        for body in self.state.bodies.lock().unwrap().iter() {
            contents.add(&Content::of(body));
        }
        contents
    }
}

fn while_open(connection: &mut BufReader<TcpStream>, state: &State) -> Option<()> {
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let (mut length, mut chunked) = (None, false);
        loop {
            line.clear();
            connection.read_line(&mut line).ok()?;
            let lower = line.trim().to_ascii_lowercase();
            let Some((name, value)) = lower.split_once(':') else { break };
            match name {
                "content-length" => length = Some(value.trim().parse().ok()?),
                "transfer-encoding" => chunked = value.contains("chunked"),
                "content-encoding" => panic!("compressed, although told not to"),
                _ => {}
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        connection.read_exact(&mut body).ok()?;
        while chunked {
            line.clear();
            connection.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let end = body.len();
            body.resize(end + size + 2, 0);
            connection.read_exact(body.get_mut(end..)?).ok()?;
            body.truncate(end + size);
            chunked = size > 0;
        }
        let silent = *state.silent.lock().unwrap();
        if let Some(until) = silent {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        connection
            .get_mut()
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            )
            .ok()?;
        let samples = Content::samples_of(&body);
        state.bodies.lock().unwrap().push(body);
        state.samples.fetch_add(samples, Ordering::Relaxed);
    }
}
