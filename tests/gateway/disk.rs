//! A disk that is full, that becomes full and empty again, or that cannot be written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::http::Connection;
use crate::ledger::Ledger;
use crate::payload;
use crate::process::{Gateway, PATIENCE, configure, eventually, forwarding};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

/// A small file system of its own, if this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(home: &Path, megabytes: u32) -> Option<Self> {
        let path = home.join("disk");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "none"])
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        profpipe_testing::skip!("this user may not mount a file system")
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        // Refused as long as a write is going on.
        eventually(&options, || {
            let mut mount = Command::new("mount");
            let status = mount.args(["-o", &options]).arg(&self.0).stderr(Stdio::null()).status();
            status.unwrap().success().then_some(())
        });
    }

    /// Takes all the room that is left, or gives it back.
    fn fill(&self, full: bool) {
        let ballast = self.0.join("ballast");
        if !full {
            return std::fs::remove_file(ballast).unwrap();
        }
        let mut file = std::fs::File::create(ballast).unwrap();
        // Down to the last page: room is given in pages.
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What was killed may hold it for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The queue in `./disk/queue`, in small segments.
fn config(to: std::net::SocketAddr, more: &str) -> String {
    let storage = format!("{{directory: ./disk/queue, segment_bytes: 256KiB{more}}}");
    forwarding(to).replace("{directory: ./queue}", &storage)
}

/// One request, which is noted.
fn ask(gateway: &Gateway, ledger: &Ledger) -> u16 {
    let mut connection = Connection::open(gateway.address, PATIENCE).unwrap();
    let id = ledger.take();
    ledger.sent(id);
    let answer = connection.post(&payload::request(id), "").unwrap();
    match answer.status {
        200 => ledger.promised(id),
        _ => assert!(answer.head.get("retry-after").is_some(), "{answer:?}"),
    }
    answer.status
}

#[track_caller]
fn everything_arrives(ledger: &Ledger, sink: &Sink) {
    eventually("the backend to have everything", || {
        sink.check();
        (ledger.sums().missing == 0).then_some(())
    });
}

/// Scenario: the backend is down and the queue grows until it may not grow further; the gateway is
/// killed and started in that state; then the backend comes back.
/// Guarantees: senders are told to come again and when; everything acknowledged arrives; then there
/// is success again, without a restart.
#[test]
fn queue_fills_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(home.path(), 4) else { return };
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Refuse(503, None));
    // With the guard that keeps some room for others, and to the last byte.
    for more in ["", ", min_free_bytes: 1"] {
        configure(home.path(), &config(sink.address, more));
        sink.be(Mood::Refuse(503, None));
        let gateway = Gateway::start(home.path());
        let place = Place::at(gateway.address);
        let load = Load::start(4, 20_000, &place, &ledger);
        eventually("the queue to be full", || (load.answers.later() > 100).then_some(()));
        let answers = load.stop();
        assert!(answers.success() > 100, "{answers:?}");
        gateway.kill();
        let gateway = Gateway::start(home.path());
        let before = ledger.sums();
        sink.be(Mood::Take);
        everything_arrives(&ledger, &sink);
        eventually("success again", || (ask(&gateway, &ledger) == 200).then_some(()));
        everything_arrives(&ledger, &sink);
        eprintln!("{more:?}: {before:?}, then {:?}", ledger.sums());
        let (status, said) = gateway.stop();
        assert!(status.success(), "{said}");
    }
}

/// Scenario: under load, others fill the disk to the last byte and free it, again and again; in some
/// of these times the gateway is killed, and started on the full disk.
/// Guarantees: it starts; everything acknowledged arrives; there is success after every time.
#[test]
fn others_fill_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path(), 8) else { return };
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Anything);
    configure(home.path(), &config(sink.address, ", min_free_bytes: 1"));
    let mut gateway = Gateway::start(home.path());
    let place = Place::at(gateway.address);
    let load = Load::start(3, 200_000, &place, &ledger);
    for round in 0..8 {
        disk.fill(true);
        let later = load.answers.later();
        eventually("a sender that is told to wait", || {
            (load.answers.later() > later).then_some(())
        });
        if round % 3 == 2 {
            place.set(None);
            gateway.kill();
            gateway = Gateway::start(home.path());
            place.set(Some(gateway.address));
        }
        disk.fill(false);
        let success = load.answers.success();
        eventually("success again", || (load.answers.success() > success + 20).then_some(()));
    }
    let answers = load.stop();
    sink.be(Mood::Take);
    everything_arrives(&ledger, &sink);
    eprintln!("{answers:?}: {:?}", ledger.sums());
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
}

/// Scenario: a start on a disk that is read-only, with something in the queue and the backend down;
/// then the disk is writable, then the backend comes back.
/// Guarantees: senders are told to come again; then there is success, and everything acknowledged
/// arrives, what was in the queue from before too.
#[test]
fn disk_is_read_only() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path(), 8) else { return };
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Refuse(503, None));
    configure(home.path(), &config(sink.address, ""));
    let gateway = Gateway::start(home.path());
    for _ in 0..20 {
        assert_eq!(ask(&gateway, &ledger), 200);
    }
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    disk.remount("ro");
    let gateway = Gateway::start(home.path());
    assert_eq!(ask(&gateway, &ledger), 503);
    eventually("a line that says why", || gateway.said().contains("ead-only").then_some(()));
    disk.remount("rw");
    eventually("success", || (ask(&gateway, &ledger) == 200).then_some(()));
    sink.be(Mood::Take);
    everything_arrives(&ledger, &sink);
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    assert_eq!(ledger.sums().duplicates, 0);
}

/// Scenario: a file is uploaded that is larger than the disk, then one that fits.
/// Guarantees: the first is an error of one line; nothing of it is there; the second is taken; the gateway runs on.
#[test]
fn an_upload_fills_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(home.path(), 1) else { return };
    let pyroscope = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "extensions: {{symbol_storage: {{directory: '{}/disk/symbols'}}}}\n\
         receivers: {{otlp: {{protocols: {{http: }}}}, pyroscope: {{endpoint: '{pyroscope}', symbol_storage: symbol_storage}}}}\n\
         exporters: {{nop: }}\n\
         service: {{extensions: [symbol_storage], pipelines: {{profiles: {{receivers: [otlp, pyroscope], \
         exporters: [nop]}}}}}}\n",
        home.path().display()
    );
    configure(home.path(), &config);
    let gateway = Gateway::start(home.path());
    let upload = |path: &Path| {
        let mut upload = Command::new(env!("CARGO_BIN_EXE_profpipe"));
        upload.args(["symbols", "upload", "--to", &format!("http://{pyroscope}")]).arg(path);
        let output = upload.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = upload(Path::new(env!("CARGO_BIN_EXE_profpipe")));
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    let symbols = home.path().join("disk/symbols");
    let count = |part: &str| std::fs::read_dir(symbols.join(part)).unwrap().count();
    eventually("the file to be given up", || (count("pending") == 0).then_some(()));
    assert_eq!(count("files"), 0);
    let small = home.path().join("small");
    let source = home.path().join("small.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-Wl,--build-id=sha1", "-o"]).arg(&small).arg(&source);
    assert!(compiler.status().unwrap().success());
    let (code, said) = upload(&small);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((count("pending"), count("files")), (0, 1));
    let (status, said) = gateway.stop();
    assert!(status.success() && said.contains("No space left"), "{said}");
}
