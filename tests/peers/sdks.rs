//! Pyroscope's own SDKs, as people install them, for Go, Python, Node.js and Java: each profiles a small
//! program and pushes to profpipe, by way of a relay that hands the same requests to Pyroscope. What
//! profpipe writes to files amounts to what the SDK sent, and what it sends on to Pyroscope has the
//! names, the labels and the totals that Pyroscope gives to the SDK's own requests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::built;
use crate::fixture::Fixture;
use crate::gateway;
use crate::oracles::Oracles;
use crate::process::{Running, eventually, free_address, settled};
use crate::pyroscope::{CPU, Pyroscope, SAMPLES, TENANT};
use crate::relay::{DIRECT, Relay};
use crate::target::Target;
use crate::totals::{self, Column, Labels, Totals};

/// Whose profiles are those that went through profpipe.
const THROUGH: &str = "through";

/// profpipe between an SDK and both its ends.
struct Ways {
    directory: tempfile::TempDir,
    relay: Relay,
    /// What went to Pyroscope directly, and what went there through profpipe.
    direct: Pyroscope,
    through: Pyroscope,
    /// What the names of series start with that are not compared.
    left_out: Option<&'static str>,
    _gateway: Running,
}

impl Ways {
    /// `receiver` is profpipe's, where it listens is written into `config` as `ENDPOINT`. `None`, told,
    /// where Pyroscope is not there.
    fn start(receiver: &str, config: &str) -> Option<Self> {
        let [direct, through] = Pyroscope::of_tenants([DIRECT, THROUGH])?;
        let directory = tempfile::tempdir().unwrap();
        let endpoint = free_address();
        let config = format!(
            "receivers:\n  {receiver}: {}\nexporters:\n  \
             file: {{ path: '{}', format: otlp }}\n  \
             pyroscope: {{ endpoint: 'http://{}', headers: {{ {TENANT}: {THROUGH} }} }}\n\
             service:\n  pipelines:\n    \
             profiles: {{ receivers: [{receiver}], exporters: [file, pyroscope] }}\n",
            config.replace("ENDPOINT", &endpoint.to_string()),
            directory.path().join("files").display(),
            through.address,
        );
        let _gateway = gateway::run(&config, directory.path(), &[endpoint]);
        let relay = Relay::start(endpoint, direct.address);
        Some(Self { directory, relay, direct, through, left_out: None, _gateway })
    }

    fn address(&self) -> String {
        format!("http://{}", self.relay.address())
    }

    /// Starts the SDK's program.
    fn program(&self, name: &str, command: &mut Command) -> Running {
        Running::start(name, command, self.directory.path())
    }

    /// Everything that the SDK sent is where it should be, under the names that Pyroscope gives to it;
    /// gives it, and its labels in the files.
    #[track_caller]
    fn agree(&self, service: &str, types: &[&str]) -> (Totals, Labels) {
        let arrived = self.written(service);
        let wanted = self.series(&self.direct, service);
        let types: BTreeSet<_> = types.iter().copied().collect();
        assert_eq!(names(&wanted), types, "the names that Pyroscope gives");
        let found = settled(|| self.series(&self.through, service), |found| *found == wanted);
        assert_eq!(names(&found), types, "the names of what comes by profpipe");
        assert_eq!(found, wanted, "the series of what comes by profpipe");
        for profile_type in types {
            self.arrives(service, profile_type, profile_type);
        }
        arrived
    }

    /// The series that can be compared.
    fn series(&self, of: &Pyroscope, service: &str) -> Series {
        let mut series = of.series(service);
        if let Some(left_out) = self.left_out {
            series.retain(|series| !series["__profile_type__"].starts_with(left_out));
        }
        series
    }

    /// What the files have of the service is what the SDK sent; gives it, and its labels in the files.
    #[track_caller]
    fn written(&self, service: &str) -> (Totals, Labels) {
        eventually("the relay to hand on all", || self.relay.is_idle().then_some(()));
        let sent = self.relay.sent();
        let files = || gateway::written(&self.directory.path().join("files"));
        let (written, labels) = settled(
            || totals::of_otlp(&files(), service),
            |(written, _)| totals::count(written) >= totals::count(&sent),
        );
        assert_eq!(totals::without_zeros(&written), totals::without_zeros(&sent), "in the files");
        (sent, labels)
    }

    /// Function by function, Pyroscope has through profpipe under one name what it has directly under
    /// another.
    #[track_caller]
    fn arrives(&self, service: &str, through: &str, direct: &str) {
        let column = |of: &Pyroscope, name| {
            let column = of.totals(name, service).into_values().next();
            named(&column.unwrap_or_default())
        };
        let expected = column(&self.direct, direct);
        assert!(expected.total > 0, "{direct} of {service}: nothing went to Pyroscope directly");
        let found =
            settled(|| column(&self.through, through), |found| found.total >= expected.total);
        assert_eq!(found, expected, "{through} of {service}, by profpipe");
    }
}

/// Each with its labels.
type Series = BTreeSet<BTreeMap<String, String>>;

/// The profile types of series.
fn names(series: &Series) -> BTreeSet<&str> {
    series.iter().map(|series| series["__profile_type__"].as_str()).collect()
}

/// Functions of Go's runtime may have no name; what profpipe sends on calls them `[unknown]`.
fn named(column: &Column) -> Column {
    let mut column = column.without_type_parameters();
    if let Some(sums) = column.functions.remove("") {
        column.functions.insert("[unknown]".into(), sums);
    }
    column
}

/// Nanoseconds of CPU time of a program that has used `seconds` of it: an SDK sees neither all of it nor,
/// but for the grain of its clock, more; a wrong unit is off by much more.
#[track_caller]
fn plausible(sent: &Totals, (kind, unit): (&str, &str), seconds: f64) {
    let profiled = sent[&(kind.into(), unit.into())].total as f64 / 1e9;
    assert!(profiled > seconds / 10.0 && profiled < seconds * 1.5, "{profiled} s of {seconds} s");
}

#[track_caller]
fn has(labels: &BTreeSet<(String, String)>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let label = ((*key).to_owned(), (*value).to_owned());
        assert!(labels.contains(&label), "{label:?} is not in {labels:?}");
    }
}

/// Scenario: a Go service pushes all that pyroscope-go has but leaks of goroutines.
/// Guarantees: the names that Pyroscope gives, mutex and block apart; totals, labels, plausible CPU time.
#[test]
fn go() {
    let Some(oracles) = Oracles::get() else { return };
    let Some(ways) = Ways::start("pyroscope", "{ endpoint: 'ENDPOINT' }") else { return };
    let service = Fixture::new("sdk-go").service;
    let (push, lasting) = (ways.address(), "2500ms");
    let mut target = Target::start(
        oracles,
        &["-push", &push, "-name", &service, "-for", lasting, "-everything"],
    );
    let seconds = target.pushed();
    drop(target);
    let (sent, labels) = ways.agree(
        &service,
        &[
            CPU,
            SAMPLES,
            "memory:alloc_objects:count:space:bytes",
            "memory:alloc_space:bytes:space:bytes",
            "memory:inuse_objects:count:space:bytes",
            "memory:inuse_space:bytes:space:bytes",
            "goroutine:goroutine:count:goroutine:count",
            "mutex:contentions:count:contentions:count",
            "mutex:delay:nanoseconds:contentions:count",
            "block:contentions:count:contentions:count",
            "block:delay:nanoseconds:contentions:count",
        ],
    );
    plausible(&sent, ("cpu", "nanoseconds"), seconds);
    has(&labels.samples, &[("route", "/twice"), ("route", "/once")]);
    has(&ways.through.labels(&service), &[("zone", "north")]);
}

/// Scenario: a service in Python pushes CPU and memory profiles with pyroscope-io.
/// Guarantees: the names that Pyroscope gives; totals; labels, those with characters that Pyroscope's have
/// not among them. (Its CPU time is looked at by the clock: no bound holds on a crowded machine.)
#[test]
fn python() {
    let Some(sdk) = built::sdk("python") else { return };
    let Some(mut ways) = Ways::start("pyroscope", "{ endpoint: 'ENDPOINT' }") else { return };
    // The SDK does not say that these are no sums since the start, for which Pyroscope takes them: what it
    // makes of them depends on how windows fall, and on which come together.
    ways.left_out = Some("memory:alloc_");
    let service = Fixture::new("sdk-python").service;
    let mut command = Command::new("python3");
    command.arg(source("python/work.py")).args([&ways.address(), &service]);
    pushed(&mut ways.program("python", command.env("PYTHONPATH", sdk)));
    let (_, labels) = ways.agree(
        &service,
        &[CPU, "memory:inuse_objects:count:space:bytes", "memory:inuse_space:bytes:space:bytes"],
    );
    has(&labels.samples, &[("route", "/twice"), ("route", "/once")]);
    has(&ways.through.labels(&service), &[("zone", "north"), ("app_kubernetes_io", "shop")]);
}

/// Scenario: a service on Node.js pushes wall, CPU and heap profiles with @pyroscope/nodejs.
/// Guarantees: the names that Pyroscope gives; totals, labels, plausible CPU time.
#[test]
fn nodejs() {
    let Some(sdk) = built::sdk("nodejs") else { return };
    let Some(ways) = Ways::start("pyroscope", "{ endpoint: 'ENDPOINT' }") else { return };
    let service = Fixture::new("sdk-nodejs").service;
    let mut command = Command::new("node");
    command.arg(source("nodejs/work.js")).args([&ways.address(), &service]);
    command.env("NODE_PATH", sdk.join("node_modules"));
    let seconds = pushed(&mut ways.program("nodejs", &mut command));
    let (sent, labels) = ways.agree(
        &service,
        &[
            "memory:inuse_objects:count:inuse_space:bytes",
            "memory:inuse_space:bytes:inuse_space:bytes",
            "wall:cpu:nanoseconds:wall:nanoseconds",
            "wall:samples:count:wall:nanoseconds",
            "wall:wall:nanoseconds:wall:nanoseconds",
        ],
    );
    plausible(&sent, ("cpu", "nanoseconds"), seconds);
    has(&labels.samples, &[("route", "/twice"), ("route", "/once")]);
    has(&ways.through.labels(&service), &[("zone", "north")]);
}

/// Scenario: a service in Java with Pyroscope's agent, which sends OTLP when told to.
/// Guarantees: totals and plausible CPU time; at Pyroscope it is CPU time as that of all others, where the
/// agent's own requests are left as `itimer`. The agent sends neither the name of its service nor its
/// labels (it says so itself when it starts), so all are `unknown_service`.
#[test]
fn java() {
    let Some(sdk) = built::sdk("java") else { return };
    let otlp = "{ protocols: { http: { endpoint: 'ENDPOINT' } } }";
    let Some(ways) = Ways::start("otlp", otlp) else { return };
    let mut agent = OsString::from("-javaagent:");
    agent.push(sdk.join("agent.jar"));
    let mut command = Command::new("java");
    command.arg(agent).arg("-cp").arg(sdk).arg("Work").envs([
        ("PYROSCOPE_APPLICATION_NAME", "sdk-java"),
        ("PYROSCOPE_FORMAT", "otlp"),
        ("PYROSCOPE_PROFILER_EVENT", "itimer"),
        ("PYROSCOPE_SERVER_ADDRESS", &ways.address()),
        ("PYROSCOPE_UPLOAD_INTERVAL", "1s"),
    ]);
    let mut running = ways.program("java", &mut command);
    running.ready(|_| (ways.relay.count() >= 3).then_some(()));
    running.end_input();
    let seconds = said_after(&mut running, "ended ");
    drop(running);
    let (sent, _) = ways.written("unknown_service");
    plausible(&sent, ("itimer", "ns"), seconds);
    let given = ways.direct.series("unknown_service");
    assert_eq!(names(&given), BTreeSet::from([ITIMER]), "the name that Pyroscope gives");
    ways.arrives("unknown_service", CPU, ITIMER);
    assert_eq!(names(&ways.through.series("unknown_service")), BTreeSet::from([CPU]));
}

const ITIMER: &str = "itimer:itimer:ns:itimer:ns";

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(path)
}

/// Waits until the program has pushed all it had; gives the CPU seconds that it has used.
#[track_caller]
fn pushed(running: &mut Running) -> f64 {
    said_after(running, "pushed ")
}

/// Waits until the program has said a number after `word`.
#[track_caller]
fn said_after(running: &mut Running, word: &str) -> f64 {
    running.ready(|said| said.split_once(word)?.1.split_once('\n')?.0.parse().ok())
}
