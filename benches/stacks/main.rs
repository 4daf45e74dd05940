//! How true stacks are: `cargo bench --bench stacks [-- --stops N --only NAME]`.
//!
//! Programs are stopped at random instants, and our unwinder and gdb's are given the same registers and
//! memory (`tests/stacks/differential`). Prints for each program the shares of stops: *equal* frames
//! and said to be complete; *unsaid*, equal but not said to be complete; *shorter*, our frames are true
//! and it is said that there are more; *gdb shorter*; *different* although said to be complete;
//! *untrue*, a frame differs in a stack that does not say complete. Examples of what differs follow. The last
//! column is what `perf record --call-graph dwarf` of the kernel tools makes of the same program: the
//! share of samples whose stack reaches a start (`_start`, a thread's, `goexit`), where it is installed.
//!
//! Asserts nothing; the test `stacks` does, with fewer stops.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../../tests/stacks/differential/mod.rs"]
mod differential;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod perf;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("stacks: compares for minutes; run it with cargo bench --bench stacks");
        return;
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let stops = value("--stops").and_then(|stops| stops.parse().ok()).unwrap_or(500);
    let only = value("--only").unwrap_or_default();
    println!(
        "| program | stops | equal | unsaid | shorter | gdb shorter | different | untrue | perf |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut examples = Vec::new();
    for build in differential::BUILDS.iter().filter(|build| build.name.contains(&only)) {
        let counts = match differential::compare(build, stops, 1) {
            Ok(counts) => counts,
            Err(why) => {
                println!("| {} | not here: {why} |", build.name);
                continue;
            }
        };
        let all = counts.all();
        let share =
            |count: u32| format!("{:.1} %", 100.0 * f64::from(count) / f64::from(all.max(1)));
        println!(
            "| {} | {all} | {} | {} | {} | {} | {} | {} | {} |",
            build.name,
            share(counts.equal),
            share(counts.equal_unsaid),
            share(counts.shorter),
            share(counts.gdb_shorter),
            counts.different,
            counts.untrue,
            perf::reached(build).map_or("-".to_owned(), |share| format!("{share:.1} %")),
        );
        examples.extend(
            counts.examples.into_iter().map(|example| format!("{}\n{example}", build.name)),
        );
    }
    for example in examples {
        println!("\n{example}");
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("stacks: Linux on x86-64 only");
}
