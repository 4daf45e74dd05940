//! A debuginfod server of a test's own, which answers as the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does about a request.
#[derive(Clone)]
pub(in super::super) enum Reply {
    /// A file, whole.
    File(Vec<u8>),
    /// A file whose end the connection tells, not the head.
    Unframed(Vec<u8>),
    /// This status.
    Status(u16),
    /// Elsewhere.
    Redirect(String),
    /// The first half of a file, then the end of the connection.
    Cut(Vec<u8>),
    /// A file, after a while.
    Late(Duration, Vec<u8>),
    /// Zeros for ever.
    Endless,
    /// Nothing at all.
    Hang,
}

/// A server on a free port of the loopback. It ends with the test program.
pub(in super::super) struct Server {
    pub(in super::super) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    most: Arc<AtomicUsize>,
}

impl Server {
    /// Answers requests for a path.
    pub(in super::super) fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (keep, top, answer) = (Arc::clone(&seen), Arc::clone(&most), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keep, answer) = (Arc::clone(&keep), Arc::clone(&answer));
                let (now, top) = (Arc::clone(&now), Arc::clone(&top));
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(path) = request(&mut reader) {
                        keep.lock().unwrap().push(path.clone());
                        top.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let goes_on = reply(&stream, answer(&path));
                        now.fetch_sub(1, Ordering::SeqCst);
                        if goes_on.is_none() {
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen, most }
    }

    /// Serves files by the name of their URL: `ID/executable`; everything else is not found.
    pub(in super::super) fn of_files(files: &[(String, &Path)]) -> Self {
        let read = |(name, path): &(String, &Path)| {
            (format!("/buildid/{name}"), std::fs::read(path).unwrap())
        };
        let files: HashMap<_, _> = files.iter().map(read).collect();
        Self::start(move |path| files.get(path).cloned().map_or(Reply::Status(404), Reply::File))
    }

    pub(in super::super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths that were asked for.
    pub(in super::super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests were under way at once, at most.
    pub(in super::super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Reads a request; its path.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    Some(path)
}

/// Answers; none if the connection ends.
fn reply(mut stream: &TcpStream, reply: Reply) -> Option<()> {
    let mut head =
        |status: u16, headers: &str| write!(stream, "HTTP/1.1 {status} x\r\n{headers}\r\n").ok();
    match reply {
        Reply::File(file) => {
            head(200, &format!("content-length: {}\r\n", file.len()))?;
            stream.write_all(&file).ok()
        }
        Reply::Unframed(file) => {
            head(200, "connection: close\r\n")?;
            stream.write_all(&file).ok()?;
            None
        }
        Reply::Status(status) => head(status, "content-length: 0\r\n"),
        Reply::Redirect(to) => head(302, &format!("location: {to}\r\ncontent-length: 0\r\n")),
        Reply::Cut(file) => {
            head(200, &format!("content-length: {}\r\n", file.len()))?;
            stream.write_all(&file[..file.len() / 2]).ok()?;
            None
        }
        Reply::Late(pause, file) => {
            std::thread::sleep(pause);
            head(200, &format!("content-length: {}\r\n", file.len()))?;
            stream.write_all(&file).ok()
        }
        Reply::Endless => {
            head(200, "transfer-encoding: chunked\r\n")?;
            while stream.write_all(b"1000\r\n").is_ok() {
                stream.write_all(&[0; 4096]).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
            None
        }
        Reply::Hang => {
            std::thread::sleep(Duration::from_secs(600));
            None
        }
    }
}
