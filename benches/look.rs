//! How long a large profile takes to be looked at, and how much of it: `profpipe ui`, and `pprof -http` beside it.
//!
//! ```text
//! cargo bench --bench look
//! ```
//!
//! One pprof file: 100,000 distinct stacks of mean depth 33 over 20,000 functions, from a fixed seed. Each
//! program is started anew; "open" is from its start until it has answered its first picture, memory is the
//! peak of its process, times of requests are the median and the largest of 9, sizes are of the body as it
//! is sent to a client that takes zstd or gzip. `pprof` is taken from the built peers (tests/peers) if it is
//! there. What a browser then takes is not measured here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and fails by panicking"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use profile::{
    Function, Index as _, Line, LinkIx, LocationIx, LocationRef, Profile, Profiles, SampleRef,
    Samples, ValueType,
};
use profpipe::pipeline::{pprof, profile};

const STACKS: usize = 100_000;
const FUNCTIONS: u64 = 20_000;
const REQUESTS: usize = 9;

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Small numbers more often than large ones.
    fn skewed(&mut self, end: u64) -> u64 {
        let limit = 1 + self.below(end);
        self.below(limit)
    }
}

fn write_profile(file: &Path) {
    let mut batch = Profiles::new();
    let dictionary = &mut batch.dictionary;
    let cpu = ValueType {
        kind: dictionary.strings.intern("cpu"),
        unit: dictionary.strings.intern("nanoseconds"),
    };
    let locations: Vec<LocationIx> = (0..FUNCTIONS)
        .map(|number| {
            let name = dictionary
                .strings
                .intern(&format!("example.com/service/package{}.Function{number}", number % 300));
            let function = dictionary.functions.intern(Function { name, ..Function::default() });
            let line = Line { function, line: 1, column: 0 };
            dictionary.locations.intern(LocationRef {
                address: number + 1,
                lines: &[line],
                ..LocationRef::default()
            })
        })
        .collect();
    let mut numbers = Numbers(1);
    let mut samples = Samples::default();
    // Each stack begins as one before it does: so do those of programs.
    let mut stacks: Vec<Vec<LocationIx>> = vec![Vec::new()];
    while samples.len() < STACKS {
        let parent = &stacks[numbers.below(stacks.len() as u64) as usize];
        let mut stack: Vec<LocationIx> =
            parent[..numbers.below(parent.len() as u64 + 1) as usize].to_vec();
        let depth = 13 + numbers.below(41) as usize;
        while stack.len() < depth {
            stack.push(locations[numbers.skewed(FUNCTIONS) as usize]);
        }
        let leaf_first: Vec<LocationIx> = stack.iter().rev().copied().collect();
        let before = dictionary.stacks.len();
        let row = dictionary.stacks.intern(&leaf_first);
        if row.at() == before {
            samples.push(SampleRef {
                stack: row,
                attributes: &[],
                link: LinkIx::NONE,
                values: &[10_000_000 * (1 + numbers.skewed(50) as i64)],
                timestamps_unix_nano: &[],
            });
            stacks.push(stack);
        }
    }
    let depths: usize = stacks.iter().map(Vec::len).sum();
    println!(
        "input: {STACKS} stacks, mean depth {:.1}, {FUNCTIONS} functions",
        depths as f64 / STACKS as f64
    );
    let profile = Profile {
        sample_type: cpu,
        period_type: cpu,
        period: 10_000_000,
        time_unix_nano: 1_795_886_549_000_000_000,
        duration_nano: 60_000_000_000,
        samples,
        ..Profile::default()
    };
    let scope = profile::ScopeProfiles { profiles: vec![profile], ..Default::default() };
    batch.resources.push(profile::ResourceProfiles { scopes: vec![scope], ..Default::default() });
    let bytes = pprof::encode(&batch).unwrap();
    println!("       {:.1} MB as pprof", bytes.len() as f64 / 1e6);
    std::fs::write(file, bytes).unwrap();
}

/// A program that is ended on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// The most memory it had, in MB.
    fn peak(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
        kilobytes.unwrap_or(f64::NAN) / 1e3
    }
}

/// The size of what is answered; nothing if there is no answer yet.
fn get(host: &str, path: &str) -> Option<usize> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(300))).ok()?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: zstd, gzip\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let is_good = answer.starts_with(b"HTTP/1.1 200");
    is_good.then_some(answer.len() - end - 4)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn requests(host: &str, what: &str, path: &str) {
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..REQUESTS {
        let start = Instant::now();
        size = get(host, path).unwrap_or_else(|| panic!("no answer to {path}"));
        times.push(millis(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    let (median, largest) = (times[REQUESTS / 2], times[REQUESTS - 1]);
    println!(
        "  {what:<34} {median:>7.0} ms, at most {largest:>6.0} ms {:>8.1} KB",
        size as f64 / 1e3
    );
}

fn look(file: &Path) {
    println!("profpipe ui");
    let start = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .arg("ui")
        .arg(file)
        .arg("--no-open")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = millis(start.elapsed());
    let (host, token) = line.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
    let size = get(host, &format!("/{token}/api/tree")).unwrap();
    let open = millis(start.elapsed());
    println!(
        "  open: address after {address:.0} ms, first tree after {open:.0} ms, {:.1} KB",
        size as f64 / 1e3
    );
    println!("  memory then: {:.0} MB", running.peak());
    let path = |rest: &str| format!("/{token}/api/{rest}");
    requests(host, "tree", &path("tree"));
    requests(host, "tree, 20,000 nodes without hashes", &path("tree?nodes=20000&width=0&hash=0"));
    requests(host, "tree, inverted", &path("tree?invert=1"));
    requests(host, "tree, focus on package7", &path("tree?focus=package7%5C."));
    requests(
        host,
        "tree, hide package7, fold",
        &path("tree?hide=package7%5C.&fold=recursion,libraries"),
    );
    requests(host, "functions", &path("functions"));
    requests(host, "search", &path("search?term=function1"));
    requests(host, "sandwich", &path("sandwich?function=example.com/service/package7.Function7"));
    requests(host, "series", &path("series"));
    println!("  memory at the end: {:.0} MB", running.peak());
}

fn peer(name: &str) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/profpipe-peers"));
    let directory = std::env::var_os("PROFPIPE_PEERS").map(PathBuf::from).or_else(home)?;
    Some(directory.join("bin").join(name)).filter(|program| program.exists())
}

fn google_pprof(file: &Path) {
    let Some(program) = peer("pprof") else {
        println!(
            "pprof -http: not measured, it is not among the built peers (cargo test --test peers builds it)"
        );
        return;
    };
    println!("pprof -http");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let host = free.to_string();
    let start = Instant::now();
    let child = Command::new(program)
        .args(["-http", &host, "-no_browser"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let size = loop {
        if let Some(size) = get(&host, "/ui/flamegraph") {
            break size;
        }
        assert!(start.elapsed() < Duration::from_secs(300), "pprof does not answer");
        std::thread::sleep(Duration::from_millis(20));
    };
    println!(
        "  open: flame graph after {:.0} ms, {:.1} KB",
        millis(start.elapsed()),
        size as f64 / 1e3
    );
    println!("  memory then: {:.0} MB", running.peak());
    requests(&host, "top", "/ui/top");
}

fn main() {
    println!(
        "{}",
        include_str!("look.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! "))
            .skip(4)
            .collect::<Vec<_>>()
            .join("\n")
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.pb.gz");
    write_profile(&file);
    look(&file);
    google_pprof(&file);
    println!("speedscope: not measured here, it takes a browser");
}
