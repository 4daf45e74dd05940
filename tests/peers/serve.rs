//! A small HTTP/1.1 server for tests: says what it is told to, and keeps what it was sent. One request
//! a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Names in lower case, values as they came.
    pub(crate) headers: Vec<(String, String)>,
    /// Decompressed.
    pub(crate) body: Vec<u8>,
    /// As it came, in one piece.
    pub(crate) raw: Vec<u8>,
}

impl Request {
    /// The first value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// A server for as long as the test runs.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    /// Shared with each connection that is served.
    open: Arc<()>,
}

impl Server {
    /// `answer` gives status and body for the n-th request of a path.
    pub(crate) fn start(
        answer: impl Fn(&Request, usize) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, seen: Arc::default(), open: Arc::default() };
        let (seen, answer) = (Arc::clone(&server.seen), Arc::new(answer));
        let open = Arc::downgrade(&server.open);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let open = open.upgrade();
                std::thread::spawn(move || {
                    serve(&stream, &seen, &*answer);
                    drop(open);
                });
            }
        });
        server
    }

    /// Whether nothing is served right now.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.open) == 1
    }

    /// What was sent so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(&Request, usize) -> (u16, Vec<u8>),
) -> Option<()> {
    let request = read(stream)?;
    let number = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seen.iter().filter(|earlier| earlier.path == request.path).count();
        seen.push(request.clone());
        number
    };
    let (status, body) = answer(&request, number);
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/octet-stream\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_ascii_whitespace().nth(1)?.to_owned();
    let (mut length, mut chunked, mut gzip) = (0_u64, false, false);
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => chunked = value.contains("chunked"),
            "content-encoding" => gzip = value.contains("gzip"),
            "expect" => {
                let mut stream = stream;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            }
            _ => {}
        }
        headers.push((name, value));
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let size = u64::from_str_radix(line.trim(), 16).ok()?;
            (&mut reader).take(size + 2).read_to_end(&mut body).ok()?;
            body.truncate(body.len().checked_sub(2)?);
            if size == 0 {
                break;
            }
        }
    } else {
        reader.take(length).read_to_end(&mut body).ok()?;
    }
    let raw = body.clone();
    if gzip {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    Some(Request { path, headers, body, raw })
}
