//! Programs of other languages.

use std::process::Command;

use crate::recordings::{obstacle, record, stacks, weight_of};

/// Scenario: a function of a C++ program, one of a Rust program, and a script of Node each allocate 200 MB:
/// in containers, in vectors, in buffers outside of the machine's heap.
/// Guarantees: it is seen there, in functions with their own names where they are native.
#[test]
fn native_languages_and_node() {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("a.cc"), CPP).unwrap();
    std::fs::write(home.join("a.rs"), RUST).unwrap();
    std::fs::write(home.join("a.js"), NODE).unwrap();
    let build = |command: &[&str]| {
        let output = Command::new(command[0]).current_dir(home).args(&command[1..]).output();
        output.is_ok_and(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        })
    };
    if build(&["c++", "-g", "-O1", "-fno-builtin", "-o", "cpp", "a.cc"]) {
        record(home, "heap", &[], &["./cpp"]);
        let found = stacks(home, "h.otlp", "alloc_space");
        let total = below(&found, "fill_containers");
        assert!((160e6..240e6).contains(&total), "{total}");
    }
    if build(&["rustc", "-g", "-O", "-o", "rust", "a.rs"]) {
        record(home, "heap", &[], &["./rust"]);
        let found = stacks(home, "h.otlp", "alloc_space");
        let total = below(&found, "fill_vectors");
        assert!((160e6..240e6).contains(&total), "{total}");
    }
    if Command::new("node").arg("--version").output().is_ok_and(|it| it.status.success()) {
        record(home, "heap", &[], &["node", "a.js"]);
        let found = stacks(home, "h.otlp", "alloc_space");
        let total = below(&found, "node::Start(");
        assert!((160e6..260e6).contains(&total), "{total}");
    }
}

/// Scenario: a Go program allocates blocks of one size in each of three functions and keeps those of one; the
/// same program without anything that asks for its heap profile.
/// Guarantees: what each function has allocated, and what is kept, is what the program says, within what
/// chance allows; of the other program it is said why there is nothing.
#[test]
fn go_samples_itself() {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let source = std::fs::read_to_string(crate::recordings::source("heap.go")).unwrap();
    let asking: Vec<&str> = source.lines().filter(|line| line.contains("// asks")).collect();
    assert_eq!(asking.len(), 2);
    let silent: Vec<&str> = source.lines().filter(|line| !line.contains("// asks")).collect();
    for (name, text) in [("asking", source.clone()), ("silent", silent.join("\n"))] {
        let file = format!("{name}.go");
        std::fs::write(home.join(&file), text).unwrap();
        let mut go = Command::new("go");
        go.current_dir(home).env("GO111MODULE", "off").args(["build", "-o", name, &file]);
        let Ok(built) = go.output() else {
            profpipe_testing::skip!("there is no Go");
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    let said = record(home, "heap", &[], &["./asking", "truth"]);
    let truth = std::fs::read_to_string(home.join("truth")).unwrap();
    let allocated = stacks(home, "h.otlp", "alloc_space");
    let in_use = stacks(home, "h.otlp", "inuse_space");
    for line in truth.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, blocks, size] = fields[..] else { panic!("{line}") };
        let (blocks, size): (f64, f64) = (blocks.parse().unwrap(), size.parse().unwrap());
        let chance = -(-size / 524_288.0).exp_m1();
        let error = size * (blocks * (1.0 - chance) / chance).sqrt();
        let is_kept = name == "main.keep";
        // The slice that holds them grows there, too.
        let of_blocks = |stacks: &[(Vec<String>, f64)]| -> f64 {
            let is_of_list = |frames: &[String]| frames.iter().any(|it| it == "runtime.growslice");
            let blocks = stacks.iter().filter(|(frames, _)| !is_of_list(frames)).cloned();
            weight_of(&blocks.collect::<Vec<_>>(), name)
        };
        let mut found = vec![of_blocks(&allocated)];
        if is_kept {
            found.push(of_blocks(&in_use));
        }
        for found in found {
            let z = (found - blocks * size) / error;
            assert!(z.abs() < 6.0, "{name}: {found} of {} bytes: {z}: {said}", blocks * size);
        }
    }
    let said = record(home, "heap", &[], &["./silent", "truth"]);
    assert!(said.contains("keeps no heap profile"), "{said}");
}

/// The weight of the stacks with a function whose name has such a part.
fn below(stacks: &[(Vec<String>, f64)], part: &str) -> f64 {
    let has = |frames: &[String]| frames.iter().any(|frame| frame.contains(part));
    stacks.iter().filter(|(frames, _)| has(frames)).map(|(_, weight)| weight).sum()
}

const CPP: &str = r#"
#include <map>
#include <string>
#include <vector>
__attribute__((noinline)) long fill_containers(int round) {
    std::vector<std::string> words;
    words.reserve(10000);
    for (int i = 0; i < 10000; i++) words.push_back(std::string(round + 170, 'x'));
    return words.size();
}
int main() {
    long sum = 0;
    for (int i = 0; i < 80; i++) sum += fill_containers(i);
    return sum != 800000;
}
"#;

const RUST: &str = r#"
#[inline(never)]
fn fill_vectors(round: usize) -> usize {
    let mut all = Vec::with_capacity(1000);
    for i in 0..1000 {
        all.push(vec![round as u8 + i as u8; 2000]);
    }
    std::hint::black_box(&all).len()
}
fn main() {
    let sum: usize = (0..100).map(fill_vectors).sum();
    assert_eq!(sum, 100_000);
}
"#;

const NODE: &str = "
let kept = [];
for (let i = 0; i < 200; i++) {
    const buffer = Buffer.alloc(1000000);
    buffer[i] = 1;
    if (i % 10 == 0) kept.push(buffer);
}
";
