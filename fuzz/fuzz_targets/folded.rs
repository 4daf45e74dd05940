//! Any bytes as collapsed stacks: no panic, and what was read and written is read and written to
//! the same text again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_formats::folded;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profiles) = folded::decode(bytes) else { return };
    let text = folded::encode(&profiles, None).unwrap();
    let again = folded::decode(text.as_bytes()).unwrap();
    assert_eq!(folded::encode(&again, None).unwrap(), text);
});
