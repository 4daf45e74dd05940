//! Code that is in no file: the kernel, the vdso, what compilers write as the program runs.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use object::{Object as _, ObjectSymbol as _};
use profpipe_engine::batch::Origin;
use profpipe_engine::modules::{Content, JIT, KERNEL, Module, ModuleId, VDSO};

use super::super::kernel::Symbols;
use super::super::worker::perf_map::Table;
use super::support::*;

fn publish(bench: &Bench, id: ModuleId, path: &str, content: Content) {
    let module = Module { path: path.into(), pid: std::process::id(), content };
    bench.services.modules.publish(id, Arc::new(module));
}

/// Scenario: a list of the kernel's symbols with a module, data and addresses hidden. Guarantees:
/// a symbol ends where the next begins, of whatever kind; only code has a name.
#[test]
fn kernel_symbols_end_at_the_next() {
    let text = "ffff10 T first\nffff20 t second\nffff20 T alias\nffff30 D data\nffff40 t ext4_read\t[ext4]\n";
    let symbols = Symbols::read(text.as_bytes(), &mut || ()).unwrap();
    let name = |address| symbols.find(address).map(|symbol| (symbol.name, symbol.module));
    assert_eq!(name(0xffff0f), None);
    assert_eq!(name(0xffff1f), Some(("first", "")));
    assert_eq!(name(0xffff20), Some(("second", "")));
    assert_eq!(name(0xffff30), None);
    assert_eq!(name(0xffff4f), Some(("ext4_read", "[ext4]")));
    assert_eq!(name(0xffff40 + (64 << 20)), None);
    assert_eq!(
        Symbols::read(&b"0 T first\n0 t second\n"[..], &mut || ()).unwrap().find(u64::MAX),
        None
    );
}

/// Scenario: an address in the running kernel. Guarantees: the name that the kernel lists, or the
/// reason why it lists none.
#[test]
fn the_running_kernel_is_named() {
    let list = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let Some(line) = list.lines().find(|line| line.ends_with(" T vfs_read")) else {
        eprintln!("skipped: no symbols of the kernel");
        return;
    };
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let mut bench = Bench::new();
    publish(&bench, ModuleId::Kernel, KERNEL, Content::Kernel);
    let names = bench.symbolize(batch_by(KERNEL, &[], &[address + 4]));
    let named = &names[KERNEL][&(address + 4)];
    if address == 0 {
        assert_eq!(named.attributes["profpipe.unsymbolized.reason"], "refused: kptr_restrict");
    } else {
        assert_eq!(named.functions(), ["vfs_read"]);
    }
}

/// Scenario: kernel frames in a batch that was not taken on this host, whatever its receiver is called;
/// the same of a receiver that an embedding program made, taken here.
/// Guarantees: this host's kernel does not name the first, and names the second.
#[test]
fn the_kernel_of_another_host_is_not_ours() {
    let mut bench = Bench::new();
    publish(&bench, ModuleId::Kernel, KERNEL, Content::Kernel);
    let mut from = |receiver: &str, origin| {
        let mut batch = batch_by(KERNEL, &[], &[0xffff_ffff_8123_4567]);
        batch.context.receiver = receiver.into();
        batch.context.origin = origin;
        let names = bench.symbolize(batch);
        let named = names[KERNEL].values().next().unwrap();
        named.attributes.get("profpipe.unsymbolized.reason").cloned().unwrap_or_default()
    };
    for receiver in ["otlp/edge", "perf"] {
        assert_eq!(from(receiver, Origin::Elsewhere), "no build id");
    }
    // This kernel's symbols are asked: it has the address, or they are kept from us.
    assert_ne!(from("my_sampler", Origin::ThisHost), "no build id");
}

/// Scenario: the vdso, as bytes. Guarantees: its functions are named.
#[test]
fn the_vdso_is_named() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else {
        eprintln!("skipped: no vdso");
        return;
    };
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let number = |hex| u64::from_str_radix(hex, 16).unwrap();
    let mut image = vec![0; (number(end) - number(start)) as usize];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut image, number(start)).unwrap();
    let address = {
        let elf = object::File::parse(&*image).unwrap();
        let symbol = elf.dynamic_symbols().find(|symbol| {
            symbol.name().is_ok_and(|name| name.contains("clock_gettime")) && symbol.size() > 4
        });
        symbol.unwrap().address() + 1
    };
    let mut bench = Bench::new();
    publish(&bench, ModuleId::Vdso, VDSO, Content::Image(image.into()));
    let names = bench.symbolize(batch_by(VDSO, &[], &[address]));
    let name = names[VDSO][&address].functions()[0].to_owned();
    assert!(name.contains("clock_gettime"), "{name}");
}

/// Scenario: a JIT map that grows, with memory used again and a half-written line. Guarantees:
/// the last line wins for what it covers; new lines count in the next batch, although answers of
/// the old ones were given.
#[test]
fn jit_maps_are_read_as_they_grow() {
    let files = Files::new();
    let path = files.write(
        "perf-1.map",
        "1000 100 JS:*fib /app/fib.js:12:5\n2000 10 py::work:/app/work.py\n3000 10 plain with spaces\n40",
    );
    let mut bench = Bench::new();
    let id = ModuleId::Jit(77);
    publish(&bench, id, "perf-1.map", Content::PerfMap(Arc::new(File::open(&path).unwrap())));
    let batch = || batch_by_pid(JIT, 77, &[0x1000, 0x1050, 0x10ff, 0x1100, 0x2001, 0x3001, 0x4001]);
    let names = bench.symbolize(batch());
    let at = |names: &Names, address: u64| names[JIT][&address].clone();
    let fib = at(&names, 0x1050);
    assert_eq!(fib.frames, [("JS:*fib /app/fib.js:12:5".into(), "/app/fib.js".into(), 0)]);
    assert_eq!(fib.attributes["profile.frame.type"], "v8js");
    assert_eq!(at(&names, 0x10ff).functions(), fib.functions());
    assert!(at(&names, 0x1100).frames.is_empty());
    assert_eq!(at(&names, 0x2001).attributes["profile.frame.type"], "cpython");
    assert_eq!(at(&names, 0x3001).functions(), ["plain with spaces"]);
    assert!(at(&names, 0x4001).frames.is_empty());

    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"00 10 late\n1040 20 JS:~fob /app/fob.js:1:1\n").unwrap();
    let names = bench.symbolize(batch());
    assert_eq!(at(&names, 0x4001).functions(), ["late"]);
    assert_eq!(at(&names, 0x1050).functions(), ["JS:~fob /app/fob.js:1:1"]);
    assert_eq!(at(&names, 0x1000).functions(), fib.functions());
    assert_eq!(at(&names, 0x10ff).functions(), fib.functions());
}

proptest::proptest! {
    /// Scenario: any lines. Guarantees: each address has the name of the last line that covers it.
    #[test]
    fn the_last_line_wins(lines in proptest::collection::vec((0_u64..64, 0_u64..16), 0..40)) {
        let mut table = Table::default();
        let mut truth = vec![None; 128];
        for (at, (start, size)) in lines.iter().enumerate() {
            let name = format!("f{at}");
            table.add_line(format!("{start:x} {size:x} {name}").as_bytes());
            for address in *start..start + (*size).max(1) {
                truth[address as usize] = Some(name.clone());
            }
        }
        for (address, name) in truth.iter().enumerate() {
            let found = table.find(address as u64);
            proptest::prop_assert_eq!(found, name.as_deref().map(str::as_bytes));
        }
    }

    /// Scenario: any bytes as a line. Guarantees: no panic.
    #[test]
    fn any_line_is_survived(line in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
        Table::default().add_line(&line);
    }
}
