//! Writing protobuf, or only counting how much it would be.
//!
//! Messages are written once, front to back: [`Sink::message`] leaves room for the length and
//! moves the content by some bytes if the room was not right, so that lengths are minimal and the
//! output is what every generated encoder would write.

use profpipe_profile::Index;

/// Where an encoder writes to.
pub(super) trait Sink: Sized {
    /// A variable-length number.
    fn varint(&mut self, number: u64);
    /// Bytes as they are.
    fn raw(&mut self, bytes: &[u8]);
    /// A message, of which about `expected` bytes are expected.
    fn message(&mut self, field: u32, expected: usize, content: impl FnOnce(&mut Self));

    /// A number, unless it is zero.
    #[inline(always)]
    fn number(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.always_number(field, number);
        }
    }

    /// A number, even if it is zero.
    #[inline(always)]
    fn always_number(&mut self, field: u32, number: u64) {
        self.varint(u64::from(field << 3));
        self.varint(number);
    }

    /// A 64-bit word, even if it is zero.
    #[inline(always)]
    fn fixed64(&mut self, field: u32, word: u64) {
        self.varint(u64::from(field << 3 | 1));
        self.raw(&word.to_le_bytes());
    }

    /// Bytes or a text, unless they are empty.
    #[inline(always)]
    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.always_bytes(field, bytes);
        }
    }

    /// Bytes or a text, even if they are empty.
    #[inline(always)]
    fn always_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field << 3 | 2));
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Packed numbers, unless there are none.
    #[inline(always)]
    fn packed(&mut self, field: u32, numbers: impl ExactSizeIterator<Item = u64>) {
        if numbers.len() > 0 {
            self.message(field, numbers.len(), |sink| {
                for number in numbers {
                    sink.varint(number);
                }
            });
        }
    }

    /// Indices, unless there are none.
    #[inline(always)]
    fn indices<I: Index>(&mut self, field: u32, rows: &[I]) {
        if !rows.is_empty() {
            self.message(field, rows.len() * 2, |sink| sink.raw_indices(rows));
        }
    }

    /// Indices without a header.
    fn raw_indices<I: Index>(&mut self, rows: &[I]);
}

/// The bytes that a number takes.
#[inline(always)]
pub(super) fn varint_length(number: u64) -> usize {
    // Seven bits to a byte; 9/64 is a little more than 1/7, and exact over the range.
    ((64 - (number | 1).leading_zeros() as usize) * 9 + 64) / 64
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn varint(&mut self, number: u64) {
        // Copies of a fixed length are one store each; a loop would be a call.
        if number < 1 << 7 {
            self.push(number as u8);
        } else if number < 1 << 14 {
            self.extend_from_slice(&[number as u8 | 0x80, (number >> 7) as u8]);
        } else if number < 1 << 21 {
            let (low, middle) = (number as u8 | 0x80, (number >> 7) as u8 | 0x80);
            self.extend_from_slice(&[low, middle, (number >> 14) as u8]);
        } else {
            long_varint(self, number);
        }
    }

    fn raw_indices<I: Index>(&mut self, rows: &[I]) {
        // Four at a time where all of them take two bytes, which is usual in stacks.
        let (fours, rest) = rows.as_chunks::<4>();
        for four in fours {
            let two_bytes = |row: &I| (1 << 7..1 << 14).contains(&row.raw());
            if four.iter().all(two_bytes) {
                let mut word = 0;
                for (at, row) in four.iter().enumerate() {
                    let row = u64::from(row.raw());
                    word |= (row & 0x7f | 0x80 | row << 1 & 0x7f00) << (16 * at);
                }
                self.extend_from_slice(&word.to_le_bytes());
            } else {
                for row in four {
                    self.varint(u64::from(row.raw()));
                }
            }
        }
        for row in rest {
            self.varint(u64::from(row.raw()));
        }
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn message(&mut self, field: u32, expected: usize, content: impl FnOnce(&mut Self)) {
        self.varint(u64::from(field << 3 | 2));
        let room = varint_length(expected as u64);
        let start = self.len();
        for _ in 0..room {
            self.push(0);
        }
        content(self);
        let length = self.len() - start - room;
        if room == 1 && length < 0x80 {
            self[start] = length as u8;
            return;
        }
        set_length(self, start, room, length);
    }
}

#[inline(never)]
fn long_varint(out: &mut Vec<u8>, mut number: u64) {
    let mut bytes = [0; 10];
    let mut length = 0;
    for byte in &mut bytes {
        length += 1;
        if number < 0x80 {
            *byte = number as u8;
            break;
        }
        *byte = number as u8 | 0x80;
        number >>= 7;
    }
    let end = out.len() + length;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Writes a length at `start`, where `room` bytes were left for it.
#[inline(never)]
pub(super) fn set_length(out: &mut Vec<u8>, start: usize, room: usize, length: usize) {
    let needed = varint_length(length as u64);
    let content = start + room..start + room + length;
    if needed > room {
        out.resize(out.len() + needed - room, 0);
    }
    if needed != room {
        out.copy_within(content, start + needed);
        out.truncate(start + needed + length);
    }
    let mut rest = length;
    for byte in &mut out[start..start + needed] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + needed - 1] &= 0x7f;
}

/// Counts bytes.
#[derive(Debug, Default)]
pub(super) struct Counter(pub(super) usize);

impl Sink for Counter {
    #[inline(always)]
    fn varint(&mut self, number: u64) {
        self.0 += varint_length(number);
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn raw_indices<I: Index>(&mut self, rows: &[I]) {
        self.0 += rows.iter().map(|row| varint_length(u64::from(row.raw()))).sum::<usize>();
    }

    #[inline(always)]
    fn message(&mut self, field: u32, _expected: usize, content: impl FnOnce(&mut Self)) {
        self.varint(u64::from(field << 3 | 2));
        let start = self.0;
        content(self);
        self.0 += varint_length((self.0 - start) as u64);
    }
}
