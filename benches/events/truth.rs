//! Are sums right in the mean? Programs that measure or count what they do themselves are recorded again and
//! again, and by a governed agent whose rates change under way.
//!
//! For each class (a function of the program) the error of every recording is known; its mean over all, in
//! standard errors of that mean, is z: of an unbiased estimate |z| is above 3 once in 370 classes. What is
//! counted exactly is equal or not. Waiting is as the program measured it, less the time on CPUs and ready.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Bench, PROFPIPE};

/// One kind of truth.
struct Truth {
    event: &'static str,
    /// The sample type.
    kind: &'static str,
    program: &'static str,
    /// Its arguments; `truth` is the file that it writes.
    arguments: &'static [&'static str],
    classes: &'static [&'static str],
    /// What is counted to the last one, where each event has a sample or the sum is known.
    is_exact: bool,
    /// How it is asked for, with `PROGRAM` for the path of the program, on a command line and of an agent.
    asked: [&'static str; 2],
}

const WAITS: [&str; 6] = ["nap_short", "nap_long", "poll_it", "read_pipe", "lock_it", "deep"];
const TRUTHS: [Truth; 5] = [
    Truth {
        event: "cpu",
        kind: "cpu",
        program: "tests/truth/programs/split.c",
        arguments: &["truth", "5"],
        classes: &["burn_major", "burn_minor", "burn_rare"],
        is_exact: false,
        asked: ["cpu", "cpu"],
    },
    Truth {
        event: "off_cpu",
        kind: "off_cpu",
        program: "tests/events/programs/waits.c",
        arguments: &["8", "truth"],
        classes: &WAITS,
        is_exact: false,
        asked: ["off_cpu:rate=1000", "off_cpu: {rate: 1000}"],
    },
    Truth {
        event: "page_faults",
        kind: "page_faults",
        program: "tests/events/programs/touches.c",
        arguments: &["20000", "truth"],
        classes: &["touch_forty", "touch_twenty", "touch_four"],
        is_exact: false,
        asked: ["page_faults", "page_faults"],
    },
    Truth {
        event: "calls",
        kind: "calls",
        program: "tests/events/programs/calls.c",
        arguments: &["2000", "truth"],
        classes: &["pointed", "plain"],
        is_exact: true,
        asked: ["calls=PROGRAM:", ""],
    },
    Truth {
        event: "block_io",
        kind: "io_bytes",
        program: "tests/events/programs/direct.c",
        arguments: &["300", "blocks", "truth"],
        classes: &["write_one", "read_one"],
        is_exact: true,
        asked: ["block_io", ""],
    },
];

/// The errors of a class in all recordings, and the sums of truth and estimates.
#[derive(Default)]
struct Errors {
    errors: Vec<f64>,
    truth: f64,
    found: f64,
}

impl Bench {
    /// Prints the tables.
    pub(super) fn truth(&self) {
        let runs = self.rounds;
        println!(
            "truth: {runs} recordings each, alone and under a governor of 1 % of a core that changes rates; \
             truth and estimate in the mean (ms, or times), their difference in percent, z"
        );
        let (mut far, mut all) = (0, 0);
        for truth in &TRUTHS {
            let program = self.compile(truth.program);
            for is_governed in [false, true] {
                // What is counted exactly has no rate that changes: it is counted, or too often and left.
                if is_governed && truth.is_exact {
                    continue;
                }
                let mut errors: BTreeMap<&str, Errors> = BTreeMap::new();
                for _ in 0..runs {
                    let folded = match is_governed {
                        true => self.governed(truth, &program),
                        false => self.recorded(truth, &program),
                    };
                    self.compare(truth, &folded, &mut errors);
                }
                let how = if is_governed { "governed" } else { "alone" };
                for (class, errors) in &errors {
                    let z = errors.print(truth, how, class);
                    all += 1;
                    far += usize::from(z.abs() > 3.0);
                }
            }
        }
        println!("|z| above 3: {far} of {all} classes");
    }

    /// Records the program; what came of it, in collapsed stacks.
    fn recorded(&self, truth: &Truth, program: &str) -> String {
        let [asked, _] = truth.asked;
        let mut arguments = vec!["record".to_owned()];
        for event in events(asked, truth, program) {
            arguments.extend(["-e".to_owned(), event]);
        }
        arguments.extend(["-o", "t.otlp", "--", program].map(str::to_owned));
        arguments.extend(truth.arguments.iter().map(|it| (*it).to_owned()));
        self.profpipe(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        self.profpipe(&["convert", "t.otlp", "t.folded", "--type", truth.kind]);
        std::fs::read_to_string(self.home.join("t.folded")).unwrap()
    }

    /// Runs the program beside an agent of the whole host.
    fn governed(&self, truth: &Truth, program: &str) -> String {
        let [_, asked] = truth.asked;
        let listed = if truth.event == "cpu" { "cpu".into() } else { format!("cpu, {{{asked}}}") };
        let listed = if asked.contains('{') || truth.event == "cpu" {
            listed
        } else {
            format!("cpu, {asked}")
        };
        let config = format!(
            "receivers: {{perf: {{interval: 2s, events: [{listed}]}}}}\n\
             processors: {{governor: {{cpu: 1%}}, symbolize: }}\n\
             exporters: {{file: {{path: out, format: folded}}}}\n\
             service: {{pipelines: {{profiles: {{receivers: [perf], processors: [governor, symbolize], \
             exporters: [file]}}}}}}\n"
        );
        std::fs::write(self.home.join("t.yaml"), config).unwrap();
        let _ = std::fs::remove_dir_all(self.home.join("out"));
        let mut agent = Command::new(PROFPIPE)
            .args(["run", "--config", "t.yaml"])
            .current_dir(&self.home)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(4));
        let status = Command::new(program)
            .args(truth.arguments)
            .current_dir(&self.home)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        std::thread::sleep(Duration::from_secs(1));
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        agent.wait().unwrap();
        let name = std::path::Path::new(program).file_name().unwrap().to_str().unwrap();
        let end = format!(".{}.folded", truth.kind);
        let files = std::fs::read_dir(self.home.join("out")).unwrap().flatten();
        let of_program = files.filter(|file| {
            let file = file.file_name().into_string().unwrap();
            file.starts_with(&format!("{name}-")) && file.ends_with(&end)
        });
        of_program.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
    }

    fn compare<'t>(&self, truth: &'t Truth, folded: &str, errors: &mut BTreeMap<&'t str, Errors>) {
        let measured = std::fs::read_to_string(self.home.join("truth")).unwrap();
        let number = |name: &str| -> f64 {
            // As `name 123` in lines, or as `"name":123`.
            let after = measured.split(name).nth(1).unwrap_or_default();
            let digits = after.trim_start_matches(['"', ':', ' ']);
            let end = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().unwrap_or(f64::NAN)
        };
        for class in truth.classes {
            let expected = match (*class, truth.event) {
                ("touch_forty", _) => 20_000.0 * 40.0,
                ("touch_twenty", _) => 20_000.0 * 20.0,
                ("touch_four", _) => 20_000.0 * 4.0,
                (_, "block_io") => number("bytes"),
                (class, _) => number(class),
            };
            let stacks = folded.lines().filter_map(|line| line.rsplit_once(' '));
            let of_class = stacks.filter(|(frames, _)| frames.split(';').any(|it| it == *class));
            let found: f64 = of_class.filter_map(|(_, weight)| weight.parse::<f64>().ok()).sum();
            let one = errors.entry(class).or_default();
            one.errors.push(found - expected);
            one.truth += expected;
            one.found += found;
        }
    }

    fn profpipe(&self, arguments: &[&str]) {
        let output = Command::new(PROFPIPE)
            .args(arguments)
            .current_dir(&self.home)
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// The events as they are asked for; of calls one for each function.
fn events(asked: &str, truth: &Truth, program: &str) -> Vec<String> {
    match asked.strip_suffix(':') {
        Some(_) => {
            let of = |class: &&str| format!("{}{class}", asked.replace("PROGRAM", program));
            truth.classes.iter().map(of).collect()
        }
        None => vec![asked.to_owned()],
    }
}

impl Errors {
    /// Prints a row; returns z.
    fn print(&self, truth: &Truth, how: &str, class: &str) -> f64 {
        let count = self.errors.len() as f64;
        let unit = if matches!(truth.event, "cpu" | "off_cpu") { 1e6 } else { 1.0 };
        let (expected, found) = (self.truth / count / unit, self.found / count / unit);
        let bias = 100.0 * (found - expected) / expected;
        let name = format!("{} {how}", truth.event);
        if truth.is_exact {
            let equal = self.errors.iter().filter(|error| **error == 0.0).count();
            println!(
                "   {name:<22} {class:<14} {expected:>12.1} {found:>12.1}  equal in {equal} of {count}"
            );
            return if equal as f64 == count { 0.0 } else { f64::INFINITY };
        }
        let mean = self.errors.iter().sum::<f64>() / count;
        let squares = self.errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>();
        let error = (squares / (count - 1.0).max(1.0) / count).sqrt();
        let z = if error > 0.0 { mean / error } else { 0.0 };
        println!(
            "   {name:<22} {class:<14} {expected:>12.1} {found:>12.1} {bias:>+7.2} % z {z:>+5.1}"
        );
        z
    }
}
