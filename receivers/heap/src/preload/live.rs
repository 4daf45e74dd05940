//! The sampled blocks that are not freed.
//!
//! Two tables. The first is asked at every free: a count for each of 128 Ki places that an address may
//! have; blocks that lie together have places together, so that the count is in the cache. Where it is not
//! zero the second one knows: the addresses, in groups of eight, without locks. An address has two groups
//! where it may be; if both are full, the block is not followed, and that is counted.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The places of the first table.
pub(super) const PLACES: usize = 1 << 17;
/// How an address becomes a place: both of these shifted off, and one over the other.
pub(super) const SHIFT: u32 = 4;
/// See there.
pub(super) const FAR_SHIFT: u32 = 21;
/// The addresses of a group.
const GROUP: usize = 8;
/// The groups.
const GROUPS: usize = 1 << 14;

/// How many sampled blocks there are at each place; 255 stands for that and more, for good.
pub(super) static COUNTS: [AtomicU8; PLACES] = [const { AtomicU8::new(0) }; PLACES];
static BLOCKS: [[AtomicUsize; GROUP]; GROUPS] =
    [const { [const { AtomicUsize::new(0) }; GROUP] }; GROUPS];

fn count(address: usize) -> Option<&'static AtomicU8> {
    COUNTS.get((address >> SHIFT ^ address >> FAR_SHIFT) & (PLACES - 1))
}

fn groups(address: usize) -> [usize; 2] {
    let spread = (address >> SHIFT).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [spread >> 50 & (GROUPS - 1), spread >> 20 & (GROUPS - 1)]
}

/// Sends every free at the place of an address to where sampled blocks are looked for.
pub(super) fn mark(address: usize) {
    if let Some(count) = count(address) {
        count.store(u8::MAX, Ordering::Release);
    }
}

/// Remembers a block; false if there is no room.
pub(super) fn insert(address: usize) -> bool {
    let Some(count) = count(address) else { return false };
    for group in groups(address) {
        for slot in BLOCKS.get(group).into_iter().flatten() {
            if slot.load(Ordering::Relaxed) == 0
                && slot.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let more = |count: u8| count.checked_add(1);
                // A full one stays full.
                let _ = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more);
                return true;
            }
        }
    }
    false
}

/// Forgets a block; true if it was sampled.
pub(super) fn remove(address: usize) -> bool {
    let Some(count) = count(address) else { return false };
    if count.load(Ordering::Acquire) == 0 || address == 0 {
        return false;
    }
    for group in groups(address) {
        for slot in BLOCKS.get(group).into_iter().flatten() {
            if slot.load(Ordering::Relaxed) == address
                && slot.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let fewer = |count: u8| if count == u8::MAX { None } else { count.checked_sub(1) };
                let _ = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fewer);
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: as many blocks as may be sampled of a heap of 25 GiB, one after the other, and all are
    /// freed; eight threads insert and remove blocks of their own meanwhile.
    /// Guarantees: each is found once, and what was not inserted is not; nearly all have room; the counts are
    /// zero in the end.
    #[test]
    fn blocks_are_found_once() {
        std::thread::scope(|scope| {
            for thread in 1..=8_usize {
                scope.spawn(move || {
                    for round in 0..20_000_usize {
                        let address = thread << 40 | round << 4 | 1 << 39;
                        let is_in = insert(address);
                        assert_eq!(remove(address), is_in);
                        assert!(!remove(address));
                    }
                });
            }
            let at = |number: usize| 0x7f00_0000_0000 + number * 0x8_1230;
            let blocks: Vec<usize> = (0..50_000).map(at).collect();
            let inside: Vec<bool> = blocks.iter().map(|block| insert(*block)).collect();
            let kept = inside.iter().filter(|it| **it).count();
            assert!(kept > 49_500, "{kept}");
            for (block, is_in) in blocks.iter().zip(inside) {
                assert!(!remove(*block + 16));
                assert_eq!(remove(*block), is_in);
                assert!(!remove(*block));
            }
        });
        assert!(COUNTS.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
