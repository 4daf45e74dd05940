//! What downsampling keeps of the answers: `cargo bench --bench downsample [-- --trials N --part NAME]`.
//!
//! Three profiles that `profpipe record` took at 999 Hz, the service at 4999 Hz (see `scrub.rs` for what was taken out of them):
//! a large compile, a Node service, a mixed host. Each is sampled ten- and hundredfold by 1,000
//! seeds on two cores, and judged by `processors/tests/downsample/answers.rs`, which shares no code
//! with what it judges: the cost of functions by themselves (own), with what they call (total), and
//! of nodes of the call tree, over 1 % of the total. Beside it, on the same input and with as many
//! stacks: thinning (as sampling at a lower frequency), VarOpt without balance, the heaviest stacks
//! alone (top-k), and pruning small nodes (min-node, as pprof and Pyroscope do).
//!
//! Then what it costs, for 64 k stacks, and what it saves. The claims are checked; times are only
//! printed, because a busy machine would decide.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

#[path = "../../processors/tests/downsample/answers.rs"]
mod answers;
mod rivals;
mod scrub;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use answers::{Answers, Trials, percent};
use profpipe_formats::otlp;
use profpipe_processors::downsample::algorithm::{Design, Keep, Options, downsample};
use profpipe_profile::{Function, Line, LocationRef, Profile, Profiles, SampleRef, StackIx};

/// The sums that a choice is balanced on.
const BALANCE: usize = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        Some(&arguments[position + 1..])
    };
    if let Some([input, output, name, ..]) = after("--scrub") {
        return scrub::scrub(Path::new(input), Path::new(output), name);
    }
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("downsample: measures for minutes; run it with cargo bench --bench downsample");
        return;
    }
    let part = after("--part").and_then(|rest| rest.first());
    let wants = |name: &str| part.is_none_or(|part| part == name);
    let trials = after("--trials").and_then(|rest| rest.first()?.parse().ok()).unwrap_or(1000);
    let began = Instant::now();
    let mut broken = 0;
    for name in ["compile", "service", "mixed"].into_iter().filter(|name| wants(name)) {
        broken += judge(name, trials);
    }
    if wants("cost") {
        cost();
    }
    println!("took {} s", began.elapsed().as_secs());
    println!("{}", if broken == 0 { "all claims hold" } else { "SOME CLAIMS DO NOT HOLD" });
    std::process::exit(i32::from(broken > 0));
}

fn data(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("processors/tests/data").join(format!("{name}.otlp.xz"))
}

fn load(name: &str) -> (Profiles, usize) {
    let packed = std::fs::read(data(name)).unwrap();
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(packed.as_slice(), false).read_to_end(&mut bytes).unwrap();
    let profiles = otlp::decode(&bytes).unwrap();
    let packed = self::packed(&profiles).len();
    (profiles, packed)
}

fn packed(profiles: &Profiles) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&otlp::encode(profiles)).unwrap();
    packer.finish().unwrap()
}

/// Trials of something by seeds, on two cores.
fn trials(count: usize, trial: impl Fn(u64, &mut Trials) + Sync) -> Trials {
    let run = |part: usize| {
        let mut trials = Trials::default();
        for seed in (part..count).step_by(2) {
            trial(seed as u64, &mut trials);
        }
        trials
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        let mut all = run(0);
        all.merge(other.join().unwrap());
        all
    })
}

/// Judges the sampling of one profile. Returns how many claims are wrong.
fn judge(name: &str, count: usize) -> usize {
    let (profiles, bytes) = load(name);
    let rows = answers::rows(&profiles, "cpu");
    let answers = Answers::of(&profiles.dictionary, &rows, 0.003);
    let heavy = answers.truth.iter().filter(|truth| **truth as f64 >= 0.01 * answers.total as f64);
    println!(
        "\n{name}: {} stacks, {:.1} s of cpu, {bytes} bytes gz; {} questions over 1 %, {} over 0.3 %",
        rows.len(),
        answers.total as f64 / 1e9,
        heavy.count(),
        answers.questions.len()
    );
    println!(
        "largest relative error over 1 %, median/p95 of {count} trials, %\n{:28}{:>7}{:>15}{:>15}{:>15}{:>15}{:>9}{:>10}{:>9}",
        "", "stacks", "own", "total", "node", "any", "0.3-1 %", "total off", "max |z|"
    );
    let mut broken = 0;
    for (factor, bound) in [(10, 1.5), (100, 15.0)] {
        let keep = rows.len().div_ceil(factor);
        let sampled = |balance: usize, calibrate: bool, count: usize| {
            let design =
                Design::new(&profiles.dictionary, answers::items(&rows), keep, balance).unwrap();
            let of = trials(count, |seed, trials| {
                let draw = design.draw(calibrate, seed);
                assert!(draw.kept.len() <= keep, "{} of {keep}", draw.kept.len());
                let total: u64 = draw.kept.iter().map(|(_, value)| value).sum();
                let kept = draw.kept.iter().map(|(row, value)| (*row, *value as f64));
                trials.add(&answers, &answers.estimate(kept), total as f64);
                trials.kept += draw.kept.len();
            });
            (of, design.sums())
        };
        let (balanced, sums) = sampled(BALANCE, false, count);
        let z = print(&format!("{factor}x balanced on {sums}"), keep, &balanced, &answers);
        let median = percent(&balanced.worst[3], 0.5);
        let claims = [
            (z <= 4.0, format!("no question over 0.3 % with |z| > 4: {z:.2}")),
            (balanced.inexact == 0, format!("totals exact: {} are not", balanced.inexact)),
            (median <= bound, format!("median error at most {bound} %: {median:.2} %")),
        ];
        let some = count.min(200);
        print(
            &format!("{factor}x and calibrated"),
            keep,
            &sampled(BALANCE, true, some).0,
            &answers,
        );
        print(&format!("{factor}x by even steps"), keep, &sampled(0, false, some).0, &answers);
        rivals::print(&profiles.dictionary, &rows, &answers, keep, factor, some);
        for (holds, claim) in claims {
            println!("  claim {}: {claim}", if holds { "holds" } else { "FAILS" });
            broken += usize::from(!holds);
        }
        let mut whole = profiles.clone();
        let keep = Keep::Stacks(keep);
        downsample(&mut whole, &Options { keep, ..Options::default() }, 1);
        let after = packed(&whole).len();
        println!("  bytes gz: {bytes} -> {after}, {:.1} times less", bytes as f64 / after as f64);
    }
    broken
}

/// Prints a line of the table. Returns the largest |z|.
fn print(method: &str, keep: usize, trials: &Trials, answers: &Answers) -> f64 {
    let worst = trials
        .worst
        .each_ref()
        .map(|worst| format!("{:.2}/{:.2}", percent(worst, 0.5), percent(worst, 0.95)));
    let z = trials
        .z(answers.total as f64 / keep as f64)
        .into_iter()
        .fold(0.0, |most: f64, z| most.max(z.abs()));
    println!(
        "{method:28}{:>7}{:>15}{:>15}{:>15}{:>15}{:>9.2}{:>10}{:>9.2}",
        if trials.kept == 0 { keep } else { trials.kept / trials.count },
        worst[0],
        worst[1],
        worst[2],
        worst[3],
        trials.rms(answers, 0.003, 0.01),
        trials.inexact,
        z
    );
    z
}

/// What sampling costs: 64 k stacks, made of the compile.
fn cost() {
    let (mut profiles, _) = load("compile");
    grow(&mut profiles, 64_000);
    let rows = answers::rows(&profiles, "cpu");
    let frames: usize =
        rows.iter().map(|(stack, _)| profiles.dictionary.stacks.get(*stack).len()).sum();
    let depth = frames / rows.len();
    println!(
        "\ntime for {} stacks {depth} frames deep, on one core, best/median of 15:",
        rows.len()
    );
    for (name, keep) in [("10x", 0.1), ("100x", 0.01)] {
        for (how, calibrate) in [("", false), (" calibrated", true)] {
            let options = Options { keep: Keep::Share(keep), calibrate, ..Options::default() };
            let mut walls = Vec::new();
            let mut times: Vec<Duration> = (0..15)
                .map(|seed| {
                    let mut copy = profiles.clone();
                    let (began, cpu) = (Instant::now(), cpu_time());
                    let report = downsample(&mut copy, &options, seed);
                    let spent = cpu_time() - cpu;
                    walls.push(began.elapsed());
                    assert_eq!(report.sampled, 1);
                    spent
                })
                .collect();
            times.sort_unstable();
            walls.sort_unstable();
            let items = answers::items(&rows);
            let keep = (rows.len() as f64 * keep).ceil() as usize;
            let cpu = cpu_time();
            let design = Design::new(&profiles.dictionary, items, keep, BALANCE).unwrap();
            let prepared = cpu_time() - cpu;
            let cpu = cpu_time();
            for seed in 0..10 {
                design.draw(calibrate, seed);
            }
            let drawn = (cpu_time() - cpu) / 10;
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "  {name}{how}: {:.1}/{:.1} ms of CPU, {:.1}/{:.1} ms; design {:.1} ms, draw {:.1} ms",
                ms(times[0]),
                ms(times[7]),
                ms(walls[0]),
                ms(walls[7]),
                ms(prepared),
                ms(drawn)
            );
        }
    }
}

/// What this thread has spent: a busy machine makes it wait, too.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Makes a profile larger: more stacks, each an existing one with a frame of another function put
/// in between, with its weight.
fn grow(profiles: &mut Profiles, count: usize) {
    let Profiles { dictionary, resources } = profiles;
    let profile: &mut Profile = &mut resources[0].scopes[0].profiles[0];
    let known = profile.samples.len();
    for at in 0..count.saturating_sub(known) {
        let (stack, weight) = {
            let sample = profile.samples.get(at % known);
            (sample.stack, sample.weight())
        };
        let name = dictionary.strings.intern(&format!("wrapper {}", at % 97));
        let function = dictionary.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, ..Line::default() }];
        let location =
            dictionary.locations.intern(LocationRef { lines: &lines, ..LocationRef::default() });
        let mut locations = dictionary.stacks.get(stack).to_vec();
        locations.insert(at * 31 % (locations.len() + 1), location);
        let stack: StackIx = dictionary.stacks.intern(&locations);
        profile.samples.push(SampleRef { stack, values: &[weight], ..SampleRef::default() });
    }
}
