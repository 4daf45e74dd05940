//! Halves of UTF-16 pairs in the escapes of JSON: `"\ud800"`.
//!
//! JavaScript writes one where a text was cut within a character. It stands for no character; Go reads
//! U+FFFD, and so is done here, where the parser would refuse the whole request.

use std::borrow::Cow;

/// The same JSON with U+FFFD for each half that has no other half. Nothing moves: errors later name the
/// same places.
pub(super) fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = next_lone(json, 0) else { return Cow::Borrowed(json) };
    let mut mended = json.to_vec();
    let mut lone = Some(first);
    while let Some(at) = lone {
        if let Some(digits) = mended.get_mut(at + 2..at + 6) {
            digits.copy_from_slice(b"fffd");
        }
        lone = next_lone(json, at + 6);
    }
    Cow::Owned(mended)
}

/// Whether [`mended`] makes a copy.
pub(super) fn is_needed(json: &[u8]) -> bool {
    next_lone(json, 0).is_some()
}

/// Where the next escape begins that is half a pair alone; `from` is not within an escape.
fn next_lone(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += json.get(at..)?.iter().position(|byte| *byte == b'\\')?;
        match unit(json, at) {
            Some(0xd800..0xdc00) => match unit(json, at + 6) {
                Some(0xdc00..0xe000) => at += 12,
                _ => return Some(at),
            },
            Some(0xdc00..0xe000) => return Some(at),
            Some(_) => at += 6,
            None => at += 2,
        }
    }
}

/// The number of the escape `\uXXXX` that stands here.
fn unit(json: &[u8], at: usize) -> Option<u32> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::mended;

    /// Scenario: halves alone, in pairs, in the wrong order, cut off, and what only looks like one.
    /// Guarantees: what Go's decoder reads; all else stays as it is.
    #[test]
    fn halves_become_replacement_characters() {
        for (json, wanted) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""a\uDC00b""#, "a\u{fffd}b"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud800x""#, "\u{fffd}x"),
            (r#""\ud800\n""#, "\u{fffd}\n"),
            (r#""\\ud800""#, "\\ud800"),
            (r#""\\\ud800""#, "\\\u{fffd}"),
            (r#""\u00e4""#, "ä"),
        ] {
            let mended = mended(json.as_bytes());
            let read: String = serde_json::from_slice(&mended).unwrap();
            assert_eq!(read, wanted, "{json}");
            assert_eq!(mended.len(), json.len());
        }
        for broken in [r#""\ud8"#, r#""\ud800"#, "\\", r#"\ud800\u"#, ""] {
            assert_eq!(mended(broken.as_bytes()).len(), broken.len());
        }
    }
}
