//! The query API beside the real one: the same pprof files in Pyroscope and in `profpipe ui`, the same
//! random questions to both, and Pyroscope's own client, `profilecli`.
//!
//! Trees are compared as trees: names are numbered differently where the order of equal boxes is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::process::{Running, eventually};
use crate::pyroscope::{CPU, Pyroscope, SAMPLES, from_json};
use crate::{built, http, pprof, totals};

/// How many questions are asked.
const QUESTIONS: usize = 300;
/// What our files' service is called, since pprof does not say.
const SERVICE: &str = "unknown_service";

/// SplitMix64: the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A profile with random stacks over 30 functions and labels, at a time.
fn profile(numbers: &mut Numbers, time: u64) -> pprof::Profile {
    let mut strings: Vec<String> = vec![String::new()];
    let mut string = |text: &str| {
        let found = strings.iter().position(|known| known == text);
        found.unwrap_or_else(|| {
            strings.push(text.to_owned());
            strings.len() - 1
        }) as i64
    };
    let kind = |kind: i64, unit: i64| pprof::ValueType { r#type: kind, unit };
    let (samples, cpu) =
        (kind(string("samples"), string("count")), kind(string("cpu"), string("nanoseconds")));
    let sample = (0..200)
        .map(|_| {
            let label = |key: i64, str: i64| pprof::Label { key, str };
            let mut labels =
                vec![label(string("route"), string(numbers.pick(&["/cart", "/buy", "/", "/ä"])))];
            if numbers.below(2) == 0 {
                labels.push(label(string("zone"), string(numbers.pick(&["north", "south"]))));
            }
            let count = 1 + numbers.below(20) as i64;
            pprof::Sample {
                location_id: (0..1 + numbers.below(9))
                    .map(|_| 1 + numbers.below(30) as u64)
                    .collect(),
                value: vec![count, count * 10_000_000],
                label: labels,
            }
        })
        .collect();
    let function = |id: u64, name: i64| pprof::Function { id, name, filename: name };
    let functions: Vec<_> =
        (1..=30).map(|id| function(id, string(&format!("pkg.f{id}")))).collect();
    let line = |id| pprof::Line { function_id: id, line: id as i64 };
    let location = |id| pprof::Location { id, mapping_id: 1, address: id, line: vec![line(id)] };
    let mapping = pprof::Mapping {
        id: 1,
        memory_limit: 1000,
        filename: string("/bin/app"),
        has_functions: true,
        ..Default::default()
    };
    pprof::Profile {
        sample_type: vec![samples, cpu],
        sample,
        mapping: vec![mapping],
        location: (1..=30).map(location).collect(),
        function: functions,
        time_nanos: time as i64,
        duration_nanos: 10_000_000_000,
        period_type: Some(cpu),
        period: 10_000_000,
        string_table: strings,
    }
}

fn push(server: SocketAddr, profile: &pprof::Profile) {
    let label = |name: &str, value: &str| json!({ "name": name, "value": value });
    let raw = base64::engine::general_purpose::STANDARD.encode(profile.gzipped());
    let request = json!({ "series": [{
        "labels": [label("__name__", "process_cpu"), label("service_name", SERVICE)],
        "samples": [{ "rawProfile": raw }],
    }]});
    let body = request.to_string();
    http::post(server, "/push.v1.PusherService/Push", "application/json", body.as_bytes()).good();
}

/// Somebody to ask.
struct Asked {
    server: SocketAddr,
    /// What stands before every path.
    base: String,
}

impl Asked {
    fn ask(&self, method: &str, question: &Value) -> Value {
        let path = format!("{}/querier.v1.QuerierService/{method}", self.base);
        let body = question.to_string();
        let answer = http::post(self.server, &path, "application/json", body.as_bytes());
        let text = answer.text();
        let body = answer.good();
        serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{method} {question}: {error}: {text}"))
    }

    fn url(&self) -> String {
        format!("http://{}{}", self.server, self.base)
    }
}

/// `profpipe ui` over files.
fn ui(files: &[std::path::PathBuf], directory: &Path) -> (Running, Asked) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.arg("ui").args(files).arg("--no-open");
    let mut running = Running::start("ui", &mut command, directory);
    let address = running.ready(|said| said.split_once('\n').map(|(line, _)| line.to_owned()));
    let rest = address.strip_prefix("http://").unwrap();
    let (server, token) = rest.split_once('/').unwrap();
    let asked = Asked { server: server.parse().unwrap(), base: format!("/{token}") };
    (running, asked)
}

/// Both with the same profiles, 40, 30 and 20 minutes old.
struct Both {
    real: Asked,
    ours: Asked,
    /// In milliseconds.
    now: i64,
    _running: (Pyroscope, Running, tempfile::TempDir),
}

fn both(seed: u64, minutes: &[u64]) -> Option<Both> {
    let pyroscope = Pyroscope::start()?;
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut numbers = Numbers(seed);
    let mut files = Vec::new();
    for (number, minutes) in minutes.iter().enumerate() {
        let time = now - Duration::from_secs(60 * minutes);
        let profile = profile(&mut numbers, time.as_nanos() as u64);
        push(pyroscope.address, &profile);
        let file = directory.path().join(format!("{number}.pb.gz"));
        std::fs::write(&file, profile.gzipped()).unwrap();
        files.push(file);
    }
    let (running, ours) = ui(&files, directory.path());
    let real = Asked { server: pyroscope.address, base: String::new() };
    let now = now.as_millis() as i64;
    let whole = json!({ "profileTypeID": CPU, "labelSelector": "{}", "start": now - 3_600_000, "end": now });
    let total =
        |asked: &Asked| asked.ask("SelectMergeStacktraces", &whole)["flamegraph"]["total"].clone();
    let expected = total(&ours);
    eventually("all profiles in Pyroscope", || (total(&real) == expected).then_some(()));
    Some(Both { real, ours, now, _running: (pyroscope, running, directory) })
}

fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64().unwrap_or(0), |text| text.parse().unwrap())
}

/// A box of a level: where it begins and ends on each side, and its path.
type Placed = (Vec<(i64, i64)>, Vec<String>);
/// A box: its path, and its values by side.
type Boxes = BTreeMap<Vec<String>, Vec<i64>>;

/// A flame graph as boxes by path, of `sides` sides.
fn boxes(graph: &Value, sides: usize) -> Boxes {
    let names = graph["names"].as_array().cloned().unwrap_or_default();
    let mut boxes = Boxes::new();
    let mut above: Vec<Placed> = Vec::new();
    for level in graph["levels"].as_array().into_iter().flatten() {
        let values: Vec<i64> = level["values"].as_array().unwrap().iter().map(number).collect();
        let mut ends = vec![0; sides];
        let mut here = Vec::new();
        for one in values.chunks(3 * sides + 1) {
            let mut places = Vec::new();
            let mut sums = Vec::new();
            for side in 0..sides {
                let start = ends[side] + one[3 * side];
                ends[side] = start + one[3 * side + 1];
                places.push((start, ends[side]));
                sums.extend([one[3 * side + 1], one[3 * side + 2]]);
            }
            let is_in = |(outer, _): &&Placed| {
                outer
                    .iter()
                    .zip(&places)
                    .all(|(outer, inner)| outer.0 <= inner.0 && inner.1 <= outer.1)
            };
            let mut path = above.iter().find(is_in).map_or(Vec::new(), |(_, path)| path.clone());
            path.push(names[one[3 * sides] as usize].as_str().unwrap().to_owned());
            boxes.insert(path.clone(), sums);
            here.push((places, path));
        }
        above = here;
    }
    boxes
}

/// A tree with at most so many boxes: what is smaller than the box of that rank becomes one box `other` in its
/// parent. Written after the description of the format, for what both servers do.
fn truncated(boxes: &Boxes, most: usize) -> Boxes {
    let mut sizes: Vec<i64> =
        boxes.iter().filter(|(path, _)| path.len() > 1).map(|(_, it)| it[0]).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let least = sizes.get(most - 1).copied().unwrap_or(0);
    let mut kept = Boxes::new();
    for (path, values) in boxes {
        let (name, parent) = path.split_last().unwrap();
        if !parent.is_empty() && !kept.contains_key(parent) {
            continue;
        }
        if parent.is_empty() || (values[0] >= least && name != "other") {
            kept.insert(path.clone(), values.clone());
            continue;
        }
        let other = [parent, &["other".to_owned()]].concat();
        let sums = kept.entry(other).or_insert_with(|| vec![0, 0]);
        sums.iter_mut().for_each(|sum| *sum += values[0]);
    }
    kept
}

/// The series of an answer, without the label of the file, which only ours has.
fn series(answer: &Value) -> BTreeSet<String> {
    let of = |series: &Value| -> String {
        let labels = series["labels"].as_array().cloned().unwrap_or_default();
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|label| {
                (
                    label["name"].as_str().unwrap().to_owned(),
                    label["value"].as_str().unwrap_or("").to_owned(),
                )
            })
            .filter(|(name, _)| name != "file")
            .collect();
        let point = |point: &Value| {
            (number(&point["timestamp"]), point["value"].as_f64().unwrap().to_bits())
        };
        let points: Vec<_> = series["points"].as_array().into_iter().flatten().map(point).collect();
        format!("{labels:?} {points:?}")
    };
    let lists =
        ["series", "labelsSet"].map(|key| answer[key].as_array().cloned().unwrap_or_default());
    lists.iter().flatten().map(of).collect()
}

fn names(answer: &Value) -> BTreeSet<String> {
    let names = answer["names"].as_array().cloned().unwrap_or_default();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .filter(|name| name != "file")
        .collect()
}

fn selector(numbers: &mut Numbers) -> String {
    let labels = ["route", "zone", "service_name", "none", "__type__"];
    let values = ["/cart", "/buy", "/ä", "north", "south", "", "unknown_service", "cpu"];
    let expressions = ["/.*", "n.*|s.*", ".+", "", "/cart|north", "unknown.*", "(?i)NORTH"];
    let conditions: Vec<String> = (0..numbers.below(3))
        .map(|_| {
            let (name, value) = (numbers.pick(&labels), numbers.pick(&values));
            let expression = numbers.pick(&expressions);
            match numbers.below(4) {
                0 => format!("{name}=\"{value}\""),
                1 => format!("{name}!=\"{value}\""),
                2 => format!("{name}=~\"{expression}\""),
                _ => format!("{name}!~\"{expression}\""),
            }
        })
        .collect();
    format!("{{{}}}", conditions.join(","))
}

/// A random question: the method, the message, and how the answer is read.
fn question(numbers: &mut Numbers, now: i64) -> (&'static str, Value) {
    let mut window = || {
        let start = now - 60_000 * (15 + numbers.below(40) as i64);
        (start, start + 60_000 * (1 + numbers.below(45) as i64))
    };
    let (start, end) = window();
    let (other_start, other_end) = window();
    let kind = numbers.pick(&[CPU, SAMPLES]);
    let mut merge = |start: i64, end: i64| json!({ "profileTypeID": kind, "labelSelector": selector(numbers), "start": start, "end": end });
    let (one, other) = (merge(start, end), merge(other_start, other_end));
    let mut few = one.clone();
    // Around one profile: Pyroscope cuts what it reads from several places before it puts it together.
    let around = now - 60_000 * [40, 30, 20][numbers.below(3)];
    few["start"] = (around - 60_000 * (1 + numbers.below(9) as i64)).into();
    few["end"] = (around + 60_000 * (1 + numbers.below(9) as i64)).into();
    few["maxNodes"] = (1 + numbers.below(200)).into();
    // Pyroscope knows labels by block, so it has those of its newest one at any time.
    let (start, end) = (now - 3_600_000, now);
    let matchers = (0..numbers.below(3)).map(|_| selector(numbers)).collect::<Vec<_>>();
    match numbers.below(10) {
        0..2 => ("SelectMergeStacktraces", one),
        2..4 => ("SelectMergeStacktraces", few),
        4 => ("Diff", json!({ "left": one, "right": other })),
        5 => {
            let mut question = one;
            // Before all profiles: Pyroscope was seen to add the step before the first one at one time of the
            // day and not at another.
            question["start"] = (now - 60_000 * (55 + numbers.below(5) as i64)).into();
            question["step"] = numbers.pick(&[&15.0, &60.0, &600.0]).to_owned().into();
            let groups: [&[&str]; 4] = [&[], &["route"], &["zone", "route"], &["none"]];
            question["groupBy"] = groups[numbers.below(4)].into();
            ("SelectSeries", question)
        }
        6 => ("SelectMergeProfile", one),
        7 => ("LabelNames", json!({ "matchers": matchers, "start": start, "end": end })),
        8 => {
            let name = numbers.pick(&["route", "zone", "service_name", "__profile_type__", "none"]);
            (
                "LabelValues",
                json!({ "name": name, "matchers": matchers, "start": start, "end": end }),
            )
        }
        _ => {
            let labels: [&[&str]; 3] =
                [&["route"], &["zone", "service_name"], &["__profile_type__"]];
            let labels = labels[numbers.below(3)];
            (
                "Series",
                json!({ "matchers": matchers, "labelNames": labels, "start": start, "end": end }),
            )
        }
    }
}

/// Scenario: three profiles of two types with labels in both; 300 random questions from a fixed seed, over
/// all methods, selectors, times and sizes of trees.
/// Guarantees: equal trees, series, labels and profiles; a tree that is cut is what Pyroscope's becomes when
/// it is cut once, and Pyroscope's is that cut again; most answers have something in them.
#[test]
fn random_questions_have_equal_answers() {
    let Some(both) = both(41, &[40, 30, 20]) else { return };
    let mut numbers = Numbers(42);
    let (mut asked, mut filled, mut cut) = (BTreeMap::new(), 0, 0);
    for _ in 0..QUESTIONS {
        let (method, question) = question(&mut numbers, both.now);
        let (real, ours) = (both.real.ask(method, &question), both.ours.ask(method, &question));
        *asked.entry(method).or_insert(0) += 1;
        filled += usize::from(ours.to_string().len() > 100);
        let place = format!("{method} {question}");
        match method {
            "SelectMergeStacktraces" => {
                let graph = |answer: &Value| boxes(&answer["flamegraph"], 1);
                let (ours, real) = (graph(&ours), graph(&real));
                let Some(most) = question["maxNodes"].as_u64() else {
                    assert_eq!(ours, real, "{place}");
                    continue;
                };
                let mut whole = question.clone();
                whole["maxNodes"] = 1_000_000.into();
                let whole = graph(&both.ours.ask(method, &whole));
                let once = truncated(&whole, most as usize);
                assert_eq!(ours, once, "{place}");
                // Pyroscope does it wherever it hands a tree on.
                let mut again = once;
                let mut times = 1;
                while again != real && times < 4 {
                    again = truncated(&again, most as usize);
                    times += 1;
                }
                assert_eq!(again, real, "{place}");
                cut += 1;
            }
            "Diff" => {
                let graph = |answer: &Value| boxes(&answer["flamegraph"], 2);
                assert_eq!(graph(&ours), graph(&real), "{place}");
                for key in ["total", "maxSelf", "leftTicks", "rightTicks"] {
                    assert_eq!(
                        ours["flamegraph"][key], real["flamegraph"][key],
                        "{key} of {place}"
                    );
                }
            }
            "SelectMergeProfile" => {
                let totals = |answer: &Value| {
                    totals::of_pprof(&from_json(answer))
                        .into_values()
                        .filter(|it| it.total != 0)
                        .collect::<Vec<_>>()
                };
                assert_eq!(totals(&ours), totals(&real), "{place}");
            }
            "LabelNames" | "LabelValues" => assert_eq!(names(&ours), names(&real), "{place}"),
            _ => assert_eq!(series(&ours), series(&real), "{place}"),
        }
    }
    assert_eq!(asked.len(), 7, "{asked:?}");
    assert!(cut > 20, "only {cut} trees were cut");
    assert!(filled * 2 > QUESTIONS, "only {filled} of {QUESTIONS} answers say something");
}

/// What `profilecli` prints to standard output.
#[track_caller]
fn profilecli(program: &Path, asked: &Asked, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).args(["--url", &asked.url()]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of a table, without their order.
fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// Scenario: Pyroscope's own client asks both what it can ask, by Connect, gRPC and gRPC-Web.
/// Guarantees: it prints the same and writes profiles of the same sums; what only 2.x has it reads as
/// not there.
#[test]
fn the_real_client_reads_us() {
    let Some(program) = built::peer("profilecli") else { return };
    let Some(both) = both(43, &[20]) else { return };
    let directory = tempfile::tempdir().unwrap();
    for protocol in ["connect", "grpc", "grpc-web"] {
        for query in [
            &["query", "series"][..],
            &["query", "series", "--label-names", "route"],
            &["query", "top", "--label-names", "route"],
            &["query", "label-values-cardinality"],
            &["query", "exemplars", "profile"],
        ] {
            let is_v2 = query.contains(&"exemplars");
            let arguments = [query, &["--protocol", protocol]].concat();
            let ours = profilecli(&program, &both.ours, &arguments);
            if !is_v2 {
                assert_eq!(
                    lines(&ours),
                    lines(&profilecli(&program, &both.real, &arguments)),
                    "{arguments:?}"
                );
            }
        }
        for query in [
            &["query", "profile"][..],
            &["query", "profile", "--query", "{route=\"/cart\"}"],
            &["query", "profile", "--profile-type", SAMPLES],
            &["query", "profile", "--stacktrace-selector", "pkg.f3"],
        ] {
            let sums = |asked: &Asked, name: &str| {
                let file = directory.path().join(name);
                let output = format!("pprof={}", file.display());
                let arguments =
                    [query, &["--protocol", protocol, "--force", "--output", &output]].concat();
                profilecli(&program, asked, &arguments);
                totals::of_pprof(&pprof::Profile::read(&std::fs::read(file).unwrap()))
            };
            assert_eq!(sums(&both.ours, "ours"), sums(&both.real, "real"), "{query:?}");
        }
    }
    let file = directory.path().join("default.pgo");
    let output = format!("pprof={}", file.display());
    profilecli(&program, &both.ours, &["query", "go-pgo", "--output", &output]);
    let profile = pprof::Profile::read(&std::fs::read(file).unwrap());
    assert_eq!(profile.sample.iter().map(|sample| sample.location_id.len()).max(), Some(5));
}
