//! Files that are made to hurt, or just broken.

use std::process::Command;

use object::{Object as _, ObjectSection as _};
use profpipe_engine::settings::ByteSize;
use profpipe_engine::telemetry::names;

use super::super::worker::binary;
use super::support::*;

/// A stream of numbers that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// Scenario: a program truncated anywhere, with bits flipped anywhere, with headers overwritten,
/// and noise. Guarantees: every batch goes on, and a whole program has its names afterwards.
#[test]
fn broken_files_hurt_nobody() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let (start, size) = functions["outer"];
    let addresses: Vec<u64> = (start..start + size).step_by(5).collect();
    let whole = std::fs::read(&program).unwrap();
    let mut dice = Dice(1);
    let mut bench = Bench::new();
    for round in 0..240 {
        let mut bytes = whole.clone();
        match round % 4 {
            0 => bytes.truncate(dice.roll(whole.len())),
            1 => (0..64).for_each(|_| bytes[dice.roll(whole.len())] ^= 1 << dice.roll(8)),
            2 => {
                // Headers, where numbers mean sizes.
                let table = whole.len() - 40 * 64;
                for _ in 0..8 {
                    let at =
                        if dice.roll(2) == 0 { dice.roll(1024) } else { table + dice.roll(2500) };
                    bytes[at] = [0, 0xff, 0x7f, 0x80][dice.roll(4)];
                }
            }
            _ => bytes.iter_mut().skip(64).for_each(|byte| *byte = dice.roll(256) as u8),
        }
        let file = files.write(&format!("broken{round}"), bytes);
        bench.names(&file, &addresses);
    }
    let names = bench.names(&program, &[start]);
    assert_eq!(names[&start].functions().last(), Some(&"outer"));
}

/// Scenario: functions inlined into each other 300 deep. Guarantees: the limit of frames holds,
/// innermost first.
#[test]
fn deep_inlining_is_cut() {
    let files = Files::new();
    let mut source = String::from("volatile long x;\n");
    let inline = "static inline __attribute__((always_inline))";
    source += &format!("{inline} void f0(void) {{ x = x * x + 1; }}\n");
    for depth in 1..300 {
        source += &format!("{inline} void f{depth}(void) {{ f{}(); }}\n", depth - 1);
    }
    source += "int main(void) { f299(); return 0; }\n";
    let source = files.write("deep.c", source);
    let program = files.path("deep");
    run(Command::new("cc").args(["-O2", "-g", "-o"]).args([&program, &source])).unwrap();
    let Some(functions) = functions(&program) else { return };
    let (start, size) = functions["main"];
    let addresses: Vec<u64> = (start..start + size).collect();
    let names = Bench::new().names(&program, &addresses);
    let deepest = names.values().max_by_key(|named| named.frames.len()).unwrap();
    assert_eq!(deepest.frames.len(), 256);
    assert_eq!(deepest.functions()[0], "f0");
}

/// Scenario: a small file whose sections inflate to more than the worker may use, and one that
/// promises petabytes. Guarantees: names from the symbol table, without the worker dying.
#[test]
fn compressed_bombs_are_not_inflated() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(functions) = functions(&program) else { return };
    let start = functions["outer"].0;
    let zeros = files.write("zeros", vec![0; 300 << 20]);
    let bomb = files.path("bomb");
    let section = format!(".debug_info={}", zeros.display());
    let plain = files.path("plain");
    let mut command = Command::new("objcopy");
    command.args(["--update-section", &section]).args([&program, &plain]);
    let Some(_) = run(&mut command) else { return };
    let mut command = Command::new("objcopy");
    run(command.arg("--compress-debug-sections=zlib").args([&plain, &bomb])).unwrap();
    assert!(std::fs::metadata(&bomb).unwrap().len() < 4 << 20);

    let packed = files.path("packed");
    let mut command = Command::new("objcopy");
    run(command.arg("--compress-debug-sections=zlib").args([&program, &packed])).unwrap();
    let mut bytes = std::fs::read(&packed).unwrap();
    let offset = {
        let elf = object::File::parse(&*bytes).unwrap();
        elf.section_by_name(".debug_info").unwrap().file_range().unwrap().0 as usize
    };
    bytes[offset + 8..offset + 16].copy_from_slice(&(1_u64 << 52).to_le_bytes());
    let promise = files.write("promise", bytes);

    let mut bench = Bench::with(|config| config.worker_memory = ByteSize::mib(64));
    for file in [bomb, promise] {
        let names = bench.names(&file, &[start]);
        assert_eq!(names[&start].functions(), ["outer"]);
    }
    assert_eq!(bench.services.metrics.total(names::WORKER_RESTARTS), 0);
}

/// Scenario: a sparse file larger than the worker's address space. Guarantees: it is refused by
/// limit, without the worker dying.
#[test]
fn files_beyond_the_address_space_are_refused() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let huge = files.path("huge");
    std::fs::copy(&program, &huge).unwrap();
    let file = std::fs::File::options().write(true).open(&huge).unwrap();
    file.set_len(4 << 30).unwrap();
    let mut bench = Bench::new();
    let names = bench.names(&huge, &[0x1000]);
    assert_eq!(names[&0x1000].attributes["profpipe.unsymbolized.reason"], "refused: limit");
    assert_eq!(bench.services.metrics.total(names::WORKER_RESTARTS), 0);
}

proptest::proptest! {
    /// Scenario: any bytes after an ELF header's first. Guarantees: no panic.
    #[test]
    fn any_header_is_survived(
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        class in 1_u8..3,
        order in 1_u8..3,
    ) {
        let mut image = vec![0x7f, b'E', b'L', b'F', class, order, 1];
        image.extend(tail);
        binary::try_image(image);
    }
}
