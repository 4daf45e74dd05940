//! The load: plain HTTP/1.1 over connections that stay open, the next request after the answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::payloads::Payload;

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Bytes a second; without it as fast as they are taken.
    pub(crate) pace: Option<f64>,
    /// How long the sink does not answer at first.
    pub(crate) silence: Duration,
}

impl Load {
    pub(crate) const CLOSED: Self = Self { connections: 8, pace: None, silence: Duration::ZERO };

    /// Sends the payloads in this order; the times to the answers, in seconds.
    pub(crate) fn send(
        self,
        server: SocketAddr,
        payloads: &[Payload],
        order: &[usize],
    ) -> Vec<f64> {
        // When each may go, in seconds from the first.
        let mut before = 0;
        let due: Vec<f64> = order
            .iter()
            .map(|&index| {
                let due = self.pace.map_or(0.0, |pace| before as f64 / pace);
                before += payloads[index].bytes.len();
                due
            })
            .collect();
        let (next, start) = (AtomicUsize::new(0), Instant::now());
        let times = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.connections {
                scope.spawn(|| {
                    let mut connection = BufReader::new(TcpStream::connect(server).unwrap());
                    connection.get_ref().set_nodelay(true).unwrap();
                    loop {
                        let position = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&index) = order.get(position) else { break };
                        let due = start + Duration::from_secs_f64(due[position]);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let began = Instant::now();
                        post(&mut connection, &payloads[index].bytes);
                        times.lock().unwrap().push(began.elapsed().as_secs_f64());
                    }
                });
            }
        });
        times.into_inner().unwrap()
    }
}

/// Until it is taken: a full queue or budget says 429 or 503, and a sender comes again.
fn post(connection: &mut BufReader<TcpStream>, body: &[u8]) {
    loop {
        let head = format!(
            "POST /v1development/profiles HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = connection.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        match answer(connection) {
            200 => return,
            429 | 503 => std::thread::sleep(Duration::from_millis(20)),
            status => panic!("status {status}"),
        }
    }
}

fn answer(connection: &mut BufReader<TcpStream>) -> u16 {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    let status = line.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no HTTP: {line:?}"));
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    status
}
