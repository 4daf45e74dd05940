//! Names from build ids alone: what a gateway knows about the modules of other hosts.

use std::path::{Path, PathBuf};
use std::process::Command;

use object::Object as _;
use profpipe_pipeline::batch::Batch;

use super::super::remote::config::Urls;
use super::server::Server;
use super::support::*;

/// The build id of a file, as senders state it.
pub(super) fn build_id(file: &Path) -> String {
    let data = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let id = elf.build_id().unwrap().unwrap();
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A batch from another host, of one file.
pub(super) fn foreign(build_id: &str, addresses: &[u64]) -> Batch {
    let attributes = [("process.executable.build_id.gnu", build_id)];
    let mut batch = batch_by("/app", &attributes, addresses);
    batch.context.receiver = "otlp".into();
    batch
}

/// A symbolizer as on a gateway, with nothing but a server and a cache.
pub(super) fn gateway(cache: &Path, server: &Server) -> Bench {
    Bench::with(|config| {
        config.debug_directories.clear();
        config.debuginfod.urls = Urls(vec![server.url()]);
        config.cache.directory = Some(cache.to_owned());
    })
}

/// A program as distributions make it: what runs, stripped, and its debug file.
pub(super) struct Parts {
    pub(super) whole: PathBuf,
    pub(super) stripped: PathBuf,
    pub(super) debug: PathBuf,
    pub(super) id: String,
}

pub(super) fn parts(files: &Files, flags: &[&str]) -> Option<Parts> {
    let whole = files.compile_c(flags);
    let (debug, stripped) = (files.path("debug"), files.path("stripped"));
    run(Command::new("objcopy").arg("--only-keep-debug").args([&whole, &debug]))?;
    run(Command::new("strip").arg("-o").args([&stripped, &whole]))?;
    let id = build_id(&whole);
    Some(Parts { whole, stripped, debug, id })
}

/// Scenario: a batch with nothing but a build id; a server has the stripped program and its debug
/// file.
/// Guarantees: names, files, lines and inlined frames of every address are those of the whole
/// program on its host. The next batch asks nobody.
#[test]
fn build_ids_are_enough() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[
        (format!("{}/executable", parts.id), &parts.stripped),
        (format!("{}/debuginfo", parts.id), &parts.debug),
    ]);
    let addresses = code(&parts.whole);
    let host = Bench::new().names(&parts.whole, &addresses);
    let cache = files.path("cache");
    let mut bench = gateway(&cache, &server);
    let mut names = bench.symbolize(foreign(&parts.id, &addresses));
    assert_eq!(names.remove("/app").unwrap(), host);
    assert_eq!(server.seen().len(), 2, "{:?}", server.seen());
}

/// Every address of the code of a file.
pub(super) fn code(file: &Path) -> Vec<u64> {
    use object::{ObjectSection as _, SectionKind};
    let data = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let sections = elf.sections().filter(|section| section.kind() == SectionKind::Text);
    sections.flat_map(|section| section.address()..section.address() + section.size()).collect()
}
