//! What is offered to a gateway, when again, and what not; the gateway is a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use profpipe_engine::Services;
use profpipe_engine::batch::{Batch, Origin};
use profpipe_engine::component::{Outbox, Processor as _, Setup};
use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_engine::settings::ByteSize;
use profpipe_host::elf::Identity;
use profpipe_network::debuginfo::{ShouldInitiateUploadRequest, ShouldInitiateUploadResponse};
use profpipe_profile::attribute_names::BUILD_ID_GNU;
use profpipe_profile::{MappingRef, Profiles, StringIx, Value};
use prost::Message as _;

use super::{Config, SymbolUpload};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers each request by a function of its path and body; what it was asked comes out.
fn gateway(
    answer: impl Fn(&str, &[u8]) -> (u16, Vec<u8>) + Send + 'static,
) -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap_or_default() > 2 {
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                head.push_str(&std::mem::take(&mut line));
            }
            let mut body = vec![0; length];
            if head.is_empty() || stream.read_exact(&mut body).is_err() {
                continue;
            }
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let (status, content) = answer(&path, &body);
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/proto\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n",
                content.len()
            );
            stream.get_mut().write_all(&[answer.as_bytes(), &content].concat()).unwrap();
            if sender.send((path, body)).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

fn should_initiate(wanted: bool, again: u64) -> Vec<u8> {
    ShouldInitiateUploadResponse {
        should_initiate_upload: wanted,
        reason: "a reason".to_owned(),
        offer_again_after_seconds: again,
    }
    .encode_to_vec()
}

/// This program's own file, as a module that profiles refer to.
struct Bench {
    processor: SymbolUpload,
    services: Services,
    build_id: String,
}

impl Bench {
    fn new(address: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let services = Services::default();
        let mut config = Config { endpoint: format!("http://{address}"), ..Config::default() };
        config.debug_directories.clear();
        config.kernel = false;
        config.bytes_per_minute = ByteSize::mib(1 << 20);
        change(&mut config);
        let processor =
            SymbolUpload::new(config, &Setup::new("symbol_upload", services.clone())).unwrap();
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let build_id = Identity::read(&file).unwrap().build_id.unwrap();
        let module = Module {
            path: "/opt/app/program".into(),
            pid: std::process::id(),
            content: Content::Elf(Arc::new(file)),
        };
        services.modules.publish(ModuleId::Gnu(build_id.clone()), Arc::new(module));
        Self { processor, services, build_id }
    }

    /// A batch with this module, and one that nobody has seen, passes.
    fn pass(&mut self, origin: Origin) {
        let mut profiles = Profiles::new();
        let tables = &mut profiles.dictionary;
        let key = tables.strings.intern(BUILD_ID_GNU);
        for id in [self.build_id.clone(), "ab".repeat(20)] {
            let value = Value::from(id.as_str());
            let attributes = [tables.attributes.intern(key, value, StringIx::NONE)];
            let filename = tables.strings.intern("/opt/app/program");
            let mapping = MappingRef { filename, attributes: &attributes, ..MappingRef::default() };
            tables.mappings.intern(mapping);
        }
        let mut batch = Batch::new(profiles);
        batch.context.origin = origin;
        let mut out = Outbox::default();
        self.processor.process(batch, &mut out).unwrap();
        assert_eq!(out.drain().count(), 1);
    }
}

fn is_upload(path: &str) -> bool {
    path.contains("/Upload/")
}

/// Scenario: batches of this host and of another with a module; the gateway first says that another agent sends
/// it, then, as that one was lost, wants it.
/// Guarantees: nothing is offered for another host's batch; the module is offered once for many batches, offered again
/// when the gateway said, sent whole, and not offered any more.
#[test]
fn a_module_is_sent_once_it_is_wanted() {
    let offers = std::sync::atomic::AtomicU32::new(0);
    let (address, asked) = gateway(move |path, _| match path {
        path if path.ends_with("ShouldInitiateUpload") => {
            let first = offers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            (200, should_initiate(!first, u64::from(first)))
        }
        _ => (200, Vec::new()),
    });
    let mut bench = Bench::new(address, |_| {});
    bench.pass(Origin::Elsewhere);
    assert!(bench.processor.seen.is_empty());
    for _ in 0..10 {
        bench.pass(Origin::ThisHost);
    }
    for _ in 0..2 {
        let (path, body) = asked.recv_timeout(PATIENCE).unwrap();
        assert!(path.ends_with("ShouldInitiateUpload"), "{path}");
        let file = ShouldInitiateUploadRequest::decode(&*body).unwrap().file.unwrap();
        assert_eq!((file.gnu_build_id, file.kind), (bench.build_id.clone(), 1));
        assert_eq!(file.name, "program");
    }
    let (path, body) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(is_upload(&path) && path.ends_with(&bench.build_id), "{path}");
    assert_eq!(body.len() as u64, std::env::current_exe().unwrap().metadata().unwrap().len());
    let (path, _) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(path.ends_with("UploadFinished"), "{path}");
    bench.pass(Origin::ThisHost);
    let metrics = &bench.services.metrics;
    let sent = || metrics.labelled(super::FILES, "symbol_upload", &[("result", "sent")]).get();
    let deadline = std::time::Instant::now() + PATIENCE;
    while sent() != 1 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(bench.processor);
    assert!(asked.try_recv().is_err());
}

/// Scenario: modules that are too large, in a directory that is not meant, or rejected by the gateway.
/// Guarantees: the first two are never offered, the third once.
#[test]
fn what_is_not_meant_or_not_taken_is_left_alone() {
    let (address, asked) = gateway(|path, _| match path {
        path if path.ends_with("ShouldInitiateUpload") => (200, should_initiate(true, 0)),
        _ => (400, Vec::new()),
    });
    let mut rejected = Bench::new(address, |_| {});
    let mut large = Bench::new(address, |config| config.max_file_size = ByteSize(1000));
    let mut other = Bench::new(address, |config| config.paths = vec!["/opt/other".into()]);
    for bench in [&mut large, &mut other, &mut rejected] {
        for _ in 0..3 {
            bench.pass(Origin::ThisHost);
        }
    }
    assert!(asked.recv_timeout(PATIENCE).unwrap().0.ends_with("ShouldInitiateUpload"));
    assert!(is_upload(&asked.recv_timeout(PATIENCE).unwrap().0));
    let deadline = std::time::Instant::now() + PATIENCE;
    let count = |bench: &Bench, result| {
        let metrics = &bench.services.metrics;
        metrics.labelled(super::FILES, "symbol_upload", &[("result", result)]).get()
    };
    while count(&rejected, "rejected") + count(&large, "too large") < 2 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(asked.try_recv().is_err());
}

/// Scenario: the list of symbols of a kernel, with data, modules and several names for a place; a batch with frames
/// of the kernel from a host where it lies elsewhere.
/// Guarantees: a symbolizer that has the file by build id names the frames as the list has them, by where they are
/// from the beginning of the kernel; what is in a module, in data, or beyond has no name. A hidden list makes no
/// file.
#[test]
fn kernels_of_other_hosts_are_named() {
    use crate::symbolize::tests::support::{Bench as Symbolizer, build, read_names};
    use crate::symbolize::{BuildId, Symbols};

    let list = "0000000000000000 A per_cpu\n\
                ffffffff81000000 T _stext\nffffffff81000000 T _text\n\
                ffffffff81000100 t first\nffffffff81000180 T second\nffffffff81000180 t alias\n\
                ffffffff81000200 D data\nffffffff81000300 T third\n\
                ffffffff81000400 T _etext\nffffffffc0000000 t of_module\t[nf]\n";
    let symbols = Symbols::read(list.as_bytes(), &mut || ()).unwrap();
    let build_id = "0a".repeat(20);
    let id = BuildId::parse(&build_id).unwrap();
    let kernel = super::kernel::RunningKernel::of(id.clone(), &symbols).unwrap();
    let image = kernel.image(&symbols).unwrap();
    let found = profpipe_host::elf::inspect(&image[..]).unwrap().unwrap();
    assert_eq!(found.build_id.map(|id| profpipe_host::hex(&id)), Some(build_id.clone()));
    assert!(!found.has_code);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(".build-id/0a");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(format!("{}.debug", &build_id[2..])), image).unwrap();

    let elsewhere = 0xffff_ffff_9540_0000_u64;
    let addresses = [0x150, 0x180, 0x190, 0x250, 0x3ff].map(|offset| elsewhere + offset);
    let beyond = [elsewhere - 1, 0xffff_ffff_c000_0000];
    let all = [&addresses[..], &beyond].concat();
    let mut batch = build(&[(profpipe_engine::modules::KERNEL, Vec::new(), &all)]);
    let here = super::kernel::RunningKernel::of(id.clone(), &{
        let moved = list.replace("ffffffff81000", "ffffffff95400");
        Symbols::read(moved.as_bytes(), &mut || ()).unwrap()
    });
    here.unwrap().mark(batch.profiles_mut().unwrap());
    batch.context.origin = Origin::Elsewhere;
    let mut symbolizer = Symbolizer::with(|config| {
        config.debug_directories = vec![directory.path().to_owned()];
    });
    let named = read_names(&symbolizer.pass(batch));
    let names = &named[profpipe_engine::modules::KERNEL];
    let name = |at: u64| names[&at].functions().join(",");
    assert_eq!(addresses.map(name), ["first", "second", "second", "", "third"]);
    assert_eq!(beyond.map(name), ["", ""]);

    let hidden = "0000000000000000 T _text\n0000000000000000 T first\n";
    let hidden = Symbols::read(hidden.as_bytes(), &mut || ()).unwrap();
    assert!(super::kernel::RunningKernel::of(id, &hidden).is_none());
}
