//! Probes that a program was written with (USDT): where they are, as its notes say.
//!
//! A note `stapsdt` has the address of an instruction that does nothing, the address of `.stapsdt.base` when
//! the note was written (prelink moves the one and not the other), the address of a number that is above
//! zero while somebody listens, or 0, and the names of provider and probe, each with a zero behind.
//! (<https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>) The file is hostile: what does not
//! fit is skipped.

/// The type of such a note.
const KIND: u32 = 3;
/// Its owner, with the zero.
const OWNER: &[u8] = b"stapsdt\0";
/// The most notes that are looked at.
const MAX_NOTES: usize = 100_000;

/// A place of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// The address of the instruction.
    pub(super) address: u64,
    /// The address of the semaphore; none if it has none.
    pub(super) semaphore: Option<u64>,
}

/// The provider and the name in `PROVIDER:NAME`; none of what is a function, as `shop::checkout`.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    let (provider, probe) = name.split_once(':')?;
    let is_plain = |part: &str| !part.is_empty() && !part.contains([':', '(', '<', ' ']);
    (is_plain(provider) && is_plain(probe)).then_some((provider, probe))
}

/// The places of a probe in the notes of a little-endian file of 64 bits, whose `.stapsdt.base` is at an
/// address.
pub(super) fn find(notes: &[u8], base: Option<u64>, provider: &str, name: &str) -> Vec<Probe> {
    let mut rest = notes;
    let mut found = Vec::new();
    for _ in 0..MAX_NOTES {
        let Some(note) = next(&mut rest) else { break };
        let Some(one) = note else { continue };
        if one.provider != provider.as_bytes() || one.name != name.as_bytes() {
            continue;
        }
        let moved = base.map_or(0, |base| base.wrapping_sub(one.base));
        let semaphore = (one.semaphore != 0).then(|| one.semaphore.wrapping_add(moved));
        found.push(Probe { address: one.address.wrapping_add(moved), semaphore });
    }
    found
}

/// What a note says.
struct Note<'a> {
    address: u64,
    base: u64,
    semaphore: u64,
    provider: &'a [u8],
    name: &'a [u8],
}

/// The next note: none at the end, and none within if it is another kind.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<Note<'a>>> {
    let owner = number(rest)?;
    let length = number(rest)?;
    let kind = number(rest)?;
    let owner = padded(rest, owner)?;
    let content = padded(rest, length)?;
    Some((kind == KIND && owner == OWNER).then(|| parse(content)).flatten())
}

fn parse(mut content: &[u8]) -> Option<Note<'_>> {
    let mut word = || {
        let (bytes, rest) = content.split_first_chunk::<8>()?;
        content = rest;
        Some(u64::from_le_bytes(*bytes))
    };
    let (address, base, semaphore) = (word()?, word()?, word()?);
    let mut texts = content.split(|byte| *byte == 0);
    Some(Note { address, base, semaphore, provider: texts.next()?, name: texts.next()? })
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

/// So many bytes, behind which comes what makes them a multiple of four.
fn padded<'a>(rest: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let taken = rest.get(..length)?;
    *rest = rest.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u32, owner: &[u8], content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [owner.len() as u32, content.len() as u32, kind] {
            bytes.extend(number.to_le_bytes());
        }
        for part in [owner, content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn content(address: u64, base: u64, semaphore: u64, texts: &[u8]) -> Vec<u8> {
        let words = [address, base, semaphore].into_iter().flat_map(u64::to_le_bytes);
        words.chain(texts.iter().copied()).collect()
    }

    /// Scenario: notes of other owners, a probe at two places of which one has a semaphore, in a file that was
    /// moved after the notes were written, and every beginning of that.
    /// Guarantees: both places are found where they are now; what is cut off has none, and nothing panics.
    #[test]
    fn finds_probes() {
        let mut notes = note(3, b"GNU\0", b"12345");
        notes.extend(note(KIND, OWNER, &content(0x1000, 0x500, 0x3000, b"shop\0sold\0-4@%eax\0")));
        notes.extend(note(KIND, OWNER, &content(0x1100, 0x500, 0, b"shop\0bought\0\0")));
        notes.extend(note(KIND, OWNER, &content(0x1200, 0x500, 0, b"shop\0sold\0\0")));
        let found = find(&notes, Some(0x600), "shop", "sold");
        let expected = [
            Probe { address: 0x1100, semaphore: Some(0x3100) },
            Probe { address: 0x1300, semaphore: None },
        ];
        assert_eq!(found, expected);
        assert_eq!(find(&notes, None, "shop", "bought").len(), 1);
        assert!(find(&notes, None, "shop", "nothing").is_empty());
        for length in 0..notes.len() {
            let some = notes.get(..length).unwrap_or_default();
            assert!(find(some, None, "shop", "sold").len() <= 2);
        }
        let huge = note(KIND, OWNER, &[]);
        let broken: Vec<u8> = huge.iter().map(|_| 0xff).collect();
        assert!(find(&broken, None, "shop", "sold").is_empty());
    }

    /// Scenario: names of probes and of functions.
    /// Guarantees: only a provider with a name is a probe.
    #[test]
    fn probes_are_told_from_functions() {
        assert_eq!(split("shop:sold"), Some(("shop", "sold")));
        for function in ["main.run", "shop::sold", "ns::f(int)", "a:b:c", ":b", "a:", "<T as a:b>"]
        {
            assert_eq!(split(function), None, "{function}");
        }
    }
}
