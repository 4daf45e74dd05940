//! Messages as the bytes that they are: what a gateway receives is what it passes on.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Where a message is read into begins with so many bytes.
const READ_BUFFER: usize = 8 << 10;
/// The same for writing: most answers are empty.
const WRITE_BUFFER: usize = 128;
/// Encoded bytes from which on they are handed to the connection.
const YIELD_THRESHOLD: usize = 32 << 10;

/// Messages that are neither decoded nor encoded. A large one is not copied out of the buffer that it
/// was read into.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.len());
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(WRITE_BUFFER, YIELD_THRESHOLD)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        if length < READ_BUFFER {
            // A small message shall not keep the whole buffer.
            let message = Bytes::copy_from_slice(buffer.chunk());
            buffer.advance(length);
            return Ok(Some(message));
        }
        Ok(Some(buffer.copy_to_bytes(length)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(READ_BUFFER, YIELD_THRESHOLD)
    }
}
