//! Any text as a configuration: read or refused, never a panic, bounded memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_engine::config::{Layers, Section};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Errors are fine; what counts is that they come back.
    let _ = Layers::new().text(None, text).load();
    if let Ok(section) = Section::from_yaml(text) {
        let _ = section.read::<serde_json::Value>();
    }
});
