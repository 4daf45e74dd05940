//! The other process: it has no rights, gets open files, and says the names in them.
//!
//! One request at a time, answered in order. It ends when the processor closes the socket, and may
//! be killed at any moment. Whatever it reads may be hostile: a crash, an endless loop or all
//! memory used up ends this process and nothing else. Its stack is large, because readers of debug
//! information recurse.

mod arena;
mod binary;
mod demangle;
mod dwarf;
mod elf;
mod names;
mod sandbox;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::binary::LoadedBinary;
use self::names::NamesWriter;
use super::protocol::{Channel, Kind, Limits, MAX_ADDRESSES, Refusal, Request, Response};

/// The stack of the thread that reads binaries.
const STACK: usize = 64 << 20;
/// After this long the worker answers with what it has; the processor asks for the rest.
const SLICE: Duration = Duration::from_millis(500);

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
    let mut missing = sandbox::enter_process(limits);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            missing.extend(sandbox::enter_thread());
            channel.send(&Response::Ready(missing), &[], None)?;
            let mut worker = Worker { limits, modules: HashMap::new(), clock: 0 };
            loop {
                let (request, files) = channel.receive(None)?;
                sandbox::renew_cpu_time(limits.cpu_seconds);
                let response = worker.answer(request, files);
                channel.send(&response, &[], None)?;
            }
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug")))
    })
}

struct Worker {
    limits: Limits,
    modules: HashMap<u32, Loaded>,
    clock: u64,
}

struct Loaded {
    content: Loadable,
    used: u64,
}

enum Loadable {
    Binary(LoadedBinary),
}

impl Worker {
    fn answer(&mut self, request: Request, files: Vec<OwnedFd>) -> Response {
        self.clock += 1;
        match request {
            Request::Start(_) => Response::Unknown,
            Request::Open { module, content } => {
                let binary = match (content, files.first()) {
                    (Kind::Elf, Some(file)) => binary::open(file),
                    (Kind::Image(image), None) => binary::open_image(image),
                    _ => return Response::Refused(Refusal::Mismatch),
                };
                match binary {
                    Err(refusal) => Response::Refused(refusal),
                    Ok(mut binary) => {
                        let facts = binary.facts();
                        let content = Loadable::Binary(binary);
                        self.modules.insert(module, Loaded { content, used: self.clock });
                        Response::Opened(facts)
                    }
                }
            }
            Request::Companion { module, role } => {
                let Some(file) = files.first() else {
                    return Response::Refused(Refusal::Mismatch);
                };
                match self.modules.get_mut(&module).map(|loaded| &mut loaded.content) {
                    Some(Loadable::Binary(binary)) => match binary.add_companion(role, file) {
                        Ok(()) => Response::Opened(binary.facts()),
                        Err(refusal) => Response::Refused(refusal),
                    },
                    _ => Response::Unknown,
                }
            }
            Request::Resolve { module, addresses } => self.resolve(module, &addresses),
        }
    }

    fn resolve(&mut self, module: u32, addresses: &[u64]) -> Response {
        let Some(loaded) = self.modules.get_mut(&module) else { return Response::Unknown };
        loaded.used = self.clock;
        let start = Instant::now();
        let mut names = NamesWriter::default();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            match &mut loaded.content {
                Loadable::Binary(binary) => {
                    binary.resolve(*address, &mut names, self.limits.memory);
                }
            }
            if !names.finish_address() || start.elapsed() > SLICE {
                break;
            }
        }
        Response::Resolved(names.finish())
    }
}
