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

/// Where an SDK lies that `tests/peers/build` installs.
#[track_caller]
pub(crate) fn sdk(name: &str) -> Option<PathBuf> {
    match find_sdk(name) {
        Ok(directory) => Some(directory),
        Err(why) => {
            profpipe_testing::skip!("{why}; run tests/peers/build, which says what it needs")
        }
    }
}

fn find_sdk(name: &str) -> Result<PathBuf, String> {
    let files: &[&str] = match name {
        "python" => &["requirements.txt"],
        "nodejs" => &["package.json", "package-lock.json"],
        "java" => &["pom.xml", "Work.java"],
        _ => return Err(format!("nothing pins an SDK {name}")),
    };
    let bin = bin()?;
    let stamp = std::fs::read_to_string(bin.join(format!("{name}.source")))
        .map_err(|_| format!("Pyroscope's SDK for {name} is not installed"))?;
    if stamp.trim_end() != pinned(name, files)?.trim_end() {
        return Err(format!("Pyroscope's SDK for {name} is of another version"));
    }
    Ok(bin.with_file_name(name))
}

/// The files of a directory of tests/peers that pin a peer, one after the other.
fn pinned(directory: &str, files: &[&str]) -> Result<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(directory);
    let mut all = String::new();
    for file in files {
        match std::fs::read_to_string(directory.join(file)) {
            Ok(text) => all.push_str(&text),
            Err(_) if *file == "main.go" => {}
            Err(error) => return Err(format!("{}: {error}", directory.join(file).display())),
        }
    }
    Ok(all)
}

fn find(name: &str) -> Result<PathBuf, String> {
    let program = bin()?.join(name);
    if !program.exists() {
        return Err(format!("the peer {name} is not built"));
    }
    // The stamp holds what the program was built from, as tests/peers/build wrote it.
    let stamp = std::fs::read_to_string(program.with_extension("source")).unwrap_or_default();
    let source = pinned(&format!("go/{name}"), &["go.mod", "go.sum", "main.go"])?;
    if stamp.trim_end() == source.trim_end() {
        return Ok(program);
    }
    Err(format!("the peer {name} was built from other versions"))
}
