//! Process contexts: of programs that publish one, and of those that mean harm.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup};
use profpipe_engine::settings;
use profpipe_engine::{Sender, Services};
use profpipe_profile::attribute_names::{HOST_NAME, PROCESS_PID, SERVICE_NAME};
use profpipe_profile::{KeyValue, Resource, Value};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::processes::process_context::{
    ContextReading, Memory, Rejection, apply, candidates, read,
};
use crate::perf::{Config, Scope};

/// How long a test waits for what must come.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Memory at an address, with what happens to it at every reading.
struct Made<F> {
    start: u64,
    bytes: Vec<u8>,
    reads: usize,
    happens: F,
}

impl<F: FnMut(usize, &mut Vec<u8>)> Memory for Made<F> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        self.reads += 1;
        (self.happens)(self.reads, &mut self.bytes);
        let range = address.checked_sub(self.start).map(|at| at as usize).and_then(|at| {
            let end = at.checked_add(into.len())?;
            self.bytes.get(at..end)
        });
        range.is_some_and(|bytes| {
            into.copy_from_slice(bytes);
            true
        })
    }
}

const START: u64 = 0x7000;

fn made(bytes: Vec<u8>) -> Made<impl FnMut(usize, &mut Vec<u8>)> {
    Made { start: START, bytes, reads: 0, happens: |_, _: &mut Vec<u8>| {} }
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        all.push(length as u8 | 0x80);
        length >>= 7;
    }
    all.push(length as u8);
    all.extend(bytes);
    all
}

fn pair(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

/// A payload with these attributes, and one that is no part of the resource.
fn payload(pairs: &[(&str, &str)]) -> Vec<u8> {
    let attributes: Vec<u8> =
        pairs.iter().flat_map(|(key, value)| field(1, &pair(key, value))).collect();
    [field(1, &attributes), field(2, &pair("threadlocal.schema", "x"))].concat()
}

fn header(version: u32, length: u32, published: u64, payload: u64) -> Vec<u8> {
    let mut header = b"OTEL_CTX".to_vec();
    header.extend(version.to_ne_bytes());
    header.extend(length.to_ne_bytes());
    header.extend(published.to_ne_bytes());
    header.extend(payload.to_ne_bytes());
    header
}

/// A header with a payload behind it.
fn published(payload: &[u8], time: u64) -> Vec<u8> {
    [header(2, payload.len() as u32, time, START + 32), payload.to_vec()].concat()
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: value.into() }
}

/// Scenario: a context as an SDK publishes it, looked at again, and after a change.
/// Guarantees: its resource's attributes are read, others are not; what has not changed is not read
/// again.
#[test]
fn a_context_is_read() {
    let shop = published(&payload(&[("service.name", "shop"), ("a", "b")]), 7);
    let attributes = vec![text("service.name", "shop"), text("a", "b")];
    let mut memory = made(shop);
    assert_eq!(
        read(&mut memory, START, None),
        ContextReading::Context { published: 7, attributes }
    );
    memory.reads = 0;
    assert_eq!(read(&mut memory, START, Some(7)), ContextReading::Same);
    assert_eq!(memory.reads, 1);
    memory.bytes = published(&payload(&[("a", "c")]), 8);
    let attributes = vec![text("a", "c")];
    assert_eq!(
        read(&mut memory, START, Some(7)),
        ContextReading::Context { published: 8, attributes }
    );
}

/// Scenario: another signature, other versions, a mapping that is too short, no length, a huge
/// length, pointers to nowhere, around the end of memory and into the header itself, a payload that
/// is no protobuf.
/// Guarantees: each is refused for its reason; nothing large is read.
#[test]
fn what_makes_no_sense_is_refused() {
    let good = payload(&[("a", "b")]);
    let length = good.len() as u32;
    let with = |header: Vec<u8>| [header, good.clone()].concat();
    let mut other = published(&good, 7);
    other[0] = b'o';
    for (bytes, refusal) in [
        (other, Rejection::Header),
        (with(header(1, length, 7, START + 32)), Rejection::Header),
        (with(header(3, length, 7, START + 32)), Rejection::Header),
        (b"OTEL_CTX".to_vec(), Rejection::Unreadable),
        (with(header(2, 0, 7, START + 32)), Rejection::Length),
        (with(header(2, u32::MAX, 7, START + 32)), Rejection::Length),
        (with(header(2, (64 << 10) + 1, 7, START + 32)), Rejection::Length),
        (with(header(2, length, 7, 0)), Rejection::Unreadable),
        (with(header(2, length, 7, u64::MAX - 1)), Rejection::Unreadable),
        (with(header(2, length, 7, START + 40)), Rejection::Unreadable),
        (with(header(2, length, 7, START)), Rejection::Payload),
        (published(&field(1, b"\xff\xff"), 7), Rejection::Payload),
        (published(&[0xff; 60_000], 7), Rejection::Payload),
    ] {
        assert_eq!(read(&mut made(bytes), START, None), ContextReading::Nothing(refusal));
    }
    assert_eq!(read(&mut made(published(&good, 0)), START, None), ContextReading::Changing);
}

/// Scenario: the payload changes between the readings of header and payload, once and for ever; the
/// header vanishes in between; only the pointer changes and not the time.
/// Guarantees: half of one and half of another is never believed; it ends.
#[test]
fn what_changes_while_it_is_read_is_not_believed() {
    let (old, new) = (payload(&[("a", "old")]), payload(&[("a", "new")]));
    let once = |reads: usize, bytes: &mut Vec<u8>| {
        if reads == 2 {
            *bytes = published(&new, 8);
        }
    };
    let mut memory = Made { start: START, bytes: published(&old, 7), reads: 0, happens: once };
    let attributes = vec![text("a", "new")];
    assert_eq!(
        read(&mut memory, START, None),
        ContextReading::Context { published: 8, attributes }
    );
    let always = |reads: usize, bytes: &mut Vec<u8>| *bytes = published(&new, reads as u64);
    let mut memory = Made { start: START, bytes: published(&old, 7), reads: 0, happens: always };
    assert_eq!(read(&mut memory, START, None), ContextReading::Changing);
    assert!(memory.reads < 20);
    let gone = |reads: usize, bytes: &mut Vec<u8>| {
        if reads == 3 {
            bytes.clear();
        }
    };
    let mut memory = Made { start: START, bytes: published(&old, 7), reads: 0, happens: gone };
    assert_eq!(read(&mut memory, START, None), ContextReading::Nothing(Rejection::Unreadable));
    let moved = |reads: usize, bytes: &mut Vec<u8>| {
        bytes[24] = if reads.is_multiple_of(2) { 32 } else { 33 };
    };
    let mut memory = Made { start: START, bytes: published(&old, 7), reads: 0, happens: moved };
    assert!(!matches!(read(&mut memory, START, None), ContextReading::Context { .. }));
}

/// Scenario: thousands of attributes, keys and texts that are too long or hold control characters,
/// bytes, maps, keys that come twice.
/// Guarantees: what is sensible is kept, within bounds.
#[test]
fn attributes_are_bounded() {
    let long = "x".repeat(5000);
    let many: Vec<String> = (0..2000).map(|number| format!("k{number}")).collect();
    let mut pairs =
        vec![("a", "1"), ("a", "2"), ("", "x"), ("b", long.as_str()), ("c", "\u{1b}[2J")];
    pairs.push((&long[..300], "x"));
    pairs.extend(many.iter().map(|key| (key.as_str(), "v")));
    let mut memory = made(published(&payload(&pairs), 7));
    let ContextReading::Context { attributes, .. } = read(&mut memory, START, None) else {
        panic!()
    };
    assert_eq!(attributes.len(), 128);
    assert_eq!(attributes[..2], [text("a", "1"), text("k0", "v")]);
    let bytes = field(7, b"\0\0");
    let map = field(6, &field(1, &pair("k", "v")));
    for value in [&bytes, &map, &field(5, &field(1, &map))] {
        let attribute = [field(1, b"key"), field(2, value)].concat();
        let payload = field(1, &field(1, &attribute));
        let mut memory = made(published(&payload, 7));
        let ContextReading::Context { attributes, .. } = read(&mut memory, START, None) else {
            panic!()
        };
        assert_eq!(attributes, []);
    }
}

/// Scenario: what a process says of itself meets what the kernel says.
/// Guarantees: the service's name is the process's, unless it is unknown or given by the
/// configuration; which process and host it is stays; nothing of ours can be made up.
#[test]
fn the_kernel_is_not_overruled() {
    let mut base = Resource::default();
    base.set(SERVICE_NAME, "node");
    base.set(PROCESS_PID, 7);
    base.set(HOST_NAME, "here");
    let said = [
        text(SERVICE_NAME, "shop"),
        text(PROCESS_PID, "8"),
        text(HOST_NAME, "there"),
        text("container.id", "x"),
        text("profpipe.environment.id", "x"),
        text("service.version", "1"),
    ];
    let mut resource = base.clone();
    apply(&said, false, &mut resource);
    let all: Vec<_> =
        resource.attributes.iter().map(|one| (&*one.key, one.value.clone())).collect();
    let expected = [
        (SERVICE_NAME, Value::from("shop")),
        (PROCESS_PID, Value::Int(7)),
        (HOST_NAME, Value::from("here")),
        ("service.version", Value::from("1")),
    ];
    assert_eq!(all, expected);
    for name in ["", " ", "unknown_service", "unknown_service:node"] {
        let mut resource = base.clone();
        apply(&[text(SERVICE_NAME, name)], false, &mut resource);
        assert_eq!(resource, base);
    }
    let mut resource = base.clone();
    apply(&[text(SERVICE_NAME, "shop")], true, &mut resource);
    assert_eq!(resource, base);
}

/// Scenario: maps files with the three names the specification has, others like them, mappings that
/// are too short, and many.
/// Guarantees: those are found, in bounds.
#[test]
fn mappings_are_found_by_name() {
    let maps = "\
7f0000000000-7f0000001000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX]
7f0000001000-7f0000001020 rw-p 00000000 00:01 5                          [anon_shmem:OTEL_CTX]
7f0000002000-7f0000003000 rw-p 00000000 00:01 99                         /memfd:OTEL_CTX (deleted)
7f0000003000-7f000000301f rw-p 00000000 00:01 99                         /memfd:OTEL_CTX
7f0000004000-7f0000005000 rw-p 00000000 00:01 99                         /tmp/memfd:OTEL_CTX
7f0000005000-7f0000006000 rw-p 00000000 00:00 0                          [anon:OTEL_CT]
7f0000006000-7f0000005000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX]
x [anon:OTEL_CTX]
";
    assert_eq!(candidates(maps), [0x7f00_0000_0000, 0x7f00_0000_1000, 0x7f00_0000_2000]);
    let line = "1000-2000 rw-p 00000000 00:00 0 [anon:OTEL_CTX]\n";
    assert_eq!(candidates(&line.repeat(1000)).len(), 8);
}

proptest! {
    /// Scenario: any header, any memory behind it, any change of a byte between readings.
    /// Guarantees: reading ends without a panic.
    #[test]
    fn any_memory_is_survived(
        length in 0_u32..200,
        offset in 0_u64..100,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        (at, to) in (0_usize..200, any::<u8>()),
    ) {
        let mut all = header(2, length, 7, START + offset);
        all.append(&mut bytes);
        let happens = |_: usize, bytes: &mut Vec<u8>| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= to;
            }
        };
        let mut memory = Made { start: START, bytes: all, reads: 0, happens };
        let _ = read(&mut memory, START, None);
        prop_assert!(memory.reads <= 9);
    }
}

/// A program that publishes a context as its argument says, spins, and changes it after a while.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
struct header { char signature[8]; uint32_t version, size; volatile uint64_t published; char *payload; };
static char *add(char *to, int tag, const char *from, size_t length) {
    *to++ = tag << 3 | 2;
    *to++ = length;
    memcpy(to, from, length);
    return to + length;
}
static size_t name(char *payload, const char *name) {
    char value[128], pair[256], resource[512];
    char *end = add(value, 1, name, strlen(name));
    char *tail = add(pair, 1, "service.name", 12);
    tail = add(tail, 2, value, end - value);
    char *all = add(resource, 1, pair, tail - pair);
    return add(payload, 1, resource, all - resource) - payload;
}
static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}
/* Memory that nobody ever fills: who reads it waits. */
static char *bottomless(void) {
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {{(uintptr_t)page, 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};
    if (fd >= 0 && !ioctl(fd, UFFDIO_API, &api)) ioctl(fd, UFFDIO_REGISTER, &range);
    return page;
}
int main(int argc, char **argv) {
    struct header *header;
    if (argv[1][0] == 'm') {
        int fd = memfd_create("OTEL_CTX", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, sizeof *header)) return 1;
        header = mmap(0, sizeof *header, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        close(fd);
    } else {
        header = mmap(0, sizeof *header, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (header == MAP_FAILED || madvise(header, sizeof *header, MADV_DONTFORK)) return 1;
    char *payload = malloc(1024);
    header->version = 2;
    header->payload = argv[1][0] == 'w' ? (char *)8 : payload;
    header->size = name(payload, "from-the-sdk");
    if (argv[1][0] == 'b') header->payload = bottomless();
    memcpy(header->signature, "OTEL_CTX", 8);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    header->published = now();
    prctl(0x53564d41, 0, header, sizeof *header, "OTEL_CTX");
    uint64_t begin = now();
    int changed = 0;
    for (volatile uint64_t work = 0;; work++) {
        if (work % 1000000 == 0 && !changed && now() - begin > 3000000000ull) {
            changed = 1;
            header->published = 0;
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            char *other = malloc(1024);
            header->size = name(other, "renamed");
            if (header->payload == payload) header->payload = other;
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            header->published = now();
        }
    }
}
"#;

/// A child that is killed when the test ends.
struct Publisher(Child);

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names that the service of a program has, one window after the other, until one is `last` or
/// so many windows are over; nothing where perf events are not permitted.
async fn names(
    program: &std::path::Path,
    how: &str,
    config: Config,
    (last, most): (&str, usize),
) -> Option<Vec<String>> {
    let child = Command::new(program).arg(how).stdout(Stdio::null()).spawn().unwrap();
    let child = Publisher(child);
    let pid = child.0.id();
    let interval = settings::Duration::from_millis(500);
    let config = Config { scope: Scope::Pid(pid), interval, ..config };
    let receiver = match config.build(&Setup::new("perf", Services::default())) {
        Ok(receiver) => receiver,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let (_stopper, life) = Lifecycle::new();
    let (sender, mut batches) = Sender::detached(64);
    let running = tokio::spawn(receiver.run(sender, life));
    let mut names = Vec::new();
    let collect = async {
        while names.len() < most {
            let mut batch = batches.recv().await.expect("the receiver goes on");
            for resource in &batch.profiles().unwrap().resources {
                let name = resource.resource.get(SERVICE_NAME).and_then(Value::as_str);
                names.push(name.unwrap().to_owned());
            }
            if names.last().is_some_and(|name| name == last) {
                break;
            }
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, collect).await.expect("samples come");
    drop(child);
    running.abort();
    Some(names)
}

/// Scenario: programs that publish a context in each of the ways there are and change it later, one
/// whose payload is nowhere, one whose payload never comes, and one that is not asked.
/// Guarantees: their profiles have the name that they publish, then the new one; the others have the
/// one of the rule.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_have_the_name_that_the_program_publishes() {
    let directory = TempDir::new().unwrap();
    let (source, program) = (directory.path().join("p.c"), directory.path().join("publisher"));
    std::fs::write(&source, PROGRAM).unwrap();
    match Command::new("cc").args(["-O1", "-o"]).args([&program, &source]).status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            eprintln!("skipped: no C compiler: {error}");
            return;
        }
    }
    let Some(found) = names(&program, "memfd", Config::default(), ("renamed", 20)).await else {
        return;
    };
    assert!(found.iter().any(|name| name == "from-the-sdk"), "{found:?}");
    assert_eq!(found.last().unwrap(), "renamed");
    // Not every kernel can name anonymous memory.
    let found = names(&program, "anonymous", Config::default(), ("renamed", 20)).await.unwrap();
    let named = found.iter().all(|name| name != "publisher");
    assert!(named || found.iter().all(|name| name == "publisher"), "{found:?}");
    let found = names(&program, "wrong", Config::default(), ("", 4)).await.unwrap();
    assert!(found.iter().all(|name| name == "publisher"), "{found:?}");
    // The receiver goes on while the thread that reads waits.
    let found = names(&program, "bottomless", Config::default(), ("", 8)).await.unwrap();
    assert!(found.iter().all(|name| name == "publisher"), "{found:?}");
    let silent = Config { process_context: false, ..Config::default() };
    let found = names(&program, "memfd", silent, ("", 4)).await.unwrap();
    assert!(found.iter().all(|name| name == "publisher"), "{found:?}");
}
