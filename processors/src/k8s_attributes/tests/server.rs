//! An API server of a test's own, which answers as the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Path and query.
    pub(super) target: String,
    pub(super) authorization: String,
    pub(super) accept: String,
}

impl Asked {
    pub(super) fn is_watch(&self) -> bool {
        self.target.contains("watch=true")
    }

    /// The value of a parameter, as it stands there.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}

/// What the server does about a request.
pub(super) enum Reply {
    /// This status with this body.
    Json(u16, String),
    /// Events, as they come; the stream ends when the sender does.
    Events(Receiver<String>),
    /// These events, then the connection breaks off within the next.
    Cut(Vec<String>),
    /// A body, very slowly, and never whole.
    Slow,
}

/// A server on a free port of the loopback. It ends with the test program.
pub(super) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (keep, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keep, answer) = (Arc::clone(&keep), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read(&mut reader) {
                        keep.lock().unwrap().push(request.clone());
                        if write(&stream, answer(&request)).is_none() {
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let target = line.split_whitespace().nth(1)?.to_owned();
    let mut asked = Asked { target, authorization: String::new(), accept: String::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { return Some(asked) };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = value.to_owned(),
            "accept" => asked.accept = value.to_owned(),
            _ => {}
        }
    }
}

/// Nothing if the connection is to be closed.
fn write(mut stream: &TcpStream, reply: Reply) -> Option<()> {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                           transfer-encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    match reply {
        Reply::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).ok()
        }
        Reply::Events(events) => {
            stream.write_all(CHUNKED.as_bytes()).ok()?;
            for event in events {
                // In two pieces, because a network may cut anywhere.
                let (first, second) = event.split_at(event.len() / 2);
                stream.write_all(chunk(first).as_bytes()).ok()?;
                stream.write_all(chunk(&format!("{second}\n")).as_bytes()).ok()?;
            }
            stream.write_all(b"0\r\n\r\n").ok()
        }
        Reply::Cut(events) => {
            stream.write_all(CHUNKED.as_bytes()).ok()?;
            for event in events {
                stream.write_all(chunk(&(event + "\n")).as_bytes()).ok()?;
            }
            stream.write_all(chunk("{\"type\": \"ADD").as_bytes()).ok()?;
            None
        }
        Reply::Slow => {
            stream.write_all(CHUNKED.as_bytes()).ok()?;
            loop {
                stream.write_all(chunk(" ").as_bytes()).ok()?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
