//! What a name costs: `cargo bench -p profpipe-processors --bench symbolize [-- FILE…]`.
//!
//! Method: for each file (default: this program) 100,000 distinct addresses at random within its
//! functions, in batches of 5,000 through the processor and its worker process, one after the
//! other; the first batch, which loads the file, is timed apart. Then the same addresses again,
//! which the cache answers. Memory and CPU time are the worker's, as the kernel counts them, after
//! the last batch. Then the table of the file, see `symbolize/tables.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

#[path = "symbolize/tables.rs"]
mod tables;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol, SymbolKind};
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, ProcessorConfig, Setup};
use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_engine::settings::{ByteSize, Duration as Setting};
use profpipe_engine::{Services, WorkerCommand};
use profpipe_processors::symbolize::{SymbolizeConfig, worker_main};
use profpipe_profile::attribute_names::BUILD_ID_HTLHASH;
use profpipe_profile::{LocationRef, MappingRef, Profiles, StringIx, Value};

const ADDRESSES: usize = 100_000;
const BATCH: usize = 5_000;

fn main() {
    if std::env::args().any(|argument| argument == "symbolizer-worker") {
        worker_main();
        return;
    }
    let files = std::env::args_os().skip(1).map(PathBuf::from).filter(|path| path.is_file());
    let mut files: Vec<_> = files.collect();
    if files.is_empty() {
        files.push(std::env::current_exe().unwrap());
    }
    for file in files {
        measure(&file);
    }
}

fn measure(path: &Path) {
    let addresses = choose(path);
    let name = path.to_str().unwrap().to_owned();
    let services = services(path, None);
    let mut processor = config().build(&Setup::new("symbolize", services)).unwrap();
    let batches: Vec<_> = addresses.chunks(BATCH).collect();
    let mut frames = 0;
    let mut named = 0;
    let mut first = Duration::ZERO;
    let start = Instant::now();
    for (at, addresses) in batches.iter().enumerate() {
        let (some, all) = pass(&mut *processor, &name, addresses);
        named += some;
        frames += all;
        if at == 0 {
            first = start.elapsed();
        }
    }
    let rest = start.elapsed() - first;
    let worker = worker_cost(addresses.len());
    let again = Instant::now();
    for addresses in &batches {
        pass(&mut *processor, &name, addresses);
    }
    let again = again.elapsed();
    let each = |time: Duration, count: usize| time.as_secs_f64() * 1e6 / count.max(1) as f64;
    println!(
        "{name}: {} addresses, {named} named, {frames} frames; first {} in {:.0} ms, then {:.2} \
         µs/address, from the cache {:.2} µs/address; worker: {worker}",
        addresses.len(),
        batches[0].len(),
        first.as_secs_f64() * 1e3,
        each(rest, addresses.len().saturating_sub(BATCH)),
        each(again, addresses.len()),
    );
    drop(processor);
    tables::measure(path, &addresses);
}

/// What the processor needs: a worker, the file as a module, a directory for tables.
fn services(path: &Path, cache: Option<&Path>) -> Services {
    let program = std::env::current_exe().unwrap();
    let arguments = vec!["symbolizer-worker".to_owned()];
    let worker = Some(WorkerCommand { program, arguments });
    let cache = cache.map(Path::to_owned);
    let services = Services { worker, cache, ..Services::default() };
    let name = path.to_str().unwrap().to_owned();
    let content = Content::Elf(Arc::new(File::open(path).unwrap()));
    let module = Module { path: name.clone(), pid: std::process::id(), content };
    services.modules.publish(ModuleId::Htl(name), Arc::new(module));
    services
}

fn config() -> SymbolizeConfig {
    SymbolizeConfig {
        timeout: Setting::from_secs(600),
        worker_timeout: Setting::from_secs(600),
        cache_size: ByteSize::mib(512),
        ..SymbolizeConfig::default()
    }
}

/// Distinct addresses at random in the functions of a file, in random order.
fn choose(path: &Path) -> Vec<u64> {
    let data = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let symbols = elf.symbols().chain(elf.dynamic_symbols());
    let functions: Vec<_> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .map(|symbol| (symbol.address(), symbol.size()))
        .collect();
    let mut state = 1_u64;
    let mut roll = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 20
    };
    assert!(!functions.is_empty(), "{}: no symbols to choose addresses by", path.display());
    let mut seen = BTreeSet::new();
    let mut addresses = Vec::new();
    for _ in 0..ADDRESSES * 4 {
        let (start, size) = functions[roll() as usize % functions.len()];
        let address = start + roll() % size;
        if seen.insert(address) {
            addresses.push(address);
        }
        if addresses.len() == ADDRESSES {
            break;
        }
    }
    addresses
}

/// Passes a batch through; how many addresses got names, and how many frames.
fn pass(processor: &mut dyn Processor, file: &str, addresses: &[u64]) -> (usize, usize) {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let filename = dictionary.strings.intern(file);
    let key = dictionary.strings.intern(BUILD_ID_HTLHASH);
    let id = dictionary.attributes.intern(key, Value::from(file), StringIx::NONE);
    let attributes = [id];
    let mapping = dictionary.mappings.intern(MappingRef {
        filename,
        attributes: &attributes,
        ..<_>::default()
    });
    for address in addresses {
        dictionary.locations.push(LocationRef { mapping, address: *address, ..<_>::default() });
    }
    let mut out = Outbox::default();
    processor.process(Batch::new(profiles).taken_here(), &mut out).unwrap();
    processor.finish(Instant::now() + Duration::from_secs(600), &mut out);
    let mut batch = out.drain().next().unwrap();
    let lines = |profiles: &Profiles| {
        let counts = profiles.dictionary.locations.iter().skip(1).map(|it| it.lines.len());
        counts.fold((0, 0), |(some, all), count| (some + usize::from(count > 0), all + count))
    };
    lines(batch.profiles().unwrap())
}

/// What the kernel says of the worker.
fn worker_cost(addresses: usize) -> String {
    let own = std::process::id().to_string();
    let tick = 1e6 / rustix::param::clock_ticks_per_second() as f64;
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        if field("PPid") == own {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
            let time = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
            return format!(
                "RssAnon {}, VmHWM {}, CPU {:.2} µs/address",
                field("RssAnon"),
                field("VmHWM"),
                time.sum::<f64>() * tick / addresses as f64,
            );
        }
    }
    "unknown".to_owned()
}
