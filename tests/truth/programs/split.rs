//! A Rust program that knows where its CPU time goes: 60 % in the generic `grind::<u64>` (through a
//! closure), 30 % in `<Scatter as Work>::run` and 10 % in `<Deep as Work>::run` (dyn calls), half of
//! it on a second thread. Long turns, as in split.c. Usage: split TRUTH.json CPU_SECONDS

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

// struct rusage begins with two timevals of two words each; the rest is not read.
#[repr(C)]
struct Rusage {
    user: [i64; 2],
    system: [i64; 2],
    rest: [i64; 14],
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    fn getrusage(who: i32, usage: *mut Rusage) -> i32;
}

const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

fn thread_ns() -> u64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    assert_eq!(unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

fn process_ns() -> u64 {
    let mut usage = Rusage { user: [0; 2], system: [0; 2], rest: [0; 14] };
    assert_eq!(unsafe { getrusage(0, &mut usage) }, 0);
    ((usage.user[0] + usage.system[0]) as u64 * 1_000_000
        + (usage.user[1] + usage.system[1]) as u64)
        * 1000
}

/// Inlined into its callers: profiles show it as an inlined frame with lines of this block.
#[inline(always)]
fn whirl(mut x: u64) -> u64 {
    x ^= x << 13; // inline:begin
    x ^= x >> 7;
    x ^= x << 17;
    x.wrapping_mul(0x2545_f491_4f6c_dd1d) // inline:end
}

#[inline(never)]
fn grind<T: Copy + From<u32>>(seed: T, step: impl Fn(T) -> T, until: u64) -> T {
    let mut x = seed;
    loop {
        for _ in 0..400_000 {
            x = step(x);
        }
        if thread_ns() >= until {
            return black_box(x);
        }
    }
}

trait Work {
    fn run(&mut self, until: u64) -> u64;
}

struct Scatter {
    table: Vec<u64>,
}

struct Deep {
    levels: u32,
}

impl Work for Scatter {
    #[inline(never)]
    fn run(&mut self, until: u64) -> u64 {
        let mut x = 1_u64;
        loop {
            for _ in 0..400_000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
                let slot = (x >> 54) as usize % self.table.len();
                self.table[slot] ^= x;
            }
            if thread_ns() >= until {
                return black_box(x);
            }
        }
    }
}

impl Work for Deep {
    #[inline(never)]
    fn run(&mut self, until: u64) -> u64 {
        // The addition keeps this from becoming a jump, which would leave no frame.
        dig(self.levels, until).wrapping_add(1)
    }
}

#[inline(never)]
fn dig(level: u32, until: u64) -> u64 {
    let mut frame = [level as u8; 512];
    black_box(&mut frame);
    let result = if level == 0 {
        let mut x = 1_u64;
        while thread_ns() < until {
            for i in 0..160_000 {
                x = (x / 7).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i);
            }
            x = black_box(x);
        }
        x
    } else {
        dig(level - 1, until)
    };
    result.wrapping_add(u64::from(black_box(&frame)[0]))
}

static SPENT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

#[inline(never)]
fn run_turns(until: u64) -> u64 {
    let mut works: [(usize, u64, Box<dyn Work>); 2] = [
        (1, 300_000_000, Box::new(Scatter { table: vec![0; 1024] })),
        (2, 100_000_000, Box::new(Deep { levels: 12 })),
    ];
    let mut sum = 0_u64;
    let mut now = thread_ns();
    while now < until {
        sum = sum.wrapping_add(grind(now, whirl, now + 600_000_000));
        let after = thread_ns();
        SPENT[0].fetch_add(after - now, Relaxed);
        now = after;
        for (index, turn, work) in &mut works {
            sum = sum.wrapping_add(work.run(now + *turn));
            let after = thread_ns();
            SPENT[*index].fetch_add(after - now, Relaxed);
            now = after;
        }
    }
    sum
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let each = (arguments[2].parse::<f64>().expect("seconds") * 1e9 / 2.0) as u64;
    let second = std::thread::Builder::new()
        .name("second".into())
        .spawn(move || black_box(run_turns(each)))
        .expect("a thread");
    black_box(run_turns(each));
    second.join().expect("the thread");
    let [grind, scatter, deep] = SPENT.each_ref().map(|spent| spent.load(Relaxed));
    let truth = format!(
        "{{\"cpu_ns\":{},\"functions\":{{\"grind\":{grind},\"Scatter\":{scatter},\"Deep\":{deep}}}}}\n",
        process_ns()
    );
    std::fs::write(&arguments[1], truth).expect("the truth file");
}
