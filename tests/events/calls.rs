//! Are calls counted exactly, in C, in Go, and at probes that programs were written with?

use std::process::Command;

use crate::{all, profpipe, program, stacks, truth, weight_of};

/// Scenario: a program with threads and a child counts its calls of four functions and how often it passes a
/// probe with a semaphore, and so does profpipe; then the same of an optimised Go program whose stacks grow,
/// with symbols and stripped; then functions and probes that there are not.
/// Guarantees: all counts are equal, and the programs end as they do without; the summary tells the time of a
/// call and what counting took; stacks reach their root, also where the kernel steps over an instruction; what
/// there is not is said.
#[test]
fn calls_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(binary) = program(home, "calls.c", &["-O1"]) else { return };
    let binary = binary.to_str().unwrap();
    let functions = ["parse", "recurse", "pointed", "plain"];
    let mut events: Vec<String> =
        functions.iter().map(|function| format!("calls={binary}:{function}")).collect();
    events.push(format!("calls={binary}:shop:sold"));
    let mut arguments = vec!["record"];
    events.iter().for_each(|event| arguments.extend(["-e", event]));
    arguments.extend(["-o", "c.otlp", "--", binary, "3000", "truth"]);
    let recorded = profpipe(home, &arguments);
    let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
    if said.contains("not permitted") || said.contains("no probes of programs") {
        profpipe_testing::skip!("probes of programs are not permitted");
    }
    let mut truth = truth(home);
    let found = stacks(home, "c.otlp", "calls");
    // Whoever is asked whether somebody listens sees it.
    assert!(truth["heard"] > 0.0 && truth["heard"] == truth["sold"], "{truth:?}");
    truth.insert("[shop:sold]".into(), truth["sold"]);
    for function in functions.into_iter().chain(["[shop:sold]"]) {
        // Of recursion the leaf is meant.
        let is_of = |frames: &[String]| frames.last().is_some_and(|leaf| leaf == function);
        let counted: f64 =
            found.iter().filter(|(frames, _)| is_of(frames)).map(|(_, weight)| weight).sum();
        assert_eq!(counted, truth[function], "{function}: {said}");
        assert!(said.contains(&format!("calls of {function}: ")), "{said}");
    }
    assert!(weight_of(&found, "work") >= 0.99 * all(&found), "{said}");
    assert!(said.contains("counting took"), "{said}");
    // While an instruction is stepped over, the function is known all the same; nearly all of its time is that.
    let event = format!("calls={binary}:plain");
    let frequency = ["record", "-F", "999", "-e", "cpu", "-e", &event, "-o", "s.otlp", "--"];
    profpipe(home, &[&frequency[..], &[binary, "50000", "truth"][..]].concat());
    let mut stepped = stacks(home, "s.otlp", "cpu");
    stepped.retain(|(frames, _)| frames.iter().any(|frame| frame == "[uprobes]"));
    let known = weight_of(&stepped, "plain").min(weight_of(&stepped, "work"));
    assert!(known > 0.0 && known >= 0.9 * all(&stepped), "{known} of {}", all(&stepped));
    for (name, expected) in [
        (format!("{binary}:nothing"), "no function `nothing`"),
        (format!("{binary}:shop:nothing"), "no probe `shop:nothing`"),
        ("usdt:shop:nothing".into(), "no file that the processes map now has a probe"),
    ] {
        let event = format!("calls={name}");
        let output = profpipe(home, &["record", "-e", &event, "-o", "x.otlp", "--", "true"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{said}");
    }

    std::fs::write(home.join("grow.go"), GO).unwrap();
    for flags in ["", "-s -w"] {
        let built = Command::new("go")
            .current_dir(home)
            .env("GO111MODULE", "off")
            .args(["build", "-ldflags", flags, "-o", "grow", "grow.go"])
            .output();
        let Ok(built) = built else {
            profpipe_testing::skip!("there is no Go");
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let go = home.join("grow");
        let event = format!("calls={}:main.grow", go.display());
        let output =
            profpipe(home, &["record", "-e", &event, "-o", "g.otlp", "--", go.to_str().unwrap()]);
        let counted: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        assert_eq!(all(&stacks(home, "g.otlp", "calls")), counted, "{flags}");
    }
}

/// Counts its calls of a function that needs more and more stack, in goroutines that begin with little.
const GO: &str = r#"package main

import (
	"fmt"
	"sync"
	"sync/atomic"
)

var calls int64

//go:noinline
func grow(n int) int {
	var room [64]int
	atomic.AddInt64(&calls, 1)
	if n == 0 {
		return room[n%64]
	}
	return grow(n-1) + room[(n+1)%64]
}

func main() {
	var group sync.WaitGroup
	for i := 0; i < 200; i++ {
		group.Add(1)
		go func() { defer group.Done(); grow(300) }()
	}
	group.Wait()
	fmt.Println(calls)
}
"#;
