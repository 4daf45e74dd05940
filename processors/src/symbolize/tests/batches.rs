//! What happens to batches, and what is remembered between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::component::{Outbox, Processor};
use profpipe_engine::modules::ModuleId;
use profpipe_engine::settings::{ByteSize, Duration as Setting};
use profpipe_engine::telemetry::names;
use profpipe_profile::Index;

use super::super::answer::{Frame, Reason, Resolution};
use super::super::cache::{Cache, SWEEP_INTERVAL, UNUSED_SWEEPS};
use super::super::protocol::WireFunction;
use super::support::*;

/// Scenario: a batch with named, nameless and foreign locations in several files. Guarantees:
/// stacks, samples and named locations stay as they were; mappings say what their locations have;
/// metrics count.
#[test]
fn batches_keep_their_shape() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let bare = files.path("bare");
    std::fs::copy(&program, &bare).unwrap();
    let Some(functions) = functions(&program) else { return };
    let outer = functions["outer"].0;
    let path = program.to_str().unwrap();
    let mut bench = Bench::new();
    bench.publish(&program);
    let mut batch = batch_of(&[(path, &[outer, 1]), ("/unknown", &[5])]);
    let before = batch.profiles().unwrap().clone();
    let after = bench.pass(batch);
    let (old, new) = (&before.dictionary, &after.dictionary);
    assert!(old.stacks.iter().eq(new.stacks.iter()));
    assert_eq!(old.locations.len(), new.locations.len());
    for (old, new) in old.locations.iter().zip(new.locations.iter()) {
        assert_eq!((old.mapping, old.address), (new.mapping, new.address));
    }
    let flags: Vec<Vec<&str>> = new
        .mappings
        .iter()
        .map(|mapping| {
            let keys = mapping.attributes.iter();
            keys.map(|row| new.strings.get(new.attributes.key(*row))).collect()
        })
        .collect();
    let all = [
        "process.executable.build_id.htlhash",
        "pprof.mapping.has_functions",
        "pprof.mapping.has_filenames",
        "pprof.mapping.has_line_numbers",
    ];
    assert_eq!(flags[1][..4], all);
    assert_eq!(flags[2], all[..1]);
    assert_eq!(bench.services.metrics.total(names::FRAMES_NAMED), 1);
    assert_eq!(bench.services.metrics.total(names::FRAMES_UNNAMED), 2);

    // Once more: what is named stays, what is not is asked again.
    let again = bench.pass(profpipe_engine::batch::Batch::new(after.clone()));
    assert_eq!(read_names(&after), read_names(&again));
    assert_eq!(bench.services.metrics.total(names::FRAMES_NAMED), 1);
}

/// Scenario: interning goes on after names were applied. Guarantees: rows are found, not doubled.
#[test]
fn tables_still_intern() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let path = program.to_str().unwrap();
    let mut bench = Bench::new();
    bench.publish(&program);
    let mut profiles = bench.pass(batch_of(&[(path, &[1, 2])]));
    let dictionary = &mut profiles.dictionary;
    let rows = dictionary.locations.len();
    let copy = dictionary.locations.clone();
    for row in copy.iter() {
        assert!(dictionary.locations.intern(row).at() < rows);
    }
    let copy = dictionary.mappings.clone();
    let rows = copy.len();
    for row in copy.iter() {
        assert!(dictionary.mappings.intern(row).at() < rows);
    }
}

/// Scenario: the same addresses in the next batch. Guarantees: it goes on at once.
#[test]
fn known_answers_do_not_wait() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let path = program.to_str().unwrap();
    let addresses = [functions["outer"].0, functions["main"].0, 1];
    let mut bench = Bench::new();
    let first = bench.names(&program, &addresses);
    let mut out = Outbox::default();
    bench.processor.process(batch_of(&[(path, &addresses)]), &mut out).unwrap();
    let mut batches: Vec<_> = out.drain().collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(read_names(batches[0].profiles().unwrap())[path], first);
    // The store forgets the file; what is known of it stays known.
    bench.services.modules.forget(&ModuleId::Htl(path.into()));
    bench.processor.process(batch_of(&[(path, &addresses)]), &mut out).unwrap();
    assert_eq!(out.drain().count(), 1);
}

/// Scenario: a reload after addresses were named: the next processor has no worker and the file is gone; then
/// one with other settings.
/// Guarantees: what was known is known at once, and is not if the settings have changed.
#[test]
fn answers_outlive_a_reload() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let path = program.to_str().unwrap();
    let addresses = [functions["outer"].0, functions["main"].0];
    let mut bench = Bench::new();
    let first = bench.names(&program, &addresses);
    bench.services.modules.forget(&ModuleId::Htl(path.into()));
    let mut bench = bench.with_program(None);
    let mut out = Outbox::default();
    bench.processor.process(batch_of(&[(path, &addresses)]), &mut out).unwrap();
    let mut batches: Vec<_> = out.drain().collect();
    assert_eq!(read_names(batches[0].profiles().unwrap())[path], first);
    let mut bench = bench.changed(|config| config.cache_size = ByteSize(1 << 20));
    bench.processor.process(batch_of(&[(path, &addresses)]), &mut out).unwrap();
    let names = read_names(out.drain().next().unwrap().profiles().unwrap());
    assert_ne!(names[path], first);
}

/// Scenario: several batches wait for the same addresses and some of their own. Guarantees: all
/// get all names, and each address is asked once.
#[test]
fn batches_share_answers_under_way() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let path = program.to_str().unwrap();
    let (outer, main) = (functions["outer"].0, functions["main"].0);
    let mut bench = Bench::new();
    bench.publish(&program);
    let mut out = Outbox::default();
    for addresses in [&[outer][..], &[outer, main], &[outer, main, outer + 1]] {
        bench.processor.process(batch_of(&[(path, addresses)]), &mut out).unwrap();
    }
    bench.processor.finish(Instant::now() + Duration::from_secs(100), &mut out);
    let mut count = 0;
    for mut batch in out.drain() {
        let names = read_names(batch.profiles().unwrap());
        assert!(names[path].values().all(|named| !named.frames.is_empty()));
        count += 1;
    }
    assert_eq!(count, 3);
}

/// Scenario: more bytes wait than allowed. Guarantees: the oldest batches go on without names.
#[test]
fn waiting_batches_are_bounded() {
    let mut bench = Bench::with(|config| {
        config.max_parked = ByteSize(1);
        config.timeout = Setting::from_secs(1000);
    })
    .with_worker("silent");
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    bench.publish(&program);
    let path = program.to_str().unwrap();
    let mut out = Outbox::default();
    bench.processor.process(batch_of(&[(path, &[1])]), &mut out).unwrap();
    let named = bench.only(&mut out, path);
    assert_eq!(named.attributes["profpipe.unsymbolized.reason"], "timeout");
}

/// Scenario: the pipeline stops while the worker is silent. Guarantees: `finish` returns at its
/// deadline with every batch.
#[test]
fn finish_keeps_its_deadline() {
    let mut bench = Bench::new().with_worker("silent");
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    bench.publish(&program);
    let path = program.to_str().unwrap();
    let mut out = Outbox::default();
    bench.processor.process(batch_of(&[(path, &[1])]), &mut out).unwrap();
    bench.processor.finish(Instant::now() + Duration::from_millis(20), &mut out);
    bench.only(&mut out, path);
}

/// Scenario: the same, and somebody wants what there is at once. Guarantees: `finish` returns with
/// every batch long before its deadline, which nobody would wait for.
#[test]
fn finish_is_in_haste() {
    let mut bench = Bench::new().with_worker("silent");
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    bench.publish(&program);
    let path = program.to_str().unwrap();
    let mut out = Outbox::default();
    bench.processor.set_timeout(Duration::from_secs(3600));
    bench.processor.process(batch_of(&[(path, &[1])]), &mut out).unwrap();
    let deadline = Instant::now() + Duration::from_secs(3600);
    bench.services.haste.begin();
    bench.processor.finish(deadline, &mut out);
    assert!(Instant::now() < deadline);
    bench.only(&mut out, path);
}

/// Scenario: answers for more than the cache holds, with functions that repeat. Guarantees: the
/// bound holds; what is used stays; equal functions are held once.
#[test]
fn the_cache_is_bounded() {
    let answer = |number: u64| {
        let function = WireFunction { name: format!("f{}", number / 8), ..<_>::default() };
        Resolution::Named([Frame { function: Arc::new(function), line: 1, column: 0 }].into())
    };
    let mut cache = Cache::new(100_000);
    for address in 0..10_000 {
        cache.keep(1, address..address + 1, answer(address));
        assert_eq!(cache.get((1, 0)), Some(answer(0)));
        assert!(cache.bytes() < 150_000, "{}", cache.bytes());
    }
    assert_eq!(cache.get((1, 1)), None);
    assert_eq!(cache.get((2, 0)), None);
    cache.keep(3, 10..20, Resolution::Unnamed(Reason::NoSymbol));
    for (address, known) in [(9, false), (10, true), (19, true), (20, false)] {
        assert_eq!(cache.get((3, address)).is_some(), known, "{address}");
    }
    assert_eq!(cache.get((4, 15)), None);
    let (one, two) = (cache.keep(4, 1..2, answer(8)), cache.keep(4, 2..3, answer(9)));
    let (Resolution::Named(one), Resolution::Named(two)) = (one, two) else { panic!() };
    assert!(Arc::ptr_eq(&one[0].function, &two[0].function));
}

/// Scenario: 100,000 programs, each with functions of its own, fifty a minute; one is in every batch,
/// though not with all of its functions. Guarantees: those that no batch has any more are forgotten
/// with their answers and functions long before the budget is used up; what is known of the steady
/// one stays, and its number too; a number is never given twice.
#[test]
fn the_cache_forgets_programs_that_are_gone() {
    let answer = |name: String| {
        let function = WireFunction { name, ..<_>::default() };
        Resolution::Named([Frame { function: Arc::new(function), line: 1, column: 0 }].into())
    };
    let mut cache = Cache::new(16 << 20);
    let steady = ModuleId::Gnu("steady".into());
    let number = cache.assign(&None, &steady);
    cache.keep(number, 1..2, answer("rare".into()));
    let mut now = Instant::now();
    let (mut least, mut most) = (usize::MAX, 0);
    for minute in 0..2000 {
        for program in 0..50 {
            let id = ModuleId::Htl(format!("{minute}.{program}"));
            let number = cache.assign(&None, &id);
            assert_eq!(number, 2 + minute * 50 + program);
            for address in 0..10 {
                let name = format!("f{minute}.{program}.{address}");
                cache.keep(number, address..address + 1, answer(name));
            }
        }
        assert_eq!(cache.assign(&None, &steady), number);
        now += SWEEP_INTERVAL;
        cache.sweep(now);
        if minute > 10 {
            (least, most) = (least.min(cache.bytes()), most.max(cache.bytes()));
        }
    }
    assert!(most < 1 << 20 && most - least < most / 10, "{least} {most}");
    assert_eq!(cache.get((number, 1)), Some(answer("rare".into())));
    for _ in 0..=UNUSED_SWEEPS + 1 {
        now += SWEEP_INTERVAL;
        cache.sweep(now);
    }
    assert_eq!(cache.bytes(), 0);
    assert_eq!(cache.number(&None, &steady), None);
}
