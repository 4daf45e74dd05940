//! Frames of messages: a flag, a length, the message.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes before each message.
pub const HEADER_BYTES: usize = 5;

/// What stands before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message is compressed as `grpc-encoding` says.
    pub compressed: bool,
    /// The length of the message as it travels.
    pub length: usize,
}

/// Why a body is not one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The flag is neither 0 nor 1: this is not gRPC.
    #[error("the first byte of the message is {0:#04x}, which gRPC does not know")]
    Flag(u8),
    /// The message is larger than the limit. Known from the header, before the message is read.
    #[error("a message of {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The body ends in the middle of the message.
    #[error("the body ends in the middle of a message")]
    Truncated,
    /// Something follows the message of a unary call.
    #[error("a second message in a call that has one")]
    Second,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If the flag is one that gRPC does not have, or the message is longer than `limit`.
    pub fn decode(bytes: [u8; HEADER_BYTES], limit: usize) -> Result<Self, FrameError> {
        let [flag, length @ ..] = bytes;
        // A length that this machine cannot count is over any limit.
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        match flag {
            0 | 1 if length > limit => Err(FrameError::TooLarge { length, limit }),
            0 | 1 => Ok(Self { compressed: flag == 1, length }),
            flag => Err(FrameError::Flag(flag)),
        }
    }

    /// Writes the header; `None` if the message is longer than a frame can hold (4 GiB).
    pub fn encode(self) -> Option<[u8; HEADER_BYTES]> {
        let [a, b, c, d] = u32::try_from(self.length).ok()?.to_be_bytes();
        Some([u8::from(self.compressed), a, b, c, d])
    }
}

/// The message of a unary call, as it travelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// It is compressed as `grpc-encoding` says.
    pub compressed: bool,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Reads the body of a unary call from the pieces in which it arrives.
///
/// The header is known as soon as five bytes are here ([`UnaryReader::header`]), so that memory can
/// be asked for before the rest is read. A message that arrives in one piece is not copied.
#[derive(Debug)]
pub struct UnaryReader {
    limit: usize,
    start: [u8; HEADER_BYTES],
    started: usize,
    header: Option<Header>,
    /// The only piece so far, or all pieces.
    one: Bytes,
    many: BytesMut,
}

impl UnaryReader {
    /// For messages of at most `limit` bytes, as they travel.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            start: [0; HEADER_BYTES],
            started: 0,
            header: None,
            one: Bytes::new(),
            many: BytesMut::new(),
        }
    }

    /// The header, once it is here.
    pub fn header(&self) -> Option<Header> {
        self.header
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// If this cannot become one message within the limit.
    pub fn push(&mut self, mut piece: Bytes) -> Result<(), FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let missing = HEADER_BYTES - self.started;
                let here = piece.split_to(missing.min(piece.len()));
                if let Some(room) = self.start.get_mut(self.started..self.started + here.len()) {
                    room.copy_from_slice(&here);
                }
                self.started += here.len();
                if self.started < HEADER_BYTES {
                    return Ok(());
                }
                let header = Header::decode(self.start, self.limit)?;
                self.header = Some(header);
                header
            }
        };
        if piece.is_empty() {
            return Ok(());
        }
        let have = self.one.len() + self.many.len();
        if have + piece.len() > header.length {
            return Err(FrameError::Second);
        }
        if have == 0 {
            self.one = piece;
            return Ok(());
        }
        if self.many.is_empty() {
            // Room for all of it at once: the length is within the limit, and the system gives
            // memory only where something is written.
            self.many.reserve(header.length);
            self.many.put(std::mem::take(&mut self.one));
        }
        self.many.put(piece);
        Ok(())
    }

    /// The message, at the end of the body; `None` if the body was empty.
    ///
    /// # Errors
    /// If the body ended too early.
    pub fn finish(self) -> Result<Option<Message>, FrameError> {
        let Some(header) = self.header else {
            return if self.started == 0 { Ok(None) } else { Err(FrameError::Truncated) };
        };
        let bytes = if self.many.is_empty() { self.one } else { self.many.freeze() };
        if bytes.len() < header.length {
            return Err(FrameError::Truncated);
        }
        Ok(Some(Message { compressed: header.compressed, bytes }))
    }
}
