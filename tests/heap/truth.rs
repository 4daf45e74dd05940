//! What programs count themselves, beside what a recording says of them.

use std::collections::BTreeMap;

use crate::recordings::{all, compile, obstacle, record, run, source, stacks, weight_of};

const TYPES: [&str; 4] = ["alloc_space", "alloc_objects", "inuse_space", "inuse_objects"];
const FUNCTIONS: [&str; 7] = ["small", "middle", "large", "zeroed", "grown", "aligned", "leaked"];
/// How far an estimate may be off, in standard errors.
const MOST: f64 = 6.0;

/// Scenario: a program with four threads allocates in seven functions, by `malloc`, `calloc`, `realloc` and
/// `posix_memalign`, blocks of 24 bytes to 64 KiB, and leaks those of one of them; twenty times, with other
/// random numbers each.
/// Guarantees: what each function has allocated, and what is left of it, in bytes and in blocks, is what the
/// program has counted, within what chance allows, in each recording and in all together; nothing is left of
/// what was freed, nothing is lost, and nearly all stacks reach `main` or the beginning of their thread.
#[test]
fn allocations_are_where_they_are() {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(program) = compile(home, "heap.c", &["-lm"]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let program = program.to_str().unwrap();
    let mut off: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let (mut squares, mut count, mut large) = (0.0, 0, Vec::new());
    const RUNS: i32 = 20;
    for seed in 1..=RUNS {
        let seed = seed.to_string();
        let variables = [("PROFPIPE_HEAP_SEED", seed.as_str())];
        let command = [program, "100", "65536", "truth", "4"];
        let said = record(home, "heap:interval=64KiB", &variables, &command);
        assert!(said.contains(" 0 lost"), "{said}");
        let truth = std::fs::read_to_string(home.join("truth")).unwrap();
        let truth: BTreeMap<&str, f64> = truth
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        for sample_type in TYPES {
            let found = stacks(home, "h.otlp", sample_type);
            if sample_type == "alloc_space" {
                let rooted = weight_of(&found, "main") + weight_of(&found, "start_thread");
                assert!(rooted > 0.99 * all(&found), "{rooted} of {}", all(&found));
            }
            for function in FUNCTIONS {
                let expected = truth[format!("{function}.{sample_type}").as_str()];
                let variance = truth[format!("{function}.{sample_type}.variance").as_str()];
                let estimate = weight_of(&found, function);
                if expected == 0.0 {
                    assert_eq!(estimate, 0.0, "{function} {sample_type}");
                    continue;
                }
                let z = (estimate - expected) / variance.sqrt();
                assert!(z.abs() < MOST, "{function} {sample_type}: {estimate} for {expected}: {z}");
                *off.entry((function, sample_type)).or_default() += z;
                squares += z * z;
                count += 1;
                if z.abs() > 3.0 {
                    large.push((function, sample_type, z));
                }
            }
        }
    }
    for (of, sum) in &off {
        let z = sum / f64::from(RUNS).sqrt();
        println!("{of:?}: {z:.2} standard errors over {RUNS} recordings");
        assert!(z.abs() < MOST, "{of:?}: {z} standard errors over {RUNS} recordings");
    }
    println!("mean square {:.2} of {count}, above 3: {large:?}", squares / f64::from(count));
    // The estimates of bytes and blocks of a function go together: half of them are independent.
    let mean = squares / f64::from(count);
    let error = (2.0 / f64::from(count / 2)).sqrt();
    assert!((mean - 1.0).abs() < MOST * error, "the errors are not those of chance: {mean}");
}

/// Scenario: a Python program allocates blocks of one size in each of its functions, one of them below a
/// method, and keeps those of one; then it ends without freeing them.
/// Guarantees: what each function has allocated, and what is kept, is what the program says; functions have
/// their Python names, below those that call them.
#[test]
fn python_allocates_in_its_own_functions() {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    if run_python(home).is_none() {
        profpipe_testing::skip!("there is no python3");
    }
    let script = source("heap.py");
    // So many samples, each with what the interpreter has of its thread, that none is lost where the recorder
    // shares its CPUs with other tests.
    let interval = 1_048_576.0;
    let command = ["python3", script.to_str().unwrap(), "truth"];
    let said = record(home, "heap:interval=1MiB", &[], &command);
    let truth = std::fs::read_to_string(home.join("truth")).unwrap();
    let allocated = ["alloc_space", "alloc_objects"].map(|it| stacks(home, "h.otlp", it));
    let in_use = stacks(home, "h.otlp", "inuse_space");
    for line in truth.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, blocks, size] = fields[..] else { panic!("{line}") };
        let (blocks, size): (f64, f64) = (blocks.parse().unwrap(), size.parse().unwrap());
        let chance = -(-size / interval).exp_m1();
        let error = (blocks * (1.0 - chance) / chance).sqrt();
        let [bytes, count] = [0, 1].map(|at| weight_of(&allocated[at], name));
        let z = (count - blocks) / error;
        assert!(z.abs() < MOST, "{name}: {count} of {blocks} blocks: {z}: {said}");
        let z = (bytes - blocks * size) / (size * error);
        assert!(z.abs() < MOST, "{name}: {bytes} of {} bytes: {z}: {said}", blocks * size);
        let left = weight_of(&in_use, name);
        match name {
            // The list that holds them, too, which is much smaller.
            "keep" => {
                let z = (left - blocks * size) / (size * error);
                assert!(z.abs() < MOST, "{left} of {} bytes are in use: {z}", blocks * size);
            }
            _ => assert!(left < 3.0 * interval, "{name}: {left} bytes are in use"),
        }
    }
    let [bytes, _] = &allocated;
    let is_below = |frames: &[String]| {
        let at = |end: &str| frames.iter().position(|frame| frame.ends_with(end));
        at("thousand").is_some_and(|leaf| at("method").is_some_and(|caller| caller < leaf))
    };
    let below: f64 = bytes.iter().filter(|(it, _)| is_below(it)).map(|(_, weight)| weight).sum();
    let thousand = bytes.iter().filter(|(it, _)| it.iter().any(|it| it == "thousand"));
    let thousand: f64 = thousand.map(|(_, weight)| weight).sum();
    assert!(below > 0.99 * thousand, "{below} of {thousand}");
}

fn run_python(home: &std::path::Path) -> Option<()> {
    let mut python = std::process::Command::new("python3");
    let output = python.current_dir(home).arg("--version").output().ok()?;
    output.status.success().then_some(())
}

/// Scenario: a recording of a heap, converted to pprof and back, and to OTLP's JSON.
/// Guarantees: all four types are there with their units and totals, and `top` and the summary show them.
#[test]
fn profiles_of_heaps_are_converted() {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(program) = compile(home, "simple.c", &[]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let said = record(home, "heap", &[], &[program.to_str().unwrap()]);
    for text in ["MiB of alloc_space", "profpipe: alloc_objects: ", "profpipe: inuse_space: "] {
        assert!(said.contains(text), "{text}: {said}");
    }
    for (from, to) in [("h.otlp", "a.pb.gz"), ("a.pb.gz", "b.json"), ("b.json", "c.otlp")] {
        assert!(run(home, &[], &["convert", from, to]).status.success());
        for sample_type in TYPES {
            let sums = [from, to].map(|file| all(&stacks(home, file, sample_type)));
            assert!(sums[0] > 0.0 && sums[0] == sums[1], "{to} {sample_type}: {sums:?}");
        }
    }
    // 1,000,000 bytes are sampled with a probability of 0.85.
    let total = all(&stacks(home, "c.otlp", "alloc_space"));
    assert!((170e6..230e6).contains(&total), "{total}");
    let top = run(home, &[], &["top", "a.pb.gz", "--type", "inuse_space", "--format", "json"]);
    let top: serde_json::Value = serde_json::from_slice(&top.stdout).unwrap();
    assert_eq!((&top["profile_type"], &top["unit"]), (&"inuse_space".into(), &"bytes".into()));
    assert_eq!(top["functions"][0]["name"], "allocate", "{top}");
}
