//! Stable hashes of functions and of paths of functions.
//!
//! A path has the same 64 bits on every host and in every aggregation, so that a link or a stored row
//! names it for good. They are no protection against somebody who looks for two paths with one hash:
//! what they find is then shown in one place.
//!
//! A function is FNV-1a, 64 bits, over its name, a byte 0xff and its module (the last part of the path of
//! its file). A path is a fold over its functions, root first: [`child`] of the path so far, which
//! starts as [`ROOT`].

/// The path without functions.
pub const ROOT: u64 = 0;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of a function.
pub fn function(name: &str, module: &str) -> u64 {
    let bytes = name.bytes().chain([0xff]).chain(module.bytes());
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The hash of a path that goes one function further. The finish is that of SplitMix64.
pub fn child(parent: u64, function: u64) -> u64 {
    let mut hash = parent.rotate_left(5).wrapping_add(0x9e37_79b9_7f4a_7c15) ^ function;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a function and two paths, as they were when the hash was made.
    /// Guarantees: links and stored rows keep their meaning: these values never change.
    #[test]
    fn hashes_are_stable() {
        assert_eq!(function("", ""), 0xaf64_724c_8602_eb6e);
        let main = function("main", "app");
        let work = function("work", "app");
        let paths = [child(ROOT, main), child(child(ROOT, main), work)];
        assert_eq!(paths, [0x4be4_7b25_e4dd_7f26, 0x5773_5422_aa2c_86c3], "{paths:x?}");
        assert_ne!(child(child(ROOT, work), main), paths[1]);
    }
}
