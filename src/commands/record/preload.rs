//! The library that samples the heap of a command, where the loader finds it.
//!
//! It is part of this program, and is written into a directory of its own that nobody else may enter; the
//! socket at which programs hand over their samples is there, too. The loader takes it for the command and
//! for what that starts, before what the user preloads. What programs do with memory of their own is another
//! matter: Python gets its small objects from the allocator when it is told to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};
use profpipe_heap::layout::{INTERVAL_VARIABLE, SOCKET_VARIABLE};
use rustix::fs::StatVfsMountFlags;
use tempfile::TempDir;

/// The name of the library, which people see among the mappings of their programs.
const LIBRARY: &str = "libprofpipe_heap.so";
/// The name of the socket.
const SOCKET: &str = "socket";
/// The longest path of a directory whose socket has a path that is short enough.
const MAX_PATH: usize = 80;
/// The largest program that is looked at for an allocator.
const MAX_PROGRAM: u64 = 1 << 30;
/// How many interpreters a script may go through.
const MAX_INTERPRETERS: usize = 4;
/// Allocators that programs have inside, by functions of theirs.
const ALLOCATORS: [(&[u8], &str); 5] = [
    (b"_rjem_malloc", "jemalloc"),
    (b"je_malloc", "jemalloc"),
    (b"mi_malloc", "mimalloc"),
    (b"tc_malloc", "tcmalloc"),
    (b"malloc", "an allocator"),
];

/// Allocators in libraries that C++ does not reach through `malloc`.
const LIBRARIES: [&str; 3] = ["libjemalloc", "libtcmalloc", "libmimalloc"];

/// The library, ready to be loaded.
pub(super) struct Preload {
    directory: TempDir,
    interval: u64,
}

impl Preload {
    /// Writes the library where programs can be loaded from.
    pub(super) fn prepare(interval: u64) -> anyhow::Result<Self> {
        if profpipe_heap::LIBRARY.is_empty() {
            bail!("-e heap: there is no library for this kind of machine");
        }
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let usual = ["/tmp", "/dev/shm"].map(PathBuf::from);
        let places = [variable("XDG_RUNTIME_DIR"), variable("TMPDIR")];
        let mut why = String::new();
        for place in places.into_iter().flatten().chain(usual) {
            match Self::write(&place, interval) {
                Ok(preload) => return Ok(preload),
                Err(error) => why = format!("{}: {error:#}", place.display()),
            }
        }
        bail!("-e heap: the library cannot be written where programs may be loaded from ({why})")
    }

    fn write(place: &Path, interval: u64) -> anyhow::Result<Self> {
        let text = place.as_os_str().as_bytes();
        if !place.is_absolute()
            || text.len() > MAX_PATH
            || text.iter().any(|it| b": \t".contains(it))
        {
            bail!("not a path that the loader and a socket can have");
        }
        let mounted = rustix::fs::statvfs(place).context("cannot be looked at")?;
        if mounted.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            bail!("mounted noexec");
        }
        // Only its owner may enter it.
        let directory = tempfile::Builder::new().prefix("profpipe-heap-").tempdir_in(place)?;
        std::fs::write(directory.path().join(LIBRARY), profpipe_heap::LIBRARY)?;
        Ok(Self { directory, interval })
    }

    /// Where programs hand over their samples.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    /// What the command finds in its environment besides what is there.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut libraries = self.directory.path().join(LIBRARY).into_os_string();
        if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            libraries.push(":");
            libraries.push(others);
        }
        let mut environment = vec![
            ("LD_PRELOAD".into(), libraries),
            (SOCKET_VARIABLE.into(), self.socket().into()),
            (INTERVAL_VARIABLE.into(), self.interval.to_string().into()),
        ];
        if std::env::var_os("PYTHONMALLOC").is_none() {
            environment.push(("PYTHONMALLOC".into(), "malloc".into()));
        }
        environment
    }

    /// The recording has ended. Where programs go on, the library stays for those that they start.
    pub(super) fn end(self, goes_on: bool) {
        if goes_on {
            let _ = self.directory.keep();
        }
    }
}

/// What there is to say of a program whose heap is to be sampled.
pub(super) fn remarks(program: &OsStr) -> Vec<String> {
    let mut path = find(program);
    for _ in 0..MAX_INTERPRETERS {
        match path.as_deref().and_then(interpreter) {
            Some(interpreter) => path = Some(interpreter),
            None => break,
        }
    }
    path.as_deref().and_then(obstacle).into_iter().collect()
}

/// The file of a command.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(is_program)
}

/// The interpreter of a script.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = [0; 256];
    let read = File::open(path).ok()?.read(&mut start).ok()?;
    let line = start.get(..read)?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let first = Path::new(OsStr::from_bytes(words.next()?));
    match words.next() {
        Some(word) if first.ends_with("env") && !word.contains(&b'=') => {
            find(OsStr::from_bytes(word))
        }
        _ => Some(first.into()),
    }
}

/// Why the heap of a program will not be seen, or not all of it.
fn obstacle(path: &Path) -> Option<String> {
    let name = path.display();
    let metadata = path.metadata().ok()?;
    let is_of_other = metadata.uid() != rustix::process::geteuid().as_raw();
    let mut capabilities = [0_u8; 64];
    let has_capabilities =
        rustix::fs::getxattr(path, "security.capability", &mut capabilities).is_ok();
    if metadata.mode() & 0o4000 != 0 && is_of_other || has_capabilities {
        return Some(format!(
            "heap: {name} runs with rights of its own (set-user-ID, or capabilities): the loader ignores what \
             is to be preloaded, and its heap is not seen"
        ));
    }
    if metadata.len() > MAX_PROGRAM {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let Ok(elf) = ElfFile64::<Endianness>::parse(&*bytes) else {
        return bytes.starts_with(b"\x7fELF").then(|| {
            format!("heap: {name} is not a 64-bit program: no library for it, its heap is not seen")
        });
    };
    let endian = elf.endian();
    let is_dynamic = elf
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type(endian) == object::elf::PT_INTERP);
    if elf.section_by_name(".note.go.buildid").is_some() {
        // Go samples its heap itself, and that is read.
        return None;
    }
    if !is_dynamic {
        return Some(format!(
            "heap: {name} is statically linked: no library can be loaded into it, and its heap is not seen"
        ));
    }
    let symbols = || elf.dynamic_symbols().chain(elf.symbols());
    let defined = symbols().filter(|symbol| symbol.is_definition() && !symbol.is_undefined());
    let names: Vec<&[u8]> = defined.filter_map(|symbol| symbol.name_bytes().ok()).collect();
    let found = ALLOCATORS.iter().find(|(function, _)| names.contains(function));
    let needed = elf.section_by_name(".dynstr").and_then(|section| section.data().ok());
    let needs = |library: &&&str| {
        let mut windows = needed.unwrap_or_default().windows(library.len());
        windows.any(|window| window == library.as_bytes())
    };
    if let (None, Some(library)) = (found, LIBRARIES.iter().find(needs)) {
        return Some(format!(
            "heap: {name} uses {library}, which has an `operator new` of its own: what C++ allocates with it is \
             not seen, what comes from `malloc` is"
        ));
    }
    found.map(|(_, allocator)| {
        format!(
            "heap: {name} has {allocator} inside: what it allocates with that is not seen; its own heap \
             profiler is the way"
        )
    })
}
