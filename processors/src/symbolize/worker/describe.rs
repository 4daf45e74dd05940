//! What a binary says of its own making: its compilers, its Go version, which C library it is.

use std::os::fd::OwnedFd;

use super::super::protocol::Build;
use super::arena::Arena;
use super::binary::Elf;

/// The most notes of compilers, and the longest.
const MAX_NOTES: usize = 8;
const MAX_NOTE: usize = 160;
/// What sections may be inflated to.
const BUDGET: u64 = 16 << 20;
/// The most of constants that is looked through for the C library's name.
const MAX_CONSTANTS: usize = 8 << 20;
/// How the GNU C library introduces itself, before its distributor and version.
const GLIBC: &[u8] = b"GNU C Library ";
const MUSL: &[u8] = b"musl libc (";
/// How the Go linker's note begins, and where its texts do since Go 1.18.
const GO_NOTE: &[u8] = b"\xff Go buildinf:";
const GO_TEXTS: usize = 32;
/// The flag that says that the texts stand in the note.
const GO_INLINE: u8 = 2;

/// Describes a file; nothing if it is not an ELF file.
pub(super) fn describe(file: &OwnedFd) -> Option<Build> {
    let arena = Arena::default();
    let elf = Elf::parse(arena.map(file).ok()?)?;
    let mut budget = BUDGET;
    let mut section = |name| elf.section(&arena, name, &mut budget);
    Some(Build {
        compilers: section(".comment").map(notes).unwrap_or_default(),
        go: section(".go.buildinfo").and_then(go_version),
        libc: section(".rodata").and_then(libc),
    })
}

/// The texts in `.comment`, each once.
pub(in super::super) fn notes(section: &[u8]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for note in section.split(|byte| *byte == 0) {
        let note = text(note.get(..MAX_NOTE).unwrap_or(note));
        if !note.is_empty() && !notes.contains(&note) {
            notes.push(note);
            if notes.len() == MAX_NOTES {
                break;
            }
        }
    }
    notes
}

/// The version in the Go linker's note.
pub(in super::super) fn go_version(section: &[u8]) -> Option<String> {
    if !section.starts_with(GO_NOTE) || section.get(15)? & GO_INLINE == 0 {
        return None;
    }
    // A length in seven bits a byte; no version is longer than 127.
    let (length, rest) = section.get(GO_TEXTS..)?.split_first()?;
    let version = text(rest.get(..usize::from(*length)).filter(|_| *length < 0x80)?);
    version.starts_with("go").then_some(version)
}

/// The name and the version of the C library that these constants belong to.
pub(in super::super) fn libc(constants: &[u8]) -> Option<(String, String)> {
    let constants = constants.get(..MAX_CONSTANTS).unwrap_or(constants);
    let find = |wanted: &[u8]| {
        let at = constants.windows(wanted.len()).position(|here| here == wanted)?;
        let line = constants.get(at..)?.get(..MAX_NOTE).or(constants.get(at..))?;
        line.split(|byte| matches!(byte, 0 | b'\n')).next().map(text)
    };
    if let Some(line) = find(GLIBC) {
        let (_, version) = line.rsplit_once("version ")?;
        return Some(("glibc".to_owned(), version.trim_end_matches('.').to_owned()));
    }
    // Its version stands elsewhere, with nothing to know it by.
    find(MUSL).map(|_| ("musl".to_owned(), String::new()))
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|char| !char.is_control()).collect::<String>().trim().to_owned()
}
