//! What a table costs and saves.
//!
//! Method: of the addresses of a file those in 60 windows (of 32 KiB) at random, as a profile has them.
//! One of each window is asked for, then the table is waited for, which makes these windows whole; CPU
//! time is the worker's. *Cold* is the first address of a reader that has nothing open, *warm* the
//! second to twentieth time for all of them. Beside it, in the same process, `addr2line` (the library that
//! the worker uses) over the mapped file: cold with mapping, inflating and its index; warm after a first
//! time for all; names are not demangled and no range is found, which a table has. `llvm-addr2line`,
//! where it is there, as a process: one address, and what each more takes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSection as _};
use profpipe_engine::component::ProcessorConfig as _;
use profpipe_processors::symbolize::SymbolizeConfig;
use profpipe_processors::symbolize::tables::TableReader;

/// Must be that of `tables/format.rs`.
const WINDOW: u64 = 1 << 15;
const WINDOWS: usize = 60;
const REPEATS: usize = 20;

pub(super) fn measure(path: &Path, addresses: &[u64]) {
    let mut windows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for address in addresses {
        windows.entry(address / WINDOW).or_default().push(*address);
    }
    let every = windows.len().div_ceil(WINDOWS).max(1);
    let windows: Vec<_> = windows.into_values().step_by(every).collect();
    let firsts: Vec<u64> = windows.iter().map(|window| window[0]).collect();
    let mut all: Vec<u64> = windows.into_iter().flatten().collect();
    all.sort_unstable();

    let directory = tempfile::tempdir().unwrap();
    let services = super::services(path, Some(directory.path()));
    let config = SymbolizeConfig { ..super::config() };
    let setup = profpipe_engine::component::Setup::new("symbolize", services.clone());
    let mut processor = config.clone().build(&setup).unwrap();
    let name = path.to_str().unwrap();
    let began = Instant::now();
    super::pass(&mut *processor, name, &firsts);
    let tables = directory.path().join("tables");
    let deadline = began + Duration::from_secs(600);
    let (key, mut reader) = loop {
        let mut reader = TableReader::open(&tables).unwrap();
        let key = key(&tables);
        let is_whole =
            key.as_ref().is_some_and(|key| reader.count_whole(key, &firsts) == firsts.len());
        if is_whole {
            break (key.unwrap(), reader);
        }
        assert!(Instant::now() < deadline, "the table does not become whole");
        std::thread::sleep(Duration::from_millis(2));
    };
    let built = began.elapsed();
    let cost = super::worker_cost(firsts.len());
    let size = tables.join(format!("{key}.names")).metadata().unwrap().len();
    let began = Instant::now();
    let found = reader.count(&key, &all);
    let first_pass = began.elapsed();
    let began = Instant::now();
    for _ in 1..REPEATS {
        reader.count(&key, &all);
    }
    let warm = began.elapsed() / (REPEATS as u32 - 1);
    let began = Instant::now();
    let mut cold_reader = TableReader::open(&tables).unwrap();
    assert_eq!(cold_reader.count(&key, &all[..1]), 1);
    let cold = began.elapsed();
    let services =
        profpipe_engine::Services { worker: None, ..super::services(path, Some(directory.path())) };
    let setup = profpipe_engine::component::Setup::new("symbolize", services);
    let mut later = config.build(&setup).unwrap();
    // The content of a file without a build id is hashed once.
    super::pass(&mut *later, name, &all[..1]);
    let began = Instant::now();
    let (named, _) = super::pass(&mut *later, name, &all);
    let through = began.elapsed();
    println!(
        "  table: {} windows whole in {:.0} ms ({cost} window), {:.1} KB each on disk; {} addresses, {found} found \
         and {named} named: cold {:.0} µs, first pass {:.2} µs/address, warm {:.3} µs/address, {:.1} MB decoded; \
         by a processor without a worker {:.2} µs/address",
        firsts.len(),
        built.as_secs_f64() * 1e3,
        size as f64 / 1e3 / firsts.len() as f64,
        all.len(),
        cold.as_secs_f64() * 1e6,
        each(first_pass, all.len()),
        each(warm, all.len()),
        reader.decoded_bytes() as f64 / 1e6,
        each(through, all.len()),
    );
    with_addr2line(path, &all);
    with_llvm(path, &all);
}

fn key(tables: &Path) -> Option<String> {
    let mut entries = std::fs::read_dir(tables).ok()?.flatten();
    entries.find_map(|entry| {
        let name = entry.file_name().to_str()?.strip_suffix(".names")?.to_owned();
        // These say what the content of a file is.
        (!name.starts_with("stat-")).then_some(name)
    })
}

fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

#[allow(unsafe_code, reason = "maps the file of a benchmark")]
fn with_addr2line(path: &Path, addresses: &[u64]) {
    let began = Instant::now();
    // SAFETY: nobody writes to the file while it is measured.
    let data = unsafe { memmap2::Mmap::map(&File::open(path).unwrap()).unwrap() };
    let file = object::File::parse(&*data).unwrap();
    let load = |id: gimli::SectionId| {
        let section = file.section_by_name(id.name());
        Ok::<_, gimli::Error>(section.map_or(Cow::Borrowed(&[][..]), |section| {
            section.uncompressed_data().unwrap_or_default()
        }))
    };
    let sections = gimli::DwarfSections::load(load).unwrap();
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, gimli::LittleEndian));
    let context = addr2line::Context::from_dwarf(dwarf).unwrap();
    let mut frames_found = 0;
    let mut look_up = |address: u64| {
        let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.map_or(0, |function| function.name.slice().len());
            let line = frame.location.and_then(|place| place.line).unwrap_or_default();
            frames_found += usize::from(name + line as usize > 0);
        }
    };
    look_up(addresses[0]);
    let cold = began.elapsed();
    let began = Instant::now();
    addresses.iter().for_each(|address| look_up(*address));
    let first = began.elapsed();
    let began = Instant::now();
    addresses.iter().for_each(|address| look_up(*address));
    let warm = began.elapsed();
    println!(
        "  addr2line, the library: cold {:.0} µs, first pass {:.2} µs/address, warm {:.3} µs/address, {frames_found} frames",
        cold.as_secs_f64() * 1e6,
        each(first, addresses.len()),
        each(warm, addresses.len()),
    );
}

fn with_llvm(path: &Path, addresses: &[u64]) {
    let run = |addresses: &[u64]| {
        let began = Instant::now();
        let mut command = Command::new("llvm-addr2line");
        command.args(["-a", "-i", "-f", "-e"]).arg(path);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().ok()?;
        let text: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
        // It ends when its input does.
        let _ = process.stdin.take()?.write_all(text.as_bytes());
        process.wait().ok()?;
        Some(began.elapsed())
    };
    let (Some(one), Some(all)) = (run(&addresses[..1]), run(addresses)) else { return };
    println!(
        "  llvm-addr2line: cold {:.0} µs, then {:.2} µs/address",
        one.as_secs_f64() * 1e6,
        each(all.saturating_sub(one), addresses.len() - 1),
    );
}
