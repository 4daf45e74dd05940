//! One HTTP/1.1 connection over a plain socket, so that a test decides about every byte.

use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where OTLP profiles are posted to.
pub(crate) const PATH: &str = "/v1development/profiles";

/// A head, request or answer: the first line and the headers, names in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads one; `None` if the other side has closed the connection before it.
    pub(crate) fn read(from: &mut impl BufRead) -> Result<Option<Self>, Error> {
        let mut head = Self::default();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return match head.first.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
            let line = line.trim_end();
            if head.first.is_empty() {
                head.first = line.to_owned();
            } else if line.is_empty() {
                return Ok(Some(head));
            } else if let Some((name, value)) = line.split_once(':') {
                head.headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
        }
    }

    /// Reads the body that follows.
    pub(crate) fn read_body(&self, from: &mut impl BufRead) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        if self.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            loop {
                let mut line = String::new();
                from.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16)
                    .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
                let start = body.len();
                body.resize(start + size, 0);
                from.read_exact(&mut body[start..])?;
                let mut end = String::new();
                from.read_line(&mut end)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length = self.get("content-length").and_then(|length| length.parse().ok());
        body.resize(length.unwrap_or(0), 0);
        from.read_exact(&mut body)?;
        Ok(body)
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A connection of a sender.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The socket, for those who write what they like.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// Posts a body; `headers` are whole lines.
    pub(crate) fn post(&mut self, body: &[u8], headers: &str) -> Result<Answer, Error> {
        self.post_as("protobuf", body, headers)
    }

    /// As [`Self::post`]; `form` is `protobuf` or `json`.
    pub(crate) fn post_as(
        &mut self,
        form: &str,
        body: &[u8],
        headers: &str,
    ) -> Result<Answer, Error> {
        let form = if form == "json" { "json" } else { "x-protobuf" };
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/{form}\r\n\
             content-length: {}\r\n{headers}\r\n",
            body.len()
        );
        let stream = self.socket();
        stream.write_all(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    /// Posts a body to a path; the content type may be followed by lines of other headers.
    pub(crate) fn post_to(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<Answer, Error> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.socket().write_all(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Result<Answer, Error> {
        let head = Head::read(&mut self.stream)?.ok_or(ErrorKind::UnexpectedEof)?;
        let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status =
            status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head.first.clone()))?;
        let body = head.read_body(&mut self.stream)?;
        Ok(Answer { status, head, body })
    }
}
