//! The worker as a process: its sandbox, its deaths, its lies.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use profpipe_engine::component::{Outbox, Processor};
use profpipe_engine::settings::Duration as Setting;
use profpipe_engine::telemetry::names;

use super::super::answer::from_wire;
use super::super::protocol::{Names, WireAnswer, WireFrame, WireFunction};
use super::support::*;

/// Scenario: code in the worker opens, connects, executes, starts threads, makes code. Guarantees:
/// all of it fails.
#[test]
fn the_sandbox_holds() {
    let command = worker_command("probe");
    let mut process = Command::new(command.program)
        .args(command.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let code = process.wait().unwrap().code();
    assert_eq!(code, Some(0), "the probe says what got through");
}

/// Scenario: code in the sandbox uses up the stack, or all memory. Guarantees: the kernel ends the
/// process; it does not hang, and the machine's memory is not touched.
#[test]
fn overflow_and_gluttony_end_the_worker() {
    for mode in ["overflow", "gorge"] {
        let command = worker_command(mode);
        let mut process = Command::new(command.program)
            .args(command.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = process.wait().unwrap();
        assert!(status.signal().is_some(), "{mode}: {status}");
    }
}

/// Scenario: a worker that says nothing. Guarantees: `process` and `tick` return at once, the
/// batch goes on unnamed when its time is up, and the module is left alone after two deaths.
#[test]
fn a_silent_worker_holds_nothing_up() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let path = program.to_str().unwrap();
    let bench = Bench::with(|config| {
        config.timeout = Setting::from_millis(50);
        config.worker_timeout = Setting::from_millis(300);
    });
    bench.publish(&program);
    let mut bench = bench.with_worker("silent");
    let mut out = Outbox::default();
    bench.processor.process(batch_of(&[(path, &[0x1000])]), &mut out).unwrap();
    assert_eq!(out.drain().count(), 0);
    bench.processor.tick(Instant::now() + Duration::from_secs(1), &mut out);
    let named = bench.only(&mut out, path);
    assert_eq!(named.attributes["profpipe.unsymbolized.reason"], "timeout");

    bench.set_timeout(Duration::from_secs(60));
    let names = bench.symbolize(batch_of(&[(path, &[0x1000])]));
    let attributes = &names[path][&0x1000].attributes;
    assert_eq!(attributes["profpipe.unsymbolized.reason"], "refused: limit");
    assert_eq!(bench.services.metrics.total(names::WORKER_RESTARTS), 2);
    assert_eq!(bench.services.metrics.total(names::FRAMES_UNNAMED), 2);
}

/// Scenario: there is no program to run as worker, or it is no worker. Guarantees: batches go on
/// at once, with the reason.
#[test]
fn without_a_worker_batches_go_on() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    for worker in [None, Some("/nonexistent"), Some("/bin/true")] {
        let mut bench = Bench::new().with_program(worker);
        let names = bench.names(&program, &[0x1000]);
        let attributes = &names[&0x1000].attributes;
        assert_eq!(attributes["profpipe.unsymbolized.reason"], "no worker");
    }
}

/// Scenario: a file of debug information is cut short while the worker has it mapped, then a program
/// is. Guarantees: the worker dies of the first and is started again; other files have their names,
/// these have none.
#[test]
fn a_file_cut_short_costs_only_its_own_names() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=none"]);
    let Some(functions) = functions(&program) else { return };
    let outer = functions["outer"].0;
    let main = functions["main"].0;
    let (victim, debug) = (files.path("victim"), files.path("victim.debug"));
    let keep = run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
    if keep.is_none() {
        return;
    }
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run(Command::new("objcopy").args(["-S", &link]).arg(&program).arg(&victim)).unwrap();
    let mut bench = Bench::without_tables();
    let path = victim.to_str().unwrap();
    let good = program.to_str().unwrap();
    for cut in [&debug, &victim] {
        assert_eq!(bench.names(&victim, &[outer])[&outer].functions().last(), Some(&"outer"));
        File::options().write(true).open(cut).unwrap().set_len(0).unwrap();
        bench.publish(&program);
        let names = bench.symbolize(batch_of(&[(path, &[main]), (good, &[main])]));
        assert_eq!(names[good][&main].functions().last(), Some(&"main"));
        assert!(names[path][&main].frames.is_empty());
        assert!(bench.services.metrics.total(names::WORKER_RESTARTS) > 0);
    }
}

/// Scenario: a worker is killed between two batches. Guarantees: the next batch has its names.
#[test]
fn a_killed_worker_is_replaced() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let Some(functions) = functions(&program) else { return };
    let (outer, main) = (functions["outer"].0, functions["main"].0);
    let mut bench = Bench::new().with_worker("once");
    assert_eq!(bench.names(&program, &[outer])[&outer].functions(), ["outer"]);
    assert_eq!(bench.names(&program, &[main])[&main].functions(), ["main"]);
}

/// Scenario: answers that contradict themselves. Guarantees: they are refused, as from a worker
/// that a file has taken over.
#[test]
fn lies_are_refused() {
    let frame = WireFrame { function: 0, line: 1, column: 1 };
    let answer = |frames| WireAnswer { frames, before: 1, after: 1 };
    let good = |change: &dyn Fn(&mut Names)| {
        let mut names = Names {
            functions: vec![WireFunction::default()],
            frames: vec![frame; 2],
            answers: vec![answer(2), answer(0)],
            last: false,
            wanted: Vec::new(),
        };
        change(&mut names);
        from_wire(names, &[1, 2])
    };
    assert_eq!(good(&|_| {}).unwrap().len(), 2);
    assert_eq!(good(&|names| names.answers = vec![]), None);
    assert_eq!(good(&|names| names.answers = vec![answer(1); 3]), None);
    assert_eq!(good(&|names| names.answers = vec![answer(3)]), None);
    assert_eq!(good(&|names| names.answers = vec![answer(u32::MAX)]), None);
    assert_eq!(good(&|names| names.functions.clear()), None);
    for (before, after) in [(2, 1), (u64::MAX, 1), (1, u64::MAX)] {
        let answer = WireAnswer { frames: 0, before, after };
        assert_eq!(good(&|names| names.answers = vec![answer]), None);
    }
    let many = |names: &mut Names| {
        names.frames = vec![frame; 1000];
        names.answers = vec![answer(1000)];
    };
    assert_eq!(good(&many), None);
}
