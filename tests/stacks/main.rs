//! Are the frames of a stack true, and is what is called complete complete? Programs whose stacks
//! are hard to walk are compiled fresh and recorded with the real binary; what each should show is
//! known from its source.
//!
//! Layout: `programs/` the programs; `recording` compiles and records them; the reader is that of the
//! tests of `truth`, which shares no code with profpipe. Shares are of CPU time: in each program all
//! but some hundredths of it is spent where its test says, so that bounds of 5 points are no matter of
//! luck.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells on stderr what it skipped"
)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod differential;
#[expect(dead_code, reason = "the tests of `truth` use more of it")]
#[path = "../truth/reading.rs"]
mod reading;
mod recording;

/// What the programs keep to themselves, as it lies in memory.
const SECRET: &[u8; 8] = b"swister!";

/// Compiles, records, and gives the recording; returns from the test where that is not possible here.
macro_rules! recorded {
    ($($arguments:tt)*) => {
        match recording::record($($arguments)*) {
            Ok(recorded) => recorded,
            Err(why) => profpipe_testing::skip!("{why}"),
        }
    };
}

/// Scenario: a signal handler uses the CPU, on the stack of what it interrupted.
/// Guarantees: the stack goes through the end of the handler to the interrupted function and on to the
/// program's start.
#[test]
fn a_signal_handler_shows_what_it_interrupted() {
    let recorded = recorded!("signals.c", &["-O2"], &[], &[]);
    recorded.at_least(95.0, "complete", &["_start", "main", "interrupted", "handler", "leaf"]);
}

/// Scenario: the same with a stack of the handler's own.
/// Guarantees: the stack ends at the interrupted function, stated as truncated: the other stack was not
/// copied.
#[test]
fn a_handler_on_its_own_stack_ends_at_what_it_interrupted() {
    let recorded = recorded!("signals.c", &["-O2"], &[], &["own"]);
    recorded.at_least(95.0, "truncated", &["handler", "leaf"]);
    recorded.never(&["main"], "truncated");
}

/// Scenario: C without frame pointers and without unwinding tables.
/// Guarantees: what cannot be walked is not called complete.
#[test]
fn code_without_rules_is_not_complete() {
    let flags = ["-O2", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let recorded = recorded!("chain.c", &flags, &[], &[]);
    recorded.at_least(95.0, "any", &["leaf"]);
    recorded.never(&["leaf"], "complete");
}

/// Scenario: assembly without rules that has put a zero where a return address would be.
/// Guarantees: it is not taken for the end of the stack.
#[test]
fn a_zero_on_the_stack_is_no_root() {
    let recorded = recorded!("bare.c", &["-O2"], &["bare.S"], &[]);
    recorded.at_least(90.0, "any", &["bare"]);
    recorded.never(&["bare"], "complete");
}

/// Scenario: C with frame pointers and without unwinding tables, as some distributions compile.
/// Guarantees: stacks are whole, along frame pointers that the code is seen to keep.
#[test]
fn frame_pointers_serve_where_there_are_no_rules() {
    let flags = ["-O2", "-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer"];
    let recorded = recorded!("chain.c", &flags, &[], &[]);
    recorded.at_least(95.0, "any", &["_start", "main", "middle", "leaf"]);
}

/// Scenario: the rules of the program are in `.debug_frame`, those of its start code in `.eh_frame`.
/// Guarantees: both are used.
#[test]
fn both_kinds_of_tables_are_used() {
    let flags =
        ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-exceptions", "-fomit-frame-pointer"];
    let recorded = recorded!("chain.c", &flags, &[], &[]);
    recorded.at_least(95.0, "complete", &["_start", "main", "middle", "leaf"]);
}

/// Scenario: a frame is aligned and has room of unknown size, so that its address is an expression.
/// Guarantees: stacks are whole.
#[test]
fn a_realigned_frame_is_walked() {
    let recorded = recorded!("realigned.c", &["-O2"], &[], &[]);
    let stack = ["_start", "main", "outer", "realigned", "leaf"];
    recorded.at_least(95.0, "complete", &stack);
}

/// Scenario: recursion of 6, 201 and 3,001 calls.
/// Guarantees: each has as many frames as it has calls, and the last ends at the limit, stated.
#[test]
fn recursion_has_as_many_frames_as_calls() {
    for depth in [5, 200] {
        let recorded = recorded!("recursion.c", &["-O1", "-DROOM=64"], &[], &[&depth.to_string()]);
        let share = recorded.share(|stack| {
            let frames = stack.frames.iter().filter(|frame| frame.name == "descend").count();
            stack.state.is_none() && frames == depth + 1
        });
        assert!(share >= 95.0, "{depth}: {share:.1} %\n{}", recorded.sketch());
    }
    let recorded = recorded!("recursion.c", &["-O1", "-DROOM=8"], &[], &["3000"]);
    recorded.at_least(95.0, "truncated", &["descend"]);
    let most =
        recorded.reading.stacks.iter().map(|stack| {
            stack.frames.iter().filter(|frame| !frame.kernel && !frame.inlined).count()
        });
    assert_eq!(most.max(), Some(512), "the limit is a limit");
}

/// Scenario: pages of a frame were never touched, so the kernel cannot copy them.
/// Guarantees: the stack ends there, stated as truncated.
#[test]
fn a_copy_that_ends_at_a_hole_is_truncated() {
    let recorded = recorded!("hole.c", &["-O2"], &[], &[]);
    recorded.at_least(95.0, "truncated", &["large", "leaf"]);
}

/// Scenario: a function runs on another stack that assembly went to, and one in a fiber of the C
/// library.
/// Guarantees: the first ends at the assembly, stated as switched; the second is complete from the
/// fiber's start.
#[test]
fn another_stack_is_told() {
    let recorded = recorded!("switch.c", &["-O2"], &["switch.S"], &[]);
    recorded.at_least(45.0, "switched", &["on_stack", "on_other_stack"]);
    recorded.at_least(45.0, "complete", &["in_fiber"]);
    recorded.never(&["on_other_stack"], "broken");
}

/// Scenario: C called from Go, Go called back from C, Go alone, in one program with C's tables.
/// Guarantees: C is joined to the goroutine that called it, if it leaves the frame pointer alone, and
/// otherwise ends at the switch, stated; a callback is joined to the goroutine; Go alone is complete.
#[test]
fn go_and_c_call_each_other() {
    let recorded = recorded!("cgo.go", &[], &[], &[]);
    let of_main = |functions: &[&'static str]| {
        [&["runtime.goexit", "runtime.main", "main.main"][..], functions].concat()
    };
    let called =
        of_main(&["main.turns", "runtime.cgocall", "runtime.asmcgocall", "c_turns", "c_turn"]);
    recorded.at_least(15.0, "complete", &called);
    recorded.at_least(15.0, "switched", &["runtime.asmcgocall", "c_middle", "c_spin"]);
    recorded.never(&["c_spin"], "broken");
    let callback = of_main(&["main.callsBack", "main.goCallback", "main.spin"]);
    recorded.at_least(15.0, "complete", &callback);
    recorded.at_least(15.0, "complete", &of_main(&["main.spin"]));
}

/// Scenario: programs with a secret in registers, arguments and stacks, one that keeps frame pointers,
/// one that does not, and C called from Go with the frame pointer at the secret.
/// Guarantees: the secret is in no byte of the profile and of what is printed, neither as text nor as a
/// number, and every user frame lies in a file or in code that the program wrote.
#[test]
fn nothing_of_the_stack_but_addresses_of_code_comes_out() {
    let with = ["-O2", "-fno-omit-frame-pointer"];
    let bare = ["-O2", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    for flags in [&["-O2"][..], &with, &bare] {
        let recorded = recorded!("secret.c", flags, &[], &[]);
        recorded.has_nowhere(SECRET);
        recorded.at_least(95.0, "any", &["leaf"]);
    }
    recorded!("cgo_secret.go", &[], &[], &[]).has_nowhere(SECRET);
}

/// Scenario: an agent looks at such a program with each way of unwinding, writes files, has a durable
/// queue, keeps times and logs all it can.
/// Guarantees: the secret is in no file, in nothing that is queued and in nothing that is printed.
#[test]
fn nothing_of_the_stack_comes_out_of_an_agent() {
    for (unwind, frame_pointer) in [
        ("frame_pointers", "-fomit-frame-pointer"),
        ("frame_pointers", "-fno-omit-frame-pointer"),
        ("dwarf", "-fomit-frame-pointer"),
        ("auto", "-fomit-frame-pointer"),
    ] {
        let flags = ["-O2", frame_pointer];
        let bytes = match recording::everything_of_an_agent("secret.c", &flags, unwind) {
            Ok(bytes) => bytes,
            Err(why) => profpipe_testing::skip!("{why}"),
        };
        assert!(!recording::comes_out(SECRET, &bytes), "{unwind} {frame_pointer}");
    }
}

/// Scenario: a program has more than 3 MiB of unwinding rules, which stay in its file.
/// Guarantees: its stacks are whole.
#[test]
fn a_program_with_a_large_table_is_walked() {
    let directory = tempfile::tempdir().unwrap();
    let large = recording::large_table(directory.path(), 110_000);
    let recorded = recorded!("chain.c", &["-O2"], &[large.to_str().unwrap()], &[]);
    recorded.at_least(95.0, "complete", &["_start", "main", "middle", "leaf"]);
}

/// Scenario: C of many shapes, C++, Rust and Go are stopped at random instants; our unwinder and gdb's
/// are given the same registers and memory.
/// Guarantees: nothing that says complete differs, and no frame is untrue. (The whole comparison, with
/// more programs and stops, is `cargo bench --bench stacks`.)
#[test]
fn agrees_with_gdb_on_the_same_states() {
    for build in differential::BUILDS {
        if !["C -O2", "C -O2, static", "C++ -O2", "Rust -O"].contains(&build.name) {
            continue;
        }
        let counts = match differential::compare(build, 60, 1) {
            Ok(counts) => counts,
            Err(why) => profpipe_testing::skip!("{why}"),
        };
        eprintln!("{}: {counts:?}", build.name);
        assert!(counts.all() >= 30, "{}: {} stops", build.name, counts.all());
        assert_eq!((counts.different, counts.untrue), (0, 0), "{}", build.name);
        assert!(counts.equal * 100 >= counts.all() * 95, "{}: {counts:?}", build.name);
    }
}
