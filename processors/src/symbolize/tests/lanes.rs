//! What waits for what: batches of a service for older ones of it, and nothing for a large binary.

use std::collections::VecDeque;
use std::fmt::Write;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor};
use profpipe_engine::overhead::Limits;
use profpipe_engine::telemetry::names;
use profpipe_profile::attribute_names::{SERVICE_NAME, SYMBOLS_PROVISIONAL};

use super::super::answer::Resolution;
use super::super::client::{Job, Message};
use super::super::lanes::{Lane, Yield, is_of_second_lane, next_job};
use super::super::rewrite::{self, Given};
use super::super::worker::binary;
use super::support::*;

/// A batch of a service with a nameless location, or none.
fn batch(service: &str, file: Option<&str>) -> Batch {
    let mut batch = match file {
        Some(file) => batch_of(&[(file, &[0x1139])]),
        None => batch_of(&[]),
    };
    let profiles = batch.profiles_mut().unwrap();
    profiles.resources[0].resource.set(SERVICE_NAME, service);
    batch
}

fn services(out: &mut Outbox) -> Vec<String> {
    let service = |mut batch: Batch| {
        let profiles = batch.profiles().unwrap();
        let name = profiles.resources[0].resource.get(SERVICE_NAME).unwrap();
        (name.as_str().unwrap().to_owned(), profiles.dictionary.locations.len())
    };
    out.drain().map(service).map(|(name, rows)| format!("{name} {rows}")).collect()
}

/// Scenario: a batch of a service waits for names that never come; a later one of the same service
/// needs none, nor does one of another service.
/// Guarantees: the other service's goes on at once, the first's stay in their order and leave when the
/// time is up.
#[test]
fn batches_of_a_service_keep_their_order() {
    let files = Files::new();
    let program = files.compile_c(&["-O1"]);
    let mut bench = Bench::new().with_worker("silent");
    bench.publish(&program);
    bench.set_timeout(Duration::from_millis(300));
    let mut out = Outbox::default();
    let mut pass = |bench: &mut Bench, batch| {
        bench.processor.process(batch, &mut out).unwrap();
        services(&mut out)
    };
    assert!(pass(&mut bench, batch("cart", program.to_str())).is_empty());
    assert!(pass(&mut bench, batch("cart", None)).is_empty());
    assert_eq!(pass(&mut bench, batch("shop", None)), ["shop 1"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut left = Vec::new();
    while left.len() < 2 && Instant::now() < deadline {
        bench.processor.tick(Instant::now(), &mut out);
        left.extend(services(&mut out));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(left, ["cart 2", "cart 1"]);
    assert!(bench.processor.is_idle());
}

fn job(number: u64, module: u32, addresses: &[u64]) -> Job {
    Job {
        scope: None,
        is_kernel: false,
        id: profpipe_engine::modules::ModuleId::Kernel,
        numbers: vec![number],
        is_looked_up: false,
        is_fresh: true,
        is_provisional: false,
        module,
        source: None,
        build_id: None,
        tenant: (Arc::default(), 0),
        addresses: addresses.to_vec(),
        provisions: std::collections::HashMap::new(),
    }
}

/// Scenario: several jobs for one module wait among others; one that was begun comes back.
/// Guarantees: all that is wanted of a module is asked at once, each address once; what was begun is
/// not joined, so that it comes to an end.
#[test]
fn jobs_for_a_module_are_joined() {
    let mut queue =
        VecDeque::from([job(1, 7, &[5, 9]), job(2, 8, &[1]), job(3, 7, &[2, 5]), job(4, 7, &[11])]);
    let first = next_job(&mut queue).unwrap();
    assert_eq!((first.numbers, first.addresses), (vec![1, 3, 4], vec![2, 5, 9, 11]));
    assert_eq!(queue.len(), 1);
    let mut begun = next_job(&mut queue).unwrap();
    begun.addresses = vec![3];
    queue.extend([begun, job(5, 8, &[4])]);
    assert_eq!(next_job(&mut queue).unwrap().numbers, [2]);
    assert_eq!(next_job(&mut queue).unwrap().numbers, [5]);
    assert!(next_job(&mut queue).is_none());
}

/// Scenario: modules with little and much debug information, and none known.
/// Guarantees: only those with much are for the second lane, which is handed their jobs; fetches tell
/// whose they are.
#[test]
fn large_modules_take_the_second_lane() {
    let (second, handed) = std::sync::mpsc::channel();
    let jobs = Arc::new(AtomicUsize::new(0));
    let mut first =
        Lane::First { second, jobs: Arc::clone(&jobs), large: std::collections::HashSet::new() };
    first.note(1, 100 << 10);
    first.note(2, 100 << 20);
    assert!(!first.is_large(1) && first.is_large(2) && !first.is_large(3));
    assert!(first.hand_over(job(1, 2, &[5])));
    assert!(matches!(handed.try_recv(), Ok(Message::Job(job)) if job.module == 2));
    assert!(!Lane::Only.hand_over(job(1, 2, &[5])) && !Lane::Only.is_large(2));
    let second = Lane::Second(Yield(jobs));
    assert!(is_of_second_lane(second.first_wish()) && !is_of_second_lane(first.first_wish()));
    assert!(first.yields().is_none());
    // The first has nothing to do: no wait.
    second.yields().unwrap().wait();
}

/// Scenario: a program with debug information is asked by its symbols only, then by all that it has;
/// the first answers are put into a batch because the second did not come in time.
/// Guarantees: symbols name the function without a line and without what was inlined; the batch says
/// that more may be known.
#[test]
fn symbols_come_first_and_say_so() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let address = functions["outer"].0 + 8;
    let mut binary = binary::look_up_by(&OwnedFd::from(File::open(&program).unwrap()));
    let mut ask = |only_symbols| {
        let known = binary(&[address], only_symbols);
        let Resolution::Named(frames) = known[0].answer.clone() else { panic!("{known:?}") };
        frames
    };
    let quick = ask(true);
    assert_eq!((quick.len(), &*quick[0].function.name, quick[0].line), (1, "outer", 0));
    let full = ask(false);
    assert!(full.last().unwrap().line > 0 && full.last().unwrap().function.name == "outer");

    let mut profiles = batch_of(&[("program", &[address, 1])]).profiles().unwrap().clone();
    let tally = rewrite::apply(&mut profiles, |_, asked| Given {
        answer: Resolution::Named(Arc::clone(&quick)),
        is_provisional: asked == address,
    });
    assert_eq!((tally.named, tally.provisional), (2, 1));
    let names = read_names(&profiles).remove("program").unwrap();
    assert!(names[&address].attributes.contains_key(SYMBOLS_PROVISIONAL));
    assert!(!names[&1].attributes.contains_key(SYMBOLS_PROVISIONAL));
}

/// Scenario: where there is a budget, a program with megabytes of debug information and a small one
/// are in one batch, which can wait.
/// Guarantees: both get all that their debug information says.
#[test]
fn both_lanes_name_all() {
    let files = Files::new();
    let mut source = String::new();
    for number in 0..30_000 {
        writeln!(source, "int f{number}(int x) {{ int y = x * {number}; return y + 1; }}").unwrap();
    }
    source.push_str("int main(void) { return f17(3); }\n");
    let path = files.write("large.c", source);
    let large = files.path("large");
    let mut cc = std::process::Command::new("cc");
    if run(cc.args(["-g", "-O0", "-o"]).args([&large, &path])).is_none() {
        return;
    }
    let small = files.compile_c(&["-O2", "-g"]);
    let (Some(of_large), Some(of_small)) = (functions(&large), functions(&small)) else { return };
    let (in_large, in_small) = (of_large["f17"].0 + 4, of_small["outer"].0);
    let bench = Bench::new();
    bench.services.overhead.limit(Limits::default());
    let mut bench = bench.with_worker("worker");
    bench.publish(&large);
    bench.publish(&small);
    let (large, small) = (large.to_str().unwrap(), small.to_str().unwrap());
    let names = bench.symbolize(batch_of(&[(large, &[in_large]), (small, &[in_small])]));
    let of_large = &names[large][&in_large];
    assert_eq!((&*of_large.frames[0].0, of_large.frames[0].2), ("f17", 18));
    assert!(!of_large.attributes.contains_key(SYMBOLS_PROVISIONAL));
    assert!(names[small][&in_small].frames[0].2 > 0);
    let total = |name| bench.services.metrics.total(name);
    assert_eq!((total(names::FRAMES_NAMED), total(names::FRAMES_PROVISIONAL)), (2, 0));
}
