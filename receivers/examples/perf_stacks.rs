//! Samples this host, or one process, for some seconds and prints the heaviest stacks.
//!
//! `cargo run -p profpipe-receivers --example perf_stacks -- [--pid N] [SECONDS]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example prints and ends when something is wrong"
)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use object::{Object, ObjectSymbol};
use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup};
use profpipe_engine::{Sender, Services};
use profpipe_profile::attribute_names::{PROCESS_EXECUTABLE_NAME, STACK_STATE};
use profpipe_profile::{Dictionary, Index, LocationIx, Profiles};
use profpipe_receivers::perf::{Config, Scope};

#[tokio::main]
async fn main() {
    let mut config = Config::default();
    let mut seconds = 5.0;
    let mut symbols = Symbols::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pid" => config.scope = Scope::Pid(arguments.next().unwrap().parse().unwrap()),
            "--no-names" => symbols.off = true,
            "--user" => config.scope = Scope::User,
            "--frequency" => config.frequency = arguments.next().unwrap().parse().unwrap(),
            number => seconds = number.parse().unwrap(),
        }
    }
    let services = Services::default();
    let setup = Setup::new("perf", services.clone());
    let receiver = match config.build(&setup) {
        Ok(receiver) => receiver,
        Err(error) => return println!("{error}"),
    };
    let (stopper, life) = Lifecycle::new();
    let (sender, mut batches) = Sender::detached(16);
    let running = tokio::spawn(receiver.run(sender, life));
    let mut totals: HashMap<String, Totals> = HashMap::new();
    let deadline = tokio::time::sleep(Duration::from_secs_f64(seconds));
    tokio::pin!(deadline);
    let mut stopped = false;
    loop {
        let batch = tokio::select! {
            () = &mut deadline, if !stopped => {
                stopper.stop(Duration::from_secs(5));
                stopped = true;
                continue;
            }
            batch = batches.recv() => batch,
        };
        let Some(mut batch) = batch else { break };
        add(batch.profiles().unwrap(), &mut symbols, &mut totals);
    }
    running.await.unwrap().unwrap();
    let mut totals: Vec<_> = totals.into_iter().collect();
    totals.sort_by_key(|(_, total)| std::cmp::Reverse(total.samples));
    for (name, total) in totals {
        let Totals { samples, nanoseconds, states, .. } = total;
        let states: Vec<_> =
            states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        println!(
            "{name}: {samples} samples, {:.3} s, {}",
            nanoseconds as f64 / 1e9,
            states.join(", ")
        );
        for (what, ends) in
            [("ends", total.ends), ("BROKEN at", total.broken_ends), ("callers", total.callers)]
        {
            let mut ends: Vec<_> = ends.into_iter().collect();
            ends.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            for (end, count) in ends.into_iter().take(6) {
                println!("    {what} {count:6} {end}");
            }
        }
    }
    for (name, component, value) in services.metrics.snapshot() {
        println!("{name}{{{component}}} {value}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| {
        line.starts_with("VmHWM") || line.starts_with("VmRSS") || line.starts_with("RssAnon")
    }) {
        println!("{line}");
    }
}

#[derive(Default)]
struct Totals {
    samples: i64,
    nanoseconds: i64,
    /// Samples by how far their stacks go.
    states: BTreeMap<String, i64>,
    ends: HashMap<String, i64>,
    broken_ends: HashMap<String, i64>,
    callers: HashMap<String, i64>,
}

fn add(profiles: &Profiles, symbols: &mut Symbols, totals: &mut HashMap<String, Totals>) {
    let dictionary = &profiles.dictionary;
    for (resource, _, profile) in profiles.iter() {
        let name = resource.get(PROCESS_EXECUTABLE_NAME).and_then(|name| name.as_str());
        let total = totals.entry(name.unwrap_or("?").to_owned()).or_default();
        let counts = dictionary.strings.get(profile.sample_type.kind) == "samples";
        for sample in profile.samples.iter() {
            let weight = sample.weight();
            if !counts {
                total.nanoseconds += weight;
                continue;
            }
            total.samples += weight;
            let state = sample.attributes.iter().find_map(|attribute| {
                let key = dictionary.strings.get(dictionary.attributes.key(*attribute));
                (key == STACK_STATE).then(|| dictionary.attributes.value(*attribute).as_str())?
            });
            let stack = dictionary.stacks.get(sample.stack);
            if stack.len() > 1 {
                let callers: Vec<_> =
                    stack.iter().take(3).map(|at| symbols.name(dictionary, *at)).collect();
                *total.callers.entry(callers.join(" < ")).or_default() += weight;
            }
            let mut end = symbols.name(dictionary, *stack.last().unwrap());
            *total.states.entry(state.unwrap_or("complete").to_owned()).or_default() += weight;
            if let Some(state) = state {
                end = stack
                    .iter()
                    .rev()
                    .take(4)
                    .map(|at| symbols.name(dictionary, *at))
                    .collect::<Vec<_>>()
                    .join(" < ");
                *total.broken_ends.entry(format!("{state} {end}")).or_default() += weight;
            } else {
                *total.ends.entry(end).or_default() += weight;
            }
        }
    }
}

type Table = Vec<(u64, u64, String)>;

#[derive(Default)]
struct Symbols {
    files: HashMap<String, Table>,
    off: bool,
}

impl Symbols {
    fn name(&mut self, dictionary: &Dictionary, location: LocationIx) -> String {
        let location = dictionary.locations.get(location);
        let mapping = dictionary.mappings.get(location.mapping);
        let path = dictionary.strings.get(mapping.filename);
        let base = path.rsplit('/').next().unwrap_or_default();
        if self.off {
            return base.to_owned();
        }
        let table = self.files.entry(path.to_owned()).or_insert_with(|| table(path));
        let at = table.partition_point(|symbol| symbol.0 <= location.address);
        match at.checked_sub(1).and_then(|at| table.get(at)) {
            Some((start, size, name)) if location.address < start + size.max(&1) => {
                format!("{base}`{name}")
            }
            _ if location.mapping.is_none() => format!("?{:x}", location.address),
            _ => format!("{base}+{:x}", location.address),
        }
    }
}

fn table(path: &str) -> Table {
    let Ok(data) = std::fs::read(path) else { return Vec::new() };
    let Ok(file) = object::File::parse(&*data) else { return Vec::new() };
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let mut table: Table = symbols
        .filter(|symbol| symbol.is_definition() && symbol.address() != 0)
        .map(|symbol| {
            (symbol.address(), symbol.size(), symbol.name().unwrap_or_default().to_owned())
        })
        .collect();
    table.sort();
    table
}
