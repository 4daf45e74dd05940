//! Several events of the sampler at Pyroscope: each sample type under its name, with what the files have.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::gateway::{run, written};
use crate::process::{eventually, free_address, settled};
use crate::pyroscope::Pyroscope;
use crate::totals::{self, Column, Totals};

const SERVICE: &str = "events-of-waits";
/// Functions that the load waits in.
const FUNCTIONS: [&str; 4] = ["nap_long", "poll_it", "lock_it", "deep"];
/// What Pyroscope calls the types, and what they are here.
const TYPES: [(&str, &str, &str); 5] = [
    ("process_cpu:cpu:nanoseconds:cpu:nanoseconds", "cpu", "nanoseconds"),
    ("process_cpu:samples:count:cpu:nanoseconds", "samples", "count"),
    ("off_cpu:off_cpu:nanoseconds::", "off_cpu", "nanoseconds"),
    ("wall:wall:nanoseconds:wall:nanoseconds", "wall", "nanoseconds"),
    ("page_faults:page_faults:count::", "page_faults", "count"),
];

/// Scenario: threads that wait in several ways are sampled with `wall` and page faults, and what comes of it is
/// pushed to Pyroscope, to a receiver of profpipe's own, and written into files.
/// Guarantees: Pyroscope has each sample type under the name that its pages look for, with the total of the
/// files and that of each function; so has profpipe at the far end of a push.
#[test]
fn several_events_reach_pyroscope() {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let Some(pyroscope) = Pyroscope::start() else { return };
    let [agent_home, gateway_home] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let home = agent_home.path();
    let own = free_address();
    let gateway = format!(
        "receivers: {{pyroscope: {{endpoint: '{own}'}}}}\n\
         exporters: {{file: {{path: files, format: otlp}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [pyroscope], exporters: [file]}}}}}}\n"
    );
    let gateway = run(&gateway, gateway_home.path(), &[own]);
    let program = compile(home);
    let mut load = Command::new(&program).current_dir(home).args(["5", "truth"]).spawn().unwrap();
    let agent = format!(
        "receivers: {{perf: {{interval: 1s, frequency: 4999, events: [wall, {{page_faults: {{every: 1}}}}], \
         scope: {{pid: {}}}, service_name: {SERVICE}}}}}\n\
         processors: {{symbolize: }}\n\
         exporters: {{pyroscope: {{endpoint: 'http://{}'}}, \
         pyroscope/own: {{endpoint: 'http://{own}'}}, file: {{path: files, format: otlp}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [perf], processors: [symbolize], \
         exporters: [pyroscope, pyroscope/own, file]}}}}}}\n",
        load.id(),
        pyroscope.address
    );
    let agent = run(&agent, home, &[]);
    assert!(load.wait().unwrap().success());
    agent.stop();
    let expected = totals::of_otlp(&written(&home.join("files")), SERVICE).0;
    let of = |totals: &Totals, kind: &str, unit: &str| -> Column {
        totals.get(&(kind.to_owned(), unit.to_owned())).cloned().unwrap_or_default()
    };
    let amount = |column: &Column| {
        let total = |name: &str| column.functions.get(name).map_or(0, |sums| sums.total);
        (column.total, FUNCTIONS.map(total))
    };
    assert!(amount(&of(&expected, "off_cpu", "nanoseconds")).1.iter().all(|it| *it > 0));
    let wanted: BTreeSet<String> = TYPES.map(|(name, ..)| name.to_owned()).into();
    let types = || -> BTreeSet<String> {
        let series = pyroscope.series(SERVICE).into_iter();
        series.filter_map(|labels| labels.get("__profile_type__").cloned()).collect()
    };
    assert_eq!(settled(types, |found| *found == wanted), wanted);
    for (name, kind, unit) in TYPES {
        let expected = amount(&of(&expected, kind, unit));
        assert!(expected.0 > 0, "{kind} has something");
        let at_pyroscope = eventually(&format!("{name} at Pyroscope"), || {
            let column = pyroscope.totals(name, SERVICE).into_values().next()?;
            (column.total >= expected.0).then_some(column)
        });
        assert_eq!(amount(&at_pyroscope), expected, "{name} at Pyroscope");
    }
    gateway.stop();
    let pushed = totals::of_otlp(&written(&gateway_home.path().join("files")), SERVICE).0;
    for (name, kind, unit) in TYPES {
        assert_eq!(amount(&of(&pushed, kind, unit)), amount(&of(&expected, kind, unit)), "{name}");
    }
}

/// The program of tests/events whose threads wait.
fn compile(home: &Path) -> std::path::PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events/programs/waits.c");
    let binary = home.join("waits");
    let status =
        Command::new("cc").args(["-O2", "-g", "-pthread", "-o"]).arg(&binary).arg(source).status();
    assert!(status.unwrap().success());
    binary
}
