//! What bytes are that are not a pprof profile.

use crate::pprof::wire::Fields;

const LEGACY: &str = "a profile in a legacy text format, which is not read: \
                      convert it with `go tool pprof -proto`";

/// How profiles in the text formats of before 2016 start.
const LEGACY_STARTS: [&[u8]; 11] = [
    b"heap profile:",
    b"heapz ",
    b"heap_v2/",
    b"goroutine profile:",
    b"threadcreate profile:",
    b"--- threadz ",
    b"--- contention",
    b"--- contentionz ",
    b"--- heapz ",
    b"--- mutex:",
    b"--- Memory map: ---",
];

/// What a text is that is known and not read.
pub(crate) fn foreign_text(text: &[u8]) -> Option<&'static str> {
    let text = text.trim_ascii_start();
    LEGACY_STARTS.iter().any(|start| text.starts_with(start)).then_some(LEGACY)
}

/// What a message that is no pprof profile is instead.
pub(super) fn foreign(message: &[u8]) -> Option<&'static str> {
    if let Some(what) = foreign_text(message) {
        return Some(what);
    }
    match message.trim_ascii_start() {
        [b'{', ..] => return Some("JSON, not a pprof profile"),
        [b'<', ..] => return Some("HTML or XML, not a pprof profile"),
        _ => {}
    }
    // gperftools: words of 4 or 8 bytes: 0, 3, 0, the period, 0; in either byte order.
    let is_legacy_cpu = [4, 8].into_iter().any(|size| {
        let mut words = message.chunks_exact(size).map(|word| {
            let little = word.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            let big = word.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            little.min(big)
        });
        words.next() == Some(0) && words.next() == Some(3) && words.next() == Some(0)
    });
    is_legacy_cpu.then_some(
        "a CPU profile in the legacy binary format, which is not read: convert it with `go tool \
         pprof -proto`",
    )
}

/// The fields that a protobuf message has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TopFields {
    /// A bit for each of the fields 1 to 62.
    low: u64,
    /// Whether there are others.
    has_others: bool,
}

impl TopFields {
    /// Whether the field is there.
    pub(crate) fn contains(self, field: u32) -> bool {
        self.low >> field & 1 == 1
    }

    /// Whether there is no other field than these.
    pub(crate) fn are_within(self, fields: &[u32]) -> bool {
        let known = fields.iter().fold(0, |known, field| known | 1_u64 << field);
        self.low & !known == 0 && !self.has_others
    }
}

/// The fields of a message, not looked into; none if it is not protobuf.
pub(crate) fn top_fields(message: &[u8]) -> Option<TopFields> {
    let mut found = TopFields::default();
    let mut fields = Fields(message);
    while let Some((field, _)) = fields.next().ok()? {
        match field {
            0 => return None,
            1..=62 => found.low |= 1 << field,
            _ => found.has_others = true,
        }
    }
    Some(found)
}
