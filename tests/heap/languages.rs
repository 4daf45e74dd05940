//! Programs of other languages.

use std::process::Command;

use crate::recordings::{obstacle, record, stacks};

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
