//! What the profiled host does: this program again, with `--load NAME --seconds S`.
#![allow(unsafe_code, reason = "mappings of files have no safe wrapper")]

use std::hint::black_box;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::clock;

/// What the parts of the work take of a CPU.
pub(crate) const PARTS: [f64; 7] = [0.45, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05];

/// Starts a load that ends by itself.
pub(crate) fn start(name: &str, seconds: f64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--load", name, "--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a load; the main function of the started program.
pub(crate) fn run(name: &str, seconds: f64) {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let middle = Instant::now() + Duration::from_secs_f64(seconds / 2.0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    match name {
        "idle" => std::thread::sleep(Duration::from_secs_f64(seconds)),
        "busy" => parts(end),
        "step" => {
            while Instant::now() < middle {
                work(1);
                std::thread::sleep(Duration::from_millis(20));
            }
            parts(end);
        }
        "forks" => {
            std::thread::sleep(Duration::from_secs_f64(seconds / 4.0));
            let one = move || {
                while Instant::now() < end {
                    let _ = Command::new("/bin/true").stdin(Stdio::null()).status();
                }
            };
            spread(cpus, one);
        }
        "mappings" => {
            std::thread::sleep(Duration::from_secs_f64(seconds / 4.0));
            mappings(end);
        }
        "deep" => {
            std::thread::sleep(Duration::from_secs_f64(seconds / 4.0));
            spread(cpus, move || {
                while Instant::now() < end {
                    black_box(deep(black_box(250)));
                }
            });
        }
        "crowd" => {
            std::thread::sleep(Duration::from_secs_f64(seconds / 3.0));
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            let children: Vec<Child> = (0..300).map(|_| start("member", left)).collect();
            for mut child in children {
                let _ = child.wait();
            }
        }
        "member" => {
            while Instant::now() < end {
                work(1);
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        // A fixed amount of work; says what it took of CPU time.
        "fixed" => {
            for _ in 0..1500 {
                work(1);
            }
            let _ = writeln!(std::io::stdout(), "{}", thread_cpu());
        }
        other => panic!("no load is called {other}"),
    }
}

fn spread(threads: usize, work: impl Fn() + Send + Copy + 'static) {
    let threads: Vec<_> = (0..threads).map(|_| std::thread::spawn(work)).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Threads that each do one thing, in bursts of random length, and say what that took.
fn parts(end: Instant) {
    let threads = PARTS.iter().enumerate().map(|(at, share)| {
        let name = format!("part-{at}");
        let body = move || {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(at as u64 + 3);
            while Instant::now() < end {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let rounds = 1 + state % 12;
                let began = thread_cpu();
                work(rounds);
                let took = (thread_cpu() - began) as f64;
                std::thread::sleep(Duration::from_nanos((took * (1.0 / share - 1.0)) as u64));
            }
            (at, thread_cpu())
        };
        std::thread::Builder::new().name(name).spawn(body).unwrap()
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        let (at, took) = thread.join().unwrap();
        let _ = writeln!(std::io::stdout(), "part-{at} {took}");
    }
}

/// About a millisecond, so many times.
#[inline(never)]
fn work(times: u64) {
    for round in 0..times * 400_000 {
        black_box(black_box(round).wrapping_mul(31));
    }
}

#[inline(never)]
fn deep(levels: u32) -> u64 {
    if levels == 0 {
        work(2);
        return 1;
    }
    black_box(deep(black_box(levels - 1)).wrapping_add(u64::from(levels)))
}

/// Four thousand new executable mappings a second, of this program's own file.
fn mappings(end: Instant) {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    while Instant::now() < end {
        let tick = Instant::now();
        for _ in 0..40 {
            // SAFETY: a new mapping of a page of a file, which nobody reads, and its end.
            unsafe {
                let protection = libc::PROT_READ | libc::PROT_EXEC;
                let flags = libc::MAP_PRIVATE;
                let at =
                    libc::mmap(std::ptr::null_mut(), 4096, protection, flags, file.as_raw_fd(), 0);
                if at != libc::MAP_FAILED {
                    libc::munmap(at, 4096);
                }
            }
        }
        work(1);
        std::thread::sleep(Duration::from_millis(10).saturating_sub(tick.elapsed()));
    }
}

/// CPU time of the calling thread, in nanoseconds.
fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}
