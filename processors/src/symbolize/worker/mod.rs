//! The other process: it has no rights, gets open files, and says the names in them.
//!
//! One request at a time, answered in order. It ends when the processor closes the socket, and may
//! be killed at any moment. Whatever it reads may be hostile: a crash, an endless loop or all
//! memory used up ends this process and nothing else. Its stack is large, because readers of debug
//! information recurse.

mod arena;
pub(super) mod binary;
mod debugdata;
mod demangle;
pub(super) mod describe;
mod dwarf;
mod elf;
mod functions;
mod go_image;
mod gopclntab;
mod memory;
mod names;
pub(super) mod perf_map;
mod plt;
pub(super) mod sandbox;
mod split;
pub(super) mod sweep;
mod units;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::binary::LoadedBinary;
use self::memory::Memory;
use self::names::NamesWriter;
use self::perf_map::PerfMap;
use self::sweep::Slice;
use super::protocol::{
    Channel, Facts, Kind, Limits, MAX_ADDRESSES, MAX_SWEEP, Refusal, Request, Response,
};

/// The stack of the thread that reads binaries.
const STACK: usize = 64 << 20;
/// After this long the worker answers with what it has; the processor asks for the rest.
const SLICE: Duration = Duration::from_millis(500);
/// The same where it is held between two pieces of work, most of the time.
const PACED_SLICE: Duration = Duration::from_secs(10);
/// The same for all addresses of a range, in CPU time: somebody may wait for other names meanwhile, and
/// under a budget this takes a hundred times as long.
const SWEEP_SLICE: Duration = Duration::from_millis(20);
/// Beyond this much resident memory, modules are forgotten but for the last.
const SOFT_LIMIT_BYTES: u64 = 48 << 20;
/// Without a question for this long the worker rests: the questions of a window come at once.
const IDLE_TIMEOUT: Duration = Duration::from_millis(250);
/// And this long, if it forgot something less than `RECENT_DURATION` ago: where batches come all the time
/// it would read the same again and again.
const RECENT_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same where it is held between two pieces of work: what it forgets it has to read again, which
/// the budget has no room for. Memory is kept small after each answer, and it is ended when nothing is
/// asked for long.
const PACED_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// See there.
const RECENT_DURATION: Duration = Duration::from_secs(5);
/// Memory beside mapped files of a worker that rests. A C library of which a few functions were asked
/// for takes 9 MiB, most of it inflated sections; a dozen programs with little debug information or
/// none take less.
const REST_LIMIT: u64 = 8 << 20;
/// A module that was not asked for this long is forgotten by a worker that rests: its file may
/// have been deleted, and takes space on the disk as long as it is mapped.
const UNUSED: Duration = Duration::from_secs(120);
/// More modules than this are not kept loaded.
const MAX_MODULES: usize = 512;

/// Runs the worker: requests come over the socket that is its standard input. Returns when the
/// other end closes.
pub fn worker_main() -> ExitCode {
    let done = sandbox::standard_input().and_then(Channel::new).and_then(|channel| serve(&channel));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(channel: &Channel) -> io::Result<()> {
    let (Request::Start(limits), _) = channel.receive(None)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let memory = Memory::new();
    memory::tune();
    let mut missing = sandbox::enter_process(limits);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            missing.extend(sandbox::enter_thread());
            channel.send(&Response::Ready(missing), &[], None)?;
            let mut worker =
                Worker { limits, memory, modules: HashMap::new(), clock: 0, forgot_at: None };
            loop {
                if !channel.has_message(worker.idle()) {
                    worker.rest();
                }
                let (request, files) = channel.receive(None)?;
                sandbox::renew_cpu_time(limits.cpu_seconds);
                let response = worker.answer(request, files);
                channel.send(&response, &[], None)?;
                worker.tidy();
            }
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug")))
    })
}

/// The modules that are loaded. Those unused for longest make room for others.
struct Worker {
    limits: Limits,
    memory: Memory,
    modules: HashMap<u32, Loaded>,
    clock: u64,
    /// When it last forgot a module while it rested.
    forgot_at: Option<Instant>,
}

struct Loaded {
    content: Loadable,
    used: u64,
    /// When that was.
    at: Instant,
    /// About what was allocated while its names were read.
    bytes: u64,
}

enum Loadable {
    Binary(Box<LoadedBinary>),
    PerfMap(PerfMap),
}

impl Worker {
    fn answer(&mut self, request: Request, mut files: Vec<OwnedFd>) -> Response {
        self.clock += 1;
        match request {
            Request::Start(_) => Response::Unknown,
            Request::Open { module, content } => match self.open(module, content, files.pop()) {
                Ok(facts) => Response::Opened(facts),
                Err(refusal) => Response::Refused(refusal),
            },
            Request::Companion { module, role } => {
                let Some(file) = files.pop() else {
                    return Response::Refused(Refusal::Mismatch);
                };
                if let Err(refusal) = self.make_room(&file, Some(module)) {
                    return Response::Refused(refusal);
                }
                match self.modules.get_mut(&module).map(|loaded| &mut loaded.content) {
                    Some(Loadable::Binary(binary)) => match binary.add_companion(role, &file) {
                        Ok(()) => Response::Opened(binary.facts()),
                        Err(refusal) => Response::Refused(refusal),
                    },
                    _ => Response::Unknown,
                }
            }
            Request::Resolve { module, addresses, only_symbols } => {
                self.resolve(module, &addresses, only_symbols)
            }
            Request::Sweep { module, from, to } => self.sweep(module, from..to),
            Request::Describe => {
                let file = files.pop().filter(|file| self.make_room(file, None).is_ok());
                Response::Described(file.and_then(|file| describe::describe(&file)))
            }
        }
    }

    fn open(
        &mut self,
        module: u32,
        content: Kind,
        file: Option<OwnedFd>,
    ) -> Result<Facts, Refusal> {
        let mut facts = Facts::default();
        let content = match (content, file) {
            (Kind::Elf, Some(file)) => {
                self.make_room(&file, None)?;
                let mut binary = binary::open(&file)?;
                facts = binary.facts();
                Loadable::Binary(Box::new(binary))
            }
            (Kind::Image(image), None) => Loadable::Binary(Box::new(binary::open_image(image)?)),
            (Kind::PerfMap, Some(file)) => match self.modules.remove(&module) {
                Some(Loaded { content: Loadable::PerfMap(mut map), .. }) => {
                    map.replace_file(file);
                    Loadable::PerfMap(map)
                }
                _ => Loadable::PerfMap(PerfMap::new(file)),
            },
            _ => return Err(Refusal::Mismatch),
        };
        self.modules
            .insert(module, Loaded { content, used: self.clock, at: Instant::now(), bytes: 0 });
        Ok(facts)
    }

    fn resolve(&mut self, module: u32, addresses: &[u64], only_symbols: bool) -> Response {
        let before = self.private();
        let Some(loaded) = self.modules.get_mut(&module) else { return Response::Unknown };
        loaded.used = self.clock;
        loaded.at = Instant::now();
        let until = Instant::now() + if self.limits.is_paced { PACED_SLICE } else { SLICE };
        let mut names = NamesWriter::default();
        let addresses = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
        match &mut loaded.content {
            Loadable::Binary(binary) => {
                let asked = (addresses, only_symbols);
                binary.resolve(asked, &mut names, self.limits.memory, until);
            }
            Loadable::PerfMap(map) => {
                map.refresh();
                for address in addresses {
                    if let Some(function) = map.find(*address) {
                        names.frame(function, 0, 0);
                    }
                    if !names.finish_address(*address, &names::one(*address)) {
                        break;
                    }
                }
            }
        }
        let grown = self.private().saturating_sub(before);
        if let Some(loaded) = self.modules.get_mut(&module) {
            loaded.bytes += grown;
        }
        let mut names = names.finish();
        names.last = self.is_full(module);
        if let Some(Loadable::Binary(binary)) =
            self.modules.get_mut(&module).map(|it| &mut it.content)
        {
            names.wanted = binary.take_wanted();
        }
        Response::Resolved(names)
    }

    /// Names all addresses of a range, as many as there is time for.
    fn sweep(&mut self, module: u32, range: Range<u64>) -> Response {
        let before = self.private();
        let limit = self.limits.memory;
        let Some(loaded) = self.modules.get_mut(&module) else { return Response::Unknown };
        loaded.used = self.clock;
        loaded.at = Instant::now();
        let Loadable::Binary(binary) = &mut loaded.content else { return Response::Unknown };
        let end = range.end.min(range.start.saturating_add(MAX_SWEEP));
        let mut names = NamesWriter::default();
        binary.sweep(range.start..end, &mut names, limit, Slice::of(SWEEP_SLICE));
        let wanted = binary.take_wanted();
        let grown = self.private().saturating_sub(before);
        if self.private() > limit / 2 {
            if let Some(Loadable::Binary(binary)) =
                self.modules.get_mut(&module).map(|it| &mut it.content)
            {
                binary.forget_units();
            }
            memory::trim();
        } else if let Some(loaded) = self.modules.get_mut(&module) {
            loaded.bytes += grown;
        }
        let mut names = names.finish();
        names.last = self.is_full(module);
        names.wanted = wanted;
        Response::Resolved(names)
    }

    /// Forgets modules until a file can be mapped.
    fn make_room(&mut self, file: &OwnedFd, keep: Option<u32>) -> Result<(), Refusal> {
        let facts = rustix::fs::fstat(file).map_err(|_| Refusal::Limit)?;
        let size = u64::try_from(facts.st_size).unwrap_or_default();
        let space = self.limits.address_space;
        let space = space.saturating_sub(self.limits.memory + sandbox::OVERHEAD);
        while self.mapped().saturating_add(size) > space || self.modules.len() >= MAX_MODULES {
            if !self.forget_oldest(keep) {
                return Err(Refusal::Limit);
            }
        }
        Ok(())
    }

    /// Forgets modules until memory is below its limit; true if that is in vain.
    fn is_full(&mut self, keep: u32) -> bool {
        while self.private() > self.limits.memory {
            if !self.forget_oldest(Some(keep)) {
                // What is left is in use, or is free but not given back.
                return true;
            }
        }
        false
    }

    fn forget_oldest(&mut self, keep: Option<u32>) -> bool {
        let others = self.modules.iter().filter(|(module, _)| Some(**module) != keep);
        let Some((&oldest, _)) = others.min_by_key(|(_, loaded)| loaded.used) else {
            return false;
        };
        self.modules.remove(&oldest).is_some()
    }

    /// How long to wait for a question before resting.
    fn idle(&self) -> Duration {
        if self.limits.is_paced {
            return PACED_IDLE_TIMEOUT;
        }
        let recently = self.forgot_at.is_some_and(|since| since.elapsed() < RECENT_DURATION);
        if recently { RECENT_IDLE_TIMEOUT } else { IDLE_TIMEOUT }
    }

    /// Makes itself small while there is nothing to do.
    fn rest(&mut self) {
        self.modules.retain(|_, loaded| loaded.at.elapsed() < UNUSED);
        self.unload();
        memory::trim();
        // The largest first: that leaves the most modules that need not be read again.
        while self.private() > REST_LIMIT && self.forget_largest() {
            self.forgot_at = Some(Instant::now());
            memory::trim();
        }
    }

    fn forget_largest(&mut self) -> bool {
        let order = |loaded: &Loaded| (loaded.bytes, std::cmp::Reverse(loaded.used));
        let largest = self.modules.iter().max_by_key(|(_, loaded)| order(loaded));
        let Some((&largest, _)) = largest else { return false };
        self.modules.remove(&largest).is_some()
    }

    /// Gives back the pages of all mapped files; what is read again is mapped again.
    fn unload(&mut self) {
        for loaded in self.modules.values_mut() {
            if let Loadable::Binary(binary) = &mut loaded.content {
                binary.unload();
            }
        }
    }

    /// Keeps what is resident small: gives back the pages of files, which cost little to have
    /// again, then forgets modules but for the last.
    fn tidy(&mut self) {
        // Where it is paced it hardly rests.
        if self.limits.is_paced {
            self.modules.retain(|_, loaded| loaded.at.elapsed() < UNUSED);
        }
        let is_large = |worker: &Self| {
            worker.memory.resident().is_some_and(|(resident, _)| resident > SOFT_LIMIT_BYTES)
        };
        if !is_large(self) {
            return;
        }
        self.unload();
        while is_large(self) && self.modules.len() > 1 && self.forget_oldest(None) {
            memory::trim();
        }
    }

    /// Bytes of mapped files.
    fn mapped(&self) -> u64 {
        self.modules.values().map(|loaded| loaded.content.size().0 as u64).sum()
    }

    /// Bytes of other memory.
    fn private(&self) -> u64 {
        self.memory.resident().map(|(_, private)| private).unwrap_or_else(|| {
            self.modules.values().map(|loaded| loaded.content.size().1 as u64).sum()
        })
    }
}

impl Loadable {
    /// Bytes of mapped files, and of other memory as far as they can be counted.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Binary(binary) => binary.arena().size(),
            Self::PerfMap(map) => (0, map.bytes()),
        }
    }
}
