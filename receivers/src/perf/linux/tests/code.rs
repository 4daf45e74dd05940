//! What machine code says of an address, and what call frame information says of a frame.

#![cfg(target_arch = "x86_64")]

use std::sync::Arc;

use gimli::UnwindContext;
use profpipe_host::content::Content;
use profpipe_host::proc;
use proptest::prelude::*;

use super::super::images::bytes::Bytes;
use super::super::images::cfi::Kind;
use super::super::images::code::{After, Before, Code, keeps_frame_pointer};
use super::super::images::frame_rules::{FrameAddress, FrameRules};
use super::super::images::frame_table::{FrameTable, Search, Storage, search};
use super::super::images::sections::Sections;

fn before(code: &[u8]) -> Before {
    Code::read(code, &[0x90], 0x1000).before
}

/// Scenario: calls with every form of operand that compilers write, and instructions that only look
/// similar.
/// Guarantees: behind calls an address can be a return address, and the target of a direct one is
/// known; behind others it cannot.
#[test]
fn tells_calls_from_other_code() {
    assert_eq!(before(&[0x90, 0xe8, 0x10, 0, 0, 0]), Before::CallOf(0x1010));
    assert_eq!(before(&[0xe8, 0xf0, 0xff, 0xff, 0xff]), Before::CallOf(0xff0));
    for call in [
        // By rax, by r12, by [rax], by [r12], by 8(%rax), by 8(%rsp), by a table, far from %rax, by
        // (%rip), and by 8(%rax,%rbx,8).
        &[0xff, 0xd0][..],
        &[0x41, 0xff, 0xd4],
        &[0xff, 0x10],
        &[0x41, 0xff, 0x14, 0x24],
        &[0xff, 0x50, 0x08],
        &[0xff, 0x54, 0x24, 0x08],
        &[0xff, 0x14, 0xc5, 0, 0, 0, 0],
        &[0xff, 0x90, 0, 1, 0, 0],
        &[0xff, 0x15, 0, 1, 0, 0],
        &[0xff, 0x54, 0xd8, 0x08],
    ] {
        let code = [&[0x90; 16 - 7][..], call].concat();
        assert_eq!(before(&code), Before::Call, "{call:x?}");
    }
    for other in [
        // nop, jmp *%rax, push 8(%rax), ret, padding.
        &[0x90; 8][..],
        &[0x90, 0xff, 0xe0],
        &[0x90, 0xff, 0x70, 0x08],
        &[0x90, 0x90, 0xc3],
        &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
    ] {
        assert_eq!(before(other), Before::Other, "{other:x?}");
    }
    assert_eq!(Code::read(&[], &[], 0).before, Before::Unreadable);
}

/// Scenario: the code that ends signal handlers, threads of musl, contexts of glibc and of
/// Boost.Context; a switch to another stack as rustc's, and the end of a frame.
/// Guarantees: each is recognised, and the last is not taken for a switch.
#[test]
fn recognises_where_stacks_begin_and_switch() {
    let after = |code: &[u8]| Code::read(&[0x90; 16], code, 0).after;
    let signal_return = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05, 0xc3];
    assert_eq!(after(&signal_return), After::SignalReturn);
    assert_eq!(after(&[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]), After::SignalReturn);
    let musl = [0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05, 0xf4];
    let glibc = [0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff, 0x74];
    let boost = [0x48, 0x31, 0xff, 0xe8, 1, 2, 3, 4, 0xf4];
    for start in [&musl[..], &glibc, &boost] {
        assert_eq!(after(start), After::StackStart, "{start:x?}");
    }
    assert_eq!(after(&[0x89, 0xc7, 0x31, 0xc0, 0xc3]), After::Other);
    let switches = |code: &[u8]| Code::read(code, &[0x90], 0).switches;
    // mov %rcx, %rsp; call *%rdx. mov %r12, %rsp; call *%rax. mov %rbp, %rsp; call.
    assert!(switches(&[0x48, 0x89, 0xcc, 0xff, 0xd2]));
    assert!(switches(&[0x4c, 0x89, 0xe4, 0xff, 0xd0]));
    assert!(!switches(&[0x48, 0x89, 0xec, 0xe8, 0, 0, 0, 0]));
    assert!(!switches(&[0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0]));
}

/// Scenario: code from the start of a function to an address in it.
/// Guarantees: it keeps a frame pointer only if it begins by setting it up and does not return on the
/// way, behind which another function might begin.
#[test]
fn sees_which_code_keeps_a_frame_pointer() {
    assert!(keeps_frame_pointer(&[0x55, 0x48, 0x89, 0xe5, 0x90, 0xe8, 0, 0, 0, 0]));
    assert!(keeps_frame_pointer(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x90]));
    assert!(!keeps_frame_pointer(&[0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3, 0x53, 0x90]));
    assert!(!keeps_frame_pointer(&[0x53, 0x90, 0x90, 0x90]));
    assert!(!keeps_frame_pointer(&[0x55]), "it is not set up yet");
}

/// The tables of the C library that this test uses, held and in the file.
fn tables() -> (FrameTable, FrameTable, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = proc::executable(&maps).find(|line| line.path.contains("libc")).expect("a libc");
    let file: Vec<u8> = std::fs::read(line.path).unwrap();
    let sections = Sections::read(&file[..]);
    let (range, rules) = sections.eh_frame.unwrap();
    let (header, pairs) = sections.eh_frame_hdr.unwrap();
    let offset = file.windows(rules.len()).position(|at| at == &rules[..]).unwrap() as u64;
    let length = rules.len() as u64;
    let made = search(&rules, range.start, Kind::EhFrame, &mut || ()).unwrap();
    let content: Arc<dyn Content + Send + Sync> = Arc::new(Bytes::from(file));
    let table =
        |storage, search| FrameTable { kind: Kind::EhFrame, address: range.start, storage, search };
    let linked = Search::Linked(header.start, pairs);
    (
        table(Storage::Held(rules), made),
        table(Storage::File(content, offset, length), linked),
        sections.text.unwrap().start,
    )
}

/// Scenario: the rules of addresses all over the C library, from a table that is held and found by a
/// search table made here, and from the file by the linker's.
/// Guarantees: both are the same; most of the code has some, and each has a return address.
#[test]
fn tables_in_files_say_what_held_ones_say() {
    let (held, in_file, text) = tables();
    let mut context = UnwindContext::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut read = |table: &FrameTable, address, buffer: &mut Vec<u8>| {
        let entry = table.entry(address, buffer)?;
        FrameRules::read(&entry, address, true, &mut context)
    };
    let (mut found, mut plain) = (0, 0);
    for address in (text..text + 0x40000).step_by(97) {
        let rules = read(&held, address, &mut first);
        assert_eq!(rules, read(&in_file, address, &mut second), "{address:#x}");
        if let Some(rules) = rules {
            found += 1;
            plain += u32::from(rules.plain);
            assert!(rules.is_end() || rules.rule(16).is_some(), "{address:#x}");
            assert!(!matches!(rules.address, FrameAddress::Register(register, _) if register > 16));
        }
    }
    assert!(found > 1000 && plain > found / 2, "{found} of 2702 have rules, {plain} are plain");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: a table with some of its bytes changed, and one cut off, asked for any address.
    /// Guarantees: no panic.
    #[test]
    fn damaged_tables_are_harmless(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..64),
        cut: prop::sample::Index,
        addresses in proptest::collection::vec(0_u64..0x2000, 16),
    ) {
        let common = b"\x14\0\0\0\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0";
        let mut bytes = common.to_vec();
        for number in 0..8_u32 {
            let here = bytes.len() as u32;
            bytes.extend(20_u32.to_le_bytes());
            bytes.extend((here + 4).to_le_bytes());
            bytes.extend((0x100 * number).wrapping_sub(here + 8).to_le_bytes());
            bytes.extend(0x80_u32.to_le_bytes());
            bytes.extend(b"\0\x41\x0e\x10\x86\x02\x43\x0d");
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let Some(search) = search(&bytes, 0x1000, Kind::EhFrame, &mut || ()) else { return Ok(()) };
        let storage = Storage::Held(bytes.into());
        let table = FrameTable { kind: Kind::EhFrame, address: 0x1000, storage, search };
        let mut context = UnwindContext::new();
        for address in addresses {
            let mut buffer = Vec::new();
            if let Some(entry) = table.entry(address, &mut buffer) {
                let _ = FrameRules::read(&entry, address, true, &mut context);
            }
        }
    }
}
