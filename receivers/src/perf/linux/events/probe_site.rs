//! Where a function can be probed: a file, an offset in it, and what a hit costs.
//!
//! The kernel puts a breakpoint at an instruction. Some instructions it emulates, which takes about half a
//! microsecond a hit; all others it lets the processor step over, which takes twenty. So the first block
//! of a function is decoded, and the first instruction of it that is emulated is chosen. A block that the
//! function jumps back to would be counted more than once for a call: then the next is taken, as in Go,
//! where functions begin again after their stack has grown. Only what was decoded from where the symbol
//! table of that very file has a function begin is ever probed: a breakpoint in the middle of an
//! instruction would make another program of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use object::read::ReadCache;
use object::{
    Architecture, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    SymbolKind,
};

use super::target::Target;
use super::{go_functions, usdt};

/// The most bytes of a function that are decoded.
const MAX_FUNCTION: u64 = 1 << 20;
/// The most symbols that are looked at.
const MAX_SYMBOLS: usize = 4_000_000;
/// The most places of one name, as of templates.
const MAX_PLACES: usize = 16;
/// The most processes and files that a probe is looked for in.
const MAX_PROCESSES: usize = 64;
const MAX_FILES: usize = 256;
/// The largest notes and tables that are read.
const MAX_NOTES: u64 = 16 << 20;
const MAX_TABLE: u64 = 256 << 20;
/// What a probe that a program was written with is, while nobody listens.
const NOP: u8 = 0x90;
/// Where the description of a Go program (`.go.module`) has the address of its code.
const MODULE_TEXT: u64 = 176;
/// The most relocations that are looked at.
const MAX_RELOCATIONS: usize = 1 << 20;
/// Where libraries are.
const LIBRARIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib",
];

/// A place that can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeSite {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// Where the file has the number of those who listen; 0 if it has none.
    pub(crate) semaphore: u32,
    /// The kernel emulates the instruction there.
    pub(crate) is_cheap: bool,
}

/// A probe that a program was written with is shown by this name; none if it is not the name of one.
pub(crate) fn point(name: &str) -> Option<String> {
    let (_, rest) = name.split_once(':')?;
    usdt::split(rest).map(|(provider, name)| format!("[{provider}:{name}]"))
}

/// Finds a function `MODULE:FUNCTION`: the path, the library or the executable that it is in, and its name
/// as the symbol table has it or as people write it. Or a probe that a program was written with:
/// `MODULE:PROVIDER:NAME`, or `usdt:PROVIDER:NAME` in any file that the processes map.
pub(crate) fn find(name: &str, target: &Target) -> Result<Vec<ProbeSite>, String> {
    let Some((module, function)) = name.split_once(':') else {
        return Err(format!(
            "`{name}` is not a function; write it as ./app:parse or libz.so.1:inflate, or a probe as \
             ./app:provider:name"
        ));
    };
    if module == "usdt" {
        return mapped_probes(function, target);
    }
    let path = module_path(module, target).ok_or_else(|| {
        format!("there is no `{module}`: give its path, or the name of a library")
    })?;
    sites(&path, function).map_err(|why| format!("{}: {why}", path.display()))
}

/// The places of a probe in all files that the processes map.
fn mapped_probes(name: &str, target: &Target) -> Result<Vec<ProbeSite>, String> {
    if usdt::split(name).is_none() {
        return Err(format!("`usdt:{name}` is not a probe; write it as usdt:provider:name"));
    }
    let mut paths: Vec<PathBuf> = match target {
        Target::Host => {
            return Err(format!(
                "`usdt:{name}` is looked for in chosen processes only; name the file: ./app:{name}"
            ));
        }
        target => target.processes().into_iter().take(MAX_PROCESSES).flat_map(mapped).collect(),
    };
    paths.sort_unstable();
    paths.dedup();
    paths.truncate(MAX_FILES);
    let found = paths.iter().filter_map(|path| sites(path, name).ok());
    let mut found: Vec<_> = found.flatten().collect();
    found.truncate(MAX_PLACES);
    if found.is_empty() {
        return Err(format!(
            "no file that the processes map now has a probe `{name}`; of a program that is not running \
             yet name the file: ./app:{name}"
        ));
    }
    Ok(found)
}

/// The files whose code a process maps.
fn mapped(pid: u32) -> Vec<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let code = maps.lines().filter(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|permissions| permissions.as_bytes().get(2) == Some(&b'x'))
    });
    code.filter_map(|line| Some(PathBuf::from(line.get(line.find('/')?..)?))).collect()
}

fn module_path(module: &str, target: &Target) -> Option<PathBuf> {
    if module.contains('/') {
        return fs::canonicalize(module).ok();
    }
    let is_it = |path: &Path| path.file_name().is_some_and(|name| name == module);
    let found_in = |pid: u32| mapped(pid).into_iter().find(|path| is_it(path));
    let of_processes = match target {
        Target::Host | Target::Cgroup(_) => None,
        target => target.processes().into_iter().find_map(found_in),
    };
    of_processes.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path).chain(LIBRARIES.map(PathBuf::from));
        let mut found = directories.map(|directory| directory.join(module));
        found.find(|path| path.is_file()).and_then(|path| fs::canonicalize(path).ok())
    })
}

fn sites(path: &Path, function: &str) -> Result<Vec<ProbeSite>, String> {
    let file = File::open(path).map_err(|error| format!("cannot open it: {error}"))?;
    let cache = ReadCache::new(file);
    let binary = object::File::parse(&cache).map_err(|error| format!("cannot read it: {error}"))?;
    if binary.architecture() != Architecture::X86_64 {
        return Err("only functions of x86-64 can be probed".into());
    }
    if let Some((provider, name)) = usdt::split(function) {
        return probes(path, &binary, provider, name);
    }
    let symbols = binary.symbols().chain(binary.dynamic_symbols()).take(MAX_SYMBOLS);
    let mut places: Vec<(u64, u64)> = symbols
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter(|symbol| symbol.name().is_ok_and(|raw| is_called(raw, function)))
        .map(|symbol| (symbol.address(), symbol.size()))
        .collect();
    if places.is_empty() {
        places = go_places(&binary, function);
    }
    places.sort_unstable();
    places.dedup_by_key(|(address, _)| *address);
    if places.is_empty() {
        return Err(format!(
            "its symbols have no function `{function}`, or none that is not inlined"
        ));
    }
    let mut sites = Vec::new();
    for (start, size) in places.into_iter().take(MAX_PLACES) {
        let section = binary.sections().find(|section| {
            section.address() <= start && start - section.address() < section.size()
        });
        let bytes = section
            .and_then(|section| section.data_range(start, size.min(MAX_FUNCTION)).ok().flatten());
        let Some(bytes) = bytes else { continue };
        let Some((address, is_cheap)) = place(bytes, start) else { continue };
        if let Some(offset) = file_offset(&binary, address) {
            sites.push(ProbeSite { file: path.to_owned(), offset, semaphore: 0, is_cheap });
        }
    }
    if sites.is_empty() { Err("it does not have the code".into()) } else { Ok(sites) }
}

/// Where the file has what is mapped at an address.
fn file_offset<'a>(binary: &impl object::Object<'a>, address: u64) -> Option<u64> {
    binary.segments().find_map(|segment| {
        let inside = address.checked_sub(segment.address())?;
        let (from, length) = segment.file_range();
        (inside < length).then(|| from.checked_add(inside)).flatten()
    })
}

/// The places of a probe that the program was written with.
fn probes<'a>(
    path: &Path,
    binary: &impl object::Object<'a>,
    provider: &str,
    name: &str,
) -> Result<Vec<ProbeSite>, String> {
    let section = |name| binary.section_by_name(name);
    let notes = section(".note.stapsdt").filter(|notes| notes.size() <= MAX_NOTES);
    let notes = notes.and_then(|notes| notes.data().ok()).unwrap_or_default();
    let base = section(".stapsdt.base").map(|base| base.address());
    let found = usdt::find(notes, base, provider, name);
    if found.is_empty() {
        return Err(format!(
            "it has no probe `{provider}:{name}`; `readelf -n` lists those it has"
        ));
    }
    let site = |probe: usdt::Probe| {
        let code = binary.sections().find(|section| {
            section.address() <= probe.address && probe.address - section.address() < section.size()
        })?;
        let bytes = code.data_range(probe.address, 1).ok().flatten()?;
        // Anything else there would be code of the program, of which it is not known where it begins.
        (bytes.first() == Some(&NOP)).then_some(())?;
        let semaphore = match probe.semaphore {
            None => 0,
            Some(address) => u32::try_from(file_offset(binary, address)?).ok()?,
        };
        let offset = file_offset(binary, probe.address)?;
        Some(ProbeSite { file: path.to_owned(), offset, semaphore, is_cheap: true })
    };
    let sites: Vec<_> = found.into_iter().filter_map(site).take(MAX_PLACES).collect();
    match sites.is_empty() {
        true => Err(format!("what it says of its probe `{provider}:{name}` is not so")),
        false => Ok(sites),
    }
}

/// The functions of a name in a Go program, which may have no symbols.
fn go_places<'a>(binary: &impl object::Object<'a>, function: &str) -> Vec<(u64, u64)> {
    let section = [".gopclntab", ".data.rel.ro.gopclntab"]
        .into_iter()
        .find_map(|name| binary.section_by_name(name));
    let table = section.filter(|table| table.size() <= MAX_TABLE);
    let Some(table) = table.and_then(|table| table.data().ok()) else { return Vec::new() };
    // Where it is not known for certain nothing is probed.
    let text = || {
        let place = binary.section_by_name(".go.module")?.address().checked_add(MODULE_TEXT)?;
        let module = binary.section_by_name(".go.module")?;
        let stated = module.data_range(place, 8).ok().flatten()?.first_chunk::<8>().copied();
        let stated = stated.map(u64::from_le_bytes).filter(|text| *text != 0);
        stated.or_else(|| {
            let mut all = binary.dynamic_relocations()?.take(MAX_RELOCATIONS);
            let (_, found) = all.find(|(address, _)| *address == place)?;
            u64::try_from(found.addend()).ok()
        })
    };
    go_functions::find(table, text(), function)
}

/// Whether a symbol is what people mean by a name.
fn is_called(raw: &str, wanted: &str) -> bool {
    if raw == wanted {
        return true;
    }
    let without_parameters = |name: &str| name.split('(').next().unwrap_or_default() == wanted;
    if let Ok(rust) = rustc_demangle::try_demangle(raw) {
        return format!("{rust:#}") == wanted;
    }
    if !raw.starts_with("_Z") || raw.len() > 4096 {
        return false;
    }
    let options = cpp_demangle::ParseOptions::default().recursion_limit(64);
    let symbol = cpp_demangle::Symbol::new_with_options(raw, &options);
    let name = symbol.ok().and_then(|symbol| symbol.demangle().ok());
    name.is_some_and(|name| name == wanted || without_parameters(&name))
}

/// The address in a function where each call passes once, and whether a hit there is cheap; none if there is
/// no instruction that the kernel probes.
fn place(bytes: &[u8], start: u64) -> Option<(u64, bool)> {
    let mut targets = std::collections::HashSet::new();
    let decoded = || Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).into_iter();
    for instruction in decoded() {
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
            // A call of itself is a call.
            if instruction.flow_control() != FlowControl::Call {
                targets.insert(instruction.near_branch_target());
            }
        }
    }
    let mut is_again = targets.contains(&start);
    let mut first = None;
    for instruction in decoded() {
        if instruction.is_invalid() {
            break;
        }
        if instruction.ip() != start && targets.contains(&instruction.ip()) {
            // Here others join who have not passed the block before.
            break;
        }
        if !is_again {
            if is_emulated(&instruction) {
                return Some((instruction.ip(), true));
            }
            // What locks the bus is not stepped over.
            if first.is_none() && !instruction.has_lock_prefix() {
                first = Some(instruction.ip());
            }
        }
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch if is_again => is_again = false,
            _ => break,
        }
    }
    first.map(|first| (first, false))
}

/// Whether the kernel emulates an instruction instead of stepping over it.
fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Push => instruction.op0_kind() == OpKind::Register && instruction.len() <= 2,
        Mnemonic::Nop => true,
        _ => {
            instruction.op_count() > 0
                && instruction.op0_kind() == OpKind::NearBranch64
                && matches!(
                    instruction.flow_control(),
                    FlowControl::Call
                        | FlowControl::UnconditionalBranch
                        | FlowControl::ConditionalBranch
                )
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: functions that begin with a push, with a landing pad, with something that is stepped over,
    /// with a loop back to their beginning as in Go, with nothing that is emulated.
    /// Guarantees: the first emulated instruction that each call passes once, or the beginning.
    #[test]
    fn chooses_the_place() {
        // push %rbp; mov %rsp,%rbp; ret
        assert_eq!(place(&[0x55, 0x48, 0x89, 0xe5, 0xc3], 0x1000), Some((0x1000, true)));
        // endbr64; push %rbp; ret
        assert_eq!(place(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3], 0x1000), Some((0x1004, true)));
        // sub $8,%rsp; mov %edi,%eax; ret
        assert_eq!(place(&[0x48, 0x83, 0xec, 8, 0x89, 0xf8, 0xc3], 0x1000), Some((0x1000, false)));
        // sub $8,%rsp; call
        let call = [0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0xc3];
        assert_eq!(place(&call, 0x1000), Some((0x1004, true)));
        // Go: cmp 0x10(%r14),%rsp; jbe 9; push %rbp; ret; at 9: call; jmp to the beginning
        let go = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x02, 0x55, 0xc3, 0xe8, 0, 0, 0, 0, 0xeb, 0xf1];
        assert_eq!(place(&go, 0x1000), Some((0x1006, true)));
        // lock incl (%rdi); mov; ret: the second can be probed
        assert_eq!(place(&[0xf0, 0xff, 0x07, 0x89, 0xf8, 0xc3], 0x1000), Some((0x1003, false)));
        assert_eq!(place(&[0xf0, 0xff, 0x07], 0x1000), None);
        // A loop to the second instruction: mov; push; jmp to the push
        let joined = [0x89, 0xf8, 0x50, 0xeb, 0xfd];
        assert_eq!(place(&joined, 0x1000), Some((0x1000, false)));
    }

    /// Scenario: names as symbol tables have them, and as people write them.
    /// Guarantees: each finds its symbol and no other.
    #[test]
    fn names_are_found_as_people_write_them() {
        let rust = "_RNvCs1234_7mycrate3foo";
        assert!(is_called(rust, "mycrate::foo") && !is_called(rust, "foo"));
        let cpp = "_ZN4shop8checkoutEi";
        assert!(is_called(cpp, "shop::checkout") && is_called(cpp, "shop::checkout(int)"));
        assert!(is_called(cpp, cpp) && !is_called(cpp, "checkout"));
        assert!(is_called("main.checkout", "main.checkout"));
    }

    /// Scenario: functions that there are not, in files that are there and are not.
    /// Guarantees: a line that says what to write.
    #[test]
    fn mistakes_are_said() {
        let error = |name| find(name, &Target::Host).unwrap_err();
        assert!(error("nothing").contains("write it as"));
        assert!(error("/no/such/file:main").contains("there is no `/no/such/file`"));
        assert!(error("/etc/passwd:main").contains("cannot read it"));
        let own = std::env::current_exe().unwrap();
        let name = format!("{}:no_such_function", own.display());
        assert!(error(&name).contains("no function `no_such_function`"));
    }
}
