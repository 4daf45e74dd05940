//! The tables of layouts against the debug information of the interpreters that are here, as gdb reads it,
//! and against what newer ones say of themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::perf::linux::runtimes::cpython::debug_offsets;
use crate::perf::linux::runtimes::cpython::detect::CPythonFile;
use crate::perf::linux::runtimes::cpython::layout::{Layout, Owner, Position, Top};

/// Every libpython and interpreter of pyenv and of the system, with its version.
fn interpreters() -> Vec<((u8, u8), PathBuf)> {
    let mut found = Vec::new();
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home);
    let versions = root.map(|root| std::fs::read_dir(root.join("versions")));
    let mut prefixes: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().flatten().map(|it| it.path()).collect();
    prefixes.push("/usr".into());
    for prefix in prefixes {
        for minor in 8..=13 {
            let library = prefix.join(format!("lib/libpython3.{minor}.so.1.0"));
            let program = prefix.join(format!("bin/python3.{minor}"));
            let file = if library.exists() { library } else { program };
            if file.exists() {
                found.push(((3, minor), file));
            }
        }
    }
    found
}

/// Asks gdb for the places of members; none without debug information, or without gdb.
fn places(file: &Path, members: &[&str]) -> Option<Vec<u32>> {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch"]);
    for member in members {
        let (kind, member) = member.split_once("::")?;
        command.arg("-ex").arg(format!("print (long) &(({kind} *) 0)->{member}"));
    }
    let output = command.arg(file).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let numbers = text.lines().filter_map(|line| line.split(" = ").nth(1)?.parse().ok());
    let numbers: Vec<u32> = numbers.collect();
    (numbers.len() == members.len()).then_some(numbers)
}

fn top(layout: &Layout) -> u32 {
    match layout.thread_top {
        Top::Frame(at) | Top::Loop(at, _) => at,
    }
}

fn owner(layout: &Layout) -> u32 {
    match layout.thread_owner {
        Owner::Kernel(at) | Owner::Library(at) => at,
    }
}

fn position(layout: &Layout) -> u32 {
    match layout.frame_position {
        Position::Bytes(at) | Position::Units(at) | Position::Address(at) => at,
    }
}

/// Scenario: every interpreter here whose file has debug information.
/// Guarantees: the table of its version has each member where the compiler put it.
#[test]
fn tables_against_debug_information() {
    let mut checked = Vec::new();
    for (version, file) in interpreters() {
        let Some(layout) = Layout::of(version) else { continue };
        let (thread, frame) = match version.1 {
            8..=10 => ("frame", "PyFrameObject"),
            _ => ("cframe", "_PyInterpreterFrame"),
        };
        let (back, instruction, id, name) = match version.1 {
            8..=10 => ("f_back", "f_lasti", "thread_id", "co_name"),
            _ => ("previous", "prev_instr", "native_thread_id", "co_qualname"),
        };
        let head = if version.1 <= 10 { "tstate_head" } else { "threads.head" };
        let lines = if version.1 <= 9 { "co_lnotab" } else { "co_linetable" };
        let members = [
            "_PyRuntimeState::interpreters.head".to_owned(),
            "PyInterpreterState::next".to_owned(),
            format!("PyInterpreterState::{head}"),
            "PyThreadState::next".to_owned(),
            format!("PyThreadState::{id}"),
            format!("PyThreadState::{thread}"),
            format!("{frame}::f_code"),
            format!("{frame}::{back}"),
            format!("{frame}::{instruction}"),
            "PyCodeObject::co_firstlineno".to_owned(),
            "PyCodeObject::co_filename".to_owned(),
            format!("PyCodeObject::{name}"),
            format!("PyCodeObject::{lines}"),
            "PyUnicodeObject::_base._base.length".to_owned(),
            "PyUnicodeObject::_base._base.state".to_owned(),
            "PyBytesObject::ob_sval".to_owned(),
        ];
        let members: Vec<_> = members.iter().map(String::as_str).collect();
        let Some(found) = places(&file, &members) else { continue };
        let expected = [
            layout.interpreters,
            layout.interpreter_next,
            layout.interpreter_threads,
            layout.thread_next,
            owner(&layout),
            top(&layout),
            layout.frame_code,
            layout.frame_back,
            position(&layout),
            layout.code_first_line,
            layout.code_file,
            layout.code_name,
            layout.code_lines,
            layout.text_length,
            layout.text_state,
            layout.bytes_start,
        ];
        for ((member, found), expected) in members.iter().zip(&found).zip(&expected) {
            assert_eq!(found, expected, "{version:?} {member}");
        }
        checked.push(version);
    }
    eprintln!("checked against debug information: {checked:?}");
}

/// Scenario: the interpreters here that describe themselves.
/// Guarantees: what they say is read as a layout of their version; where debug information is there,
/// too, it agrees.
#[test]
fn descriptions_against_debug_information() {
    for (version, file) in interpreters() {
        if version < (3, 13) {
            continue;
        }
        let python = file.with_file_name(format!("../bin/python3.{}", version.1));
        let dump = "import ctypes, sys; sys.stdout.buffer.write(bytes((ctypes.c_char * 584)\
                    .in_dll(ctypes.pythonapi, '_PyRuntime')))";
        let Ok(output) = Command::new(python).args(["-c", dump]).output() else { continue };
        let (stated, layout) = debug_offsets::read(&output.stdout).expect("a description");
        assert_eq!(stated, version);
        let layout = layout.expect("a layout");
        let members = [
            "PyInterpreterState::threads.head",
            "PyThreadState::native_thread_id",
            "PyThreadState::current_frame",
            "_PyInterpreterFrame::owner",
            "PyCodeObject::co_linetable",
        ];
        let Some(found) = places(&file, &members) else { continue };
        let crate::perf::linux::runtimes::cpython::layout::Entry::Before(mark) = layout.frame_entry
        else {
            panic!("another kind of entry")
        };
        let read =
            [layout.interpreter_threads, owner(&layout), top(&layout), mark, layout.code_lines];
        assert_eq!(found, read);
    }
}

/// Scenario: descriptions of other versions, without the global lock, and of nonsense.
/// Guarantees: none is a layout.
#[test]
fn descriptions_that_are_not_known() {
    let describe = |version: u64, free_threaded: u64, fill: u64| {
        let mut bytes = b"xdebugpy".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(free_threaded.to_le_bytes());
        (3..73).for_each(|_| bytes.extend(fill.to_le_bytes()));
        bytes
    };
    assert_eq!(debug_offsets::read(b"something else"), None);
    let read = |version, free_threaded, fill| {
        debug_offsets::read(&describe(version, free_threaded, fill)).map(|(_, layout)| layout)
    };
    assert!(read(0x030d_00f0, 0, 8).is_some_and(|layout| layout.is_some()));
    assert_eq!(read(0x030e_00f0, 0, 8), Some(None));
    assert_eq!(read(0x030d_00f0, 1, 8), Some(None));
    assert_eq!(read(0x030d_00f0, 0, 1 << 63), Some(None));
    assert_eq!(read(0x030d_00f0, 0, 4096), Some(None));
}

/// Scenario: a file that is not CPython, though large.
/// Guarantees: it is not taken for it.
#[test]
fn a_file_that_is_something_else() {
    let this = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(CPythonFile::read(&this), None);
}
