//! Servers that fail, lie or are slow, and tenants that want too much.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor};
use profpipe_engine::settings::{ByteSize, Duration as Setting};
use profpipe_engine::telemetry::names;

use super::super::SymbolizeConfig;
use super::super::remote::config::Urls;
use super::fetched::{Parts, foreign, foreign_modules, parts};
use super::server::{Reply, Server};
use super::support::*;

/// A symbolizer with these servers.
fn bench(cache: &Path, urls: &[&str], change: impl FnOnce(&mut SymbolizeConfig)) -> Bench {
    Bench::with(|config| {
        config.debug_directories.clear();
        config.debuginfod.urls = Urls(urls.iter().map(|url| (*url).to_owned()).collect());
        config.cache.directory = Some(cache.to_owned());
        change(config);
    })
}

/// Why the one address of a module of another host has no name; empty if it has one.
fn reason(bench: &mut Bench, id: &str, address: u64) -> String {
    let names = bench.symbolize(foreign(id, &[address]));
    let named = &names["/app"][&address];
    let reason = named.attributes.get("profpipe.unsymbolized.reason").cloned();
    assert_eq!(reason.is_none(), !named.frames.is_empty(), "{named:?}");
    reason.unwrap_or_default()
}

fn outer(parts: &Parts) -> u64 {
    functions(&parts.whole).unwrap()["outer"].0
}

/// The names in a directory.
fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The file with another build id of the same length.
fn renamed(file: &[u8], id: &str, to: &str) -> Vec<u8> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = (0..hex.len()).step_by(2);
        digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let (id, to) = (bytes(id), bytes(to));
    let at = file.windows(id.len()).position(|part| part == id).unwrap();
    let mut file = file.to_vec();
    file[at..at + to.len()].copy_from_slice(&to);
    file
}

/// Scenario: a server that has nothing, fails, hangs, breaks off, sends too much, something else, or
/// us elsewhere; for the executable and its debug file.
/// Guarantees: no name, the reason for each, and nothing in the cache but what is known to be absent.
#[test]
fn failing_servers_cost_names_only() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let whole = std::fs::read(&parts.whole).unwrap();
    let other = renamed(&whole, &parts.id, &"ab".repeat(parts.id.len() / 2));
    let elsewhere = Server::of_files(&[(format!("{}/executable", parts.id), &parts.whole)]);
    let mut shorn = whole.clone();
    shorn.truncate(whole.len() - 64);
    let cases = [
        (Reply::Status(404), "not found"),
        (Reply::Status(500), "unavailable"),
        (Reply::Status(503), "unavailable"),
        (Reply::Hang, "unavailable"),
        (Reply::Cut(whole.clone()), "unavailable"),
        (Reply::Unframed(shorn), "unreadable"),
        (Reply::File(b"<html>not here</html>".to_vec()), "unreadable"),
        (Reply::File(Vec::new()), "unreadable"),
        (Reply::File(other), "wrong build id"),
        (Reply::File(vec![0; 3 << 20]), "refused: limit"),
        (Reply::Endless, "refused: limit"),
        (Reply::Status(406), "refused: limit"),
        (
            Reply::Redirect(format!("{}/buildid/{}/executable", elsewhere.url(), parts.id)),
            "unavailable",
        ),
    ];
    for (number, (reply, expected)) in cases.into_iter().enumerate() {
        let server = Server::start(move |_| reply.clone());
        let cache = files.path(&format!("cache{number}"));
        let mut bench = bench(&cache, &[&server.url()], |config| {
            config.debuginfod.timeout = Setting::from_millis(500);
            config.debuginfod.max_file_size = ByteSize::mib(2);
        });
        assert_eq!(reason(&mut bench, &parts.id, outer(&parts)), expected, "case {number}");
        let left = list(&cache);
        assert!(left.iter().all(|name| name.ends_with(".absent")), "case {number}: {left:?}");
        let result = match expected {
            "refused: limit" => "too large",
            other => other,
        };
        let labels = [("result", result)];
        let counter =
            bench.services.metrics.labelled(names::DEBUGINFOD_FILES, "symbolize", &labels);
        assert!(counter.get() > 0, "case {number}: no file counted as `{result}`");
        // Asked again, the server is left alone.
        let asked = server.seen().len();
        assert_eq!(reason(&mut bench, &parts.id, outer(&parts)), expected, "case {number}");
        assert_eq!(server.seen().len(), asked, "case {number}");
    }
    assert!(elsewhere.seen().is_empty(), "a redirect was followed");
}

/// Scenario: the first server is not there, the second has nothing, the third has the file.
/// Guarantees: it is found.
#[test]
fn other_servers_are_asked() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let empty = Server::start(|_| Reply::Status(404));
    let server = Server::of_files(&[(format!("{}/executable", parts.id), &parts.whole)]);
    let nobody = format!("http://{nobody}");
    let urls = [nobody.as_str(), &empty.url(), &server.url()];
    let mut bench = bench(&files.path("cache"), &urls, |_| {});
    assert_eq!(reason(&mut bench, &parts.id, outer(&parts)), "");
}

/// Scenario: one server has nothing, the other is away; then only the first is there.
/// Guarantees: what is away may have the file, so nothing is noted as absent; then it is.
#[test]
fn who_is_away_may_have_it() {
    let files = Files::new();
    let (cache, id) = (files.path("cache"), "ab".repeat(20));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let empty = Server::start(|_| Reply::Status(404));
    let urls = [format!("http://{nobody}"), empty.url()];
    let mut with_both = bench(&cache, &[&urls[0], &urls[1]], |_| {});
    assert_eq!(reason(&mut with_both, &id, 0x1000), "unavailable");
    assert_eq!(list(&cache), Vec::<String>::new());
    assert_eq!(reason(&mut bench(&cache, &[&urls[1]], |_| {}), &id, 0x1000), "not found");
    let absent = [format!("{id}.debuginfo.absent"), format!("{id}.executable.absent")];
    assert_eq!(list(&cache), absent);
}

/// Scenario: a batch with thousands of modules that nobody knows, then one of another tenant.
/// Guarantees: those beyond the limit are refused at once; the other tenant gets its names.
#[test]
fn many_modules_are_refused() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[(format!("{}/executable", parts.id), &parts.whole)]);
    let mut bench = bench(&files.path("cache"), &[&server.url()], |config| {
        config.debuginfod.files_per_minute = 10;
    });
    let ids: Vec<_> = (0..5000).map(|number| format!("{number:040x}")).collect();
    let mut flood = foreign_modules(&ids);
    flood.context.tenant = Some("greedy".into());
    let mut out = Outbox::default();
    bench.processor.process(flood, &mut out).unwrap();
    let mut batch = foreign(&parts.id, &[outer(&parts)]);
    batch.context.tenant = Some("modest".into());
    bench.processor.process(batch, &mut out).unwrap();
    bench.processor.finish(Instant::now() + Duration::from_secs(60), &mut out);
    let mut named = 0;
    for mut batch in out.drain() {
        let greedy = batch.context.tenant.as_deref() == Some("greedy");
        for (file, names) in read_names(batch.profiles().unwrap()) {
            for (address, at) in names {
                let reason = at.attributes.get("profpipe.unsymbolized.reason");
                assert_eq!(reason.is_some(), greedy, "{file} {address:#x}: {reason:?}");
                named += usize::from(reason.is_none());
            }
        }
    }
    assert_eq!(named, 1);
    assert!(server.seen().len() <= 2 * 10 + 2, "{}", server.seen().len());
}

/// Passes a batch through as the engine does it: it goes on when it is time.
fn tick(bench: &mut Bench, batch: Batch) -> Names {
    let mut out = Outbox::default();
    bench.processor.process(batch, &mut out).unwrap();
    assert_eq!(out.drain().count(), 0);
    let begin = Instant::now();
    loop {
        bench.processor.tick(Instant::now(), &mut out);
        if bench.processor.is_idle() {
            let mut batches: Vec<_> = out.drain().collect();
            return read_names(batches.last_mut().unwrap().profiles().unwrap());
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Scenario: a server that takes longer than a batch waits for names, less than it waits for files; another
/// batch that wants the same comes meanwhile; then one whose module the server does not have.
/// Guarantees: both have their names, and the file came once; the last goes on at once.
#[test]
fn a_slow_first_download_costs_no_names() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let whole = std::fs::read(&parts.whole).unwrap();
    let id = parts.id.clone();
    let server = Server::start(move |path| match path.contains(&id) {
        true => Reply::Late(Duration::from_secs(1), whole.clone()),
        false => Reply::Status(404),
    });
    let mut bench = bench(&files.path("cache"), &[&server.url()], |_| {});
    bench.set_timeout(Duration::from_millis(100));
    let address = outer(&parts);
    let mut out = Outbox::default();
    bench.processor.process(foreign(&parts.id, &[address]), &mut out).unwrap();
    let second = tick(&mut bench, foreign(&parts.id, &[address, address + 1]));
    assert!(!second["/app"][&address].frames.is_empty(), "{second:?}");
    assert_eq!(second["/app"].len(), 2);
    let found = server.seen().iter().filter(|path| path.contains(&parts.id)).count();
    assert_eq!(found, 1);
    let other = tick(&mut bench, foreign(&"ab".repeat(20), &[0x1000]));
    assert_eq!(other["/app"][&0x1000].attributes["profpipe.unsymbolized.reason"], "not found");
}

/// Scenario: a server that takes longer than a batch waits.
/// Guarantees: the batch goes on in time and says why; the pipeline does not wait meanwhile; the
/// next batch has the names, and the file came once.
#[test]
fn slow_servers_do_not_hold_batches() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let whole = std::fs::read(&parts.whole).unwrap();
    let server = Server::start(move |_| Reply::Late(Duration::from_secs(2), whole.clone()));
    let mut bench = bench(&files.path("cache"), &[&server.url()], |config| {
        config.debuginfod.max_wait = Setting::from_millis(300);
    });
    bench.set_timeout(Duration::from_millis(200));
    let address = outer(&parts);
    let late = tick(&mut bench, foreign(&parts.id, &[address]));
    assert_eq!(late["/app"][&address].attributes["profpipe.unsymbolized.reason"], "timeout");
    bench.set_timeout(Duration::from_secs(120));
    assert_eq!(reason(&mut bench, &parts.id, address), "");
    assert_eq!(server.seen().len(), 1);
}

/// Scenario: many batches of several tenants want the same module at once, some of them another
/// address of it.
/// Guarantees: all get names, and each file came once.
#[test]
fn a_file_is_fetched_once() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let (id, stripped) = (parts.id.clone(), std::fs::read(&parts.stripped).unwrap());
    let debug = std::fs::read(&parts.debug).unwrap();
    let server = Server::start(move |path| {
        let file = if path.ends_with("/executable") { &stripped } else { &debug };
        Reply::Late(Duration::from_millis(300), file.clone())
    });
    let mut bench = bench(&files.path("cache"), &[&server.url()], |_| {});
    let mut out = Outbox::default();
    for number in 0..12_u64 {
        let mut batch = foreign(&id, &[outer(&parts) + number % 3]);
        batch.context.tenant = Some(format!("t{}", number % 4).into());
        bench.processor.process(batch, &mut out).unwrap();
    }
    bench.processor.finish(Instant::now() + Duration::from_secs(60), &mut out);
    let batches: Vec<_> = out.drain().collect();
    assert_eq!(batches.len(), 12);
    for mut batch in batches {
        let names = read_names(batch.profiles().unwrap());
        assert!(names["/app"].values().all(|named| !named.frames.is_empty()));
    }
    assert_eq!(server.seen().len(), 2, "{:?}", server.seen());
}

/// Scenario: one tenant sends build ids that nobody has, more than its allowance; then another one
/// a real module, and the first that module too.
/// Guarantees: the first is refused and told so, the server is asked no more often than allowed, the
/// second gets its names at once; what is there is for both.
#[test]
fn tenants_have_an_allowance() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[(format!("{}/executable", parts.id), &parts.whole)]);
    let mut bench = bench(&files.path("cache"), &[&server.url()], |config| {
        config.debuginfod.files_per_minute = 20;
    });
    let mut ask = |tenant: &str, id: &str| {
        let mut batch = foreign(id, &[outer(&parts)]);
        batch.context.tenant = Some(Arc::from(tenant));
        let names = bench.symbolize(batch);
        let attributes = &names["/app"][&outer(&parts)].attributes;
        attributes.get("profpipe.unsymbolized.reason").cloned()
    };
    let reasons: Vec<_> = (0..40).map(|number| ask("greedy", &format!("{number:040x}"))).collect();
    let refused = reasons.iter().flatten().filter(|reason| *reason == "refused: limit").count();
    let asked = server.seen().len();
    // A little comes back while the test runs.
    assert!((20..=25).contains(&asked), "{asked} files asked for");
    assert!(refused >= 25, "{reasons:?}");
    assert_eq!(ask("greedy", &parts.id), Some("refused: limit".to_owned()));
    assert_eq!(ask("modest", &parts.id), None);
    assert_eq!(ask("greedy", &parts.id), None);
}

/// Scenario: ten modules are wanted at once, two may be fetched at a time.
/// Guarantees: never more than two are.
#[test]
fn few_files_are_fetched_at_a_time() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let (id, whole) = (parts.id.clone(), std::fs::read(&parts.whole).unwrap());
    let server = Server::start(move |path| {
        let wanted = path.split('/').nth(2).unwrap();
        Reply::Late(Duration::from_millis(200), renamed(&whole, &id, wanted))
    });
    let mut bench = bench(&files.path("cache"), &[&server.url()], |config| {
        config.debuginfod.max_concurrent = 2;
    });
    let mut out = Outbox::default();
    for number in 0..10 {
        let id = format!("{number:040x}");
        bench.processor.process(foreign(&id, &[outer(&parts)]), &mut out).unwrap();
    }
    bench.processor.finish(Instant::now() + Duration::from_secs(60), &mut out);
    for mut batch in out.drain() {
        let names = read_names(batch.profiles().unwrap());
        assert!(names["/app"].values().all(|named| !named.frames.is_empty()));
    }
    assert_eq!((server.seen().len(), server.most()), (10, 2));
}
