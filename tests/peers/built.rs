//! Where the built peers lie: $PROFPIPE_PEERS, else ~/.cache/profpipe-peers. In CI (CI set) a missing
//! one fails; elsewhere it skips, told.

use std::path::{Path, PathBuf};

/// The directory of built programs.
pub(crate) fn bin() -> Result<PathBuf, String> {
    let home =
        || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/profpipe-peers"));
    let directory = std::env::var_os("PROFPIPE_PEERS").map(PathBuf::from).or_else(home);
    Ok(directory.ok_or("neither PROFPIPE_PEERS nor HOME is set")?.join("bin"))
}

/// A peer that `tests/peers/build` builds.
#[track_caller]
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    match find(name) {
        Ok(program) => Some(program),
        Err(why) => {
            profpipe_testing::skip!(
                "{why}; run tests/peers/build (Go 1.26 or later, some minutes once)"
            )
        }
    }
}

fn find(name: &str) -> Result<PathBuf, String> {
    let program = bin()?.join(name);
    if !program.exists() {
        return Err(format!("the peer {name} is not built"));
    }
    // The stamp holds what the program was built from, as tests/peers/build wrote it.
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/go").join(name);
    let stamp = std::fs::read_to_string(program.with_extension("source")).unwrap_or_default();
    let mut source = String::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        match std::fs::read_to_string(module.join(file)) {
            Ok(text) => source.push_str(&text),
            Err(_) if file == "main.go" => {}
            Err(error) => return Err(format!("{}: {error}", module.join(file).display())),
        }
    }
    if stamp.trim_end() == source.trim_end() {
        return Ok(program);
    }
    Err(format!("the peer {name} was built from other versions"))
}
