//! How binaries were made: compilers, Go version, C library; and what runtime they are.
//!
//! Files that a sampler has published in the module store are shown to the worker process that reads
//! binaries, on a thread of its own, each once. Nobody waits: what is not known yet is on the next
//! profile of the process. Runtimes whose libraries have their version in their name need no
//! reading.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use profpipe_engine::modules::{Content, ModuleId, ModuleStore};
use profpipe_engine::overhead::Overhead;
use profpipe_engine::{Services, WorkerCommand};
use profpipe_profile::{Dictionary, MappingIx, ResourceProfiles, Value};

use super::facts::Facts;
use crate::symbolize::{Build, Describer};

/// The most files known.
const MAX_FILES: usize = 8192;
/// The most questions under way: each holds an open file.
const MAX_OPEN: usize = 256;
/// The most files of one process that are looked at, and frames walked to find them.
const MAX_MODULES: usize = 256;
const MAX_FRAMES: usize = 1 << 18;
/// How long the worker lives without a question.
const IDLE: Duration = Duration::from_secs(2);

/// What is known of files.
#[derive(Debug)]
pub(super) struct BuildInfoCache {
    known: HashMap<ModuleId, Option<Arc<Option<Build>>>>,
    thread: Option<(Sender<Question>, Receiver<Answer>)>,
    /// Questions without an answer yet.
    open: usize,
    modules: Arc<ModuleStore>,
}

type Question = (ModuleId, Arc<File>);
type Answer = (ModuleId, Option<Build>);

/// What was found about a process.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildFacts {
    pub(super) facts: Facts,
    /// Nothing more will be found out.
    pub(super) complete: bool,
}

impl BuildInfoCache {
    pub(super) fn new(services: &Services) -> Self {
        let thread = services
            .worker
            .clone()
            .and_then(|command| start(command, Arc::clone(&services.overhead)));
        Self { known: HashMap::new(), thread, open: 0, modules: Arc::clone(&services.modules) }
    }

    /// Hears what the worker has said.
    pub(super) fn listen(&mut self) {
        let Some((_, answers)) = &self.thread else { return };
        while let Ok((id, build)) = answers.try_recv() {
            self.open = self.open.saturating_sub(1);
            self.known.insert(id, Some(Arc::new(build)));
        }
    }

    /// What is known about the making of a process whose profiles these are.
    pub(super) fn of(
        &mut self,
        executable: Option<&str>,
        resource: &ResourceProfiles,
        dictionary: &Dictionary,
    ) -> BuildFacts {
        let mut made = BuildFacts { complete: true, ..BuildFacts::default() };
        let mut libc = None;
        for row in modules(resource, dictionary) {
            let path = dictionary.strings.get(dictionary.mappings.get(row).filename);
            let name = path.rsplit('/').next().unwrap_or_default();
            let is_main = executable == Some(path);
            runtime(name, is_main, &mut made.facts);
            let is_libc = is_libc(name);
            if !is_main && !is_libc {
                continue;
            }
            let Some(build) = self.build(row, dictionary, &mut made.complete) else { continue };
            if is_main {
                let notes = build.compilers.iter().map(|note| Value::from(note.as_str()));
                let notes: Vec<_> = notes.collect();
                let notes = (!notes.is_empty()).then_some(Value::Array(notes));
                made.facts.add("profpipe.environment.compiler", notes);
                if let Some(version) = &build.go {
                    made.facts.text("process.runtime.name", Some("go".to_owned()));
                    made.facts.text("process.runtime.version", Some(version.clone()));
                }
            }
            // A program may hold one itself; a library beside it is the one that is used.
            if is_libc || libc.is_none() {
                libc = build.libc.clone().or(libc);
            }
        }
        if let Some((name, version)) = libc {
            made.facts.text("profpipe.environment.libc.name", Some(name));
            made.facts.text("profpipe.environment.libc.version", Some(version));
        }
        made
    }

    /// How a file was made; clears `complete` if that is not known yet.
    fn build(
        &mut self,
        row: MappingIx,
        dictionary: &Dictionary,
        complete: &mut bool,
    ) -> Option<Build> {
        let ids = ModuleId::of_mapping(dictionary, row);
        for id in &ids {
            match self.known.get(id) {
                Some(Some(build)) => return Option::clone(build),
                Some(None) => {
                    *complete = false;
                    return None;
                }
                None => {}
            }
        }
        let (questions, _) = self.thread.as_ref()?;
        let found = ids.into_iter().find_map(|id| Some((self.modules.find(&id)?, id)));
        let (module, id) = found?;
        let Content::Elf(file) = &module.content else { return None };
        *complete = false;
        if self.open >= MAX_OPEN {
            return None;
        }
        if self.known.len() >= MAX_FILES {
            self.known.clear();
        }
        if questions.send((id.clone(), Arc::clone(file))).is_ok() {
            self.known.insert(id, None);
            self.open += 1;
        } else {
            self.thread = None;
        }
        None
    }
}

/// Starts the thread that asks the worker. Without it only file names tell.
fn start(
    command: WorkerCommand,
    overhead: Arc<Overhead>,
) -> Option<(Sender<Question>, Receiver<Answer>)> {
    let (questions, inbox) = channel::<Question>();
    let (outbox, answers) = channel();
    let run = move || {
        let mut describer = Describer::new(command, overhead);
        loop {
            match inbox.recv_timeout(IDLE) {
                Ok((id, file)) => {
                    let build = describer.describe(file.as_fd());
                    if outbox.send((id, build)).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => describer.rest(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("describe".into()).spawn(run).ok()?;
    Some((questions, answers))
}

/// The files that the stacks of a resource are in.
fn modules(resource: &ResourceProfiles, dictionary: &Dictionary) -> Vec<MappingIx> {
    let mut found = Vec::new();
    let mut frames = 0;
    // Profiles of one scope share stacks; the first is enough of each.
    let profiles = resource.scopes.iter().filter_map(|scope| scope.profiles.first());
    for sample in profiles.flat_map(|profile| profile.samples.iter()) {
        for location in dictionary.stacks.get(sample.stack) {
            let mapping = dictionary.locations.get(*location).mapping;
            frames += 1;
            if !found.contains(&mapping) && found.len() < MAX_MODULES {
                found.push(mapping);
            }
        }
        if frames > MAX_FRAMES {
            break;
        }
    }
    found
}

/// Whether a file is the C library, by its name.
fn is_libc(name: &str) -> bool {
    let of_glibc = name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"));
    of_glibc || name.starts_with("ld-musl-") || name.starts_with("libc.musl-")
}

/// The runtime that a file is, by its name.
pub(super) fn runtime(name: &str, is_main: bool, facts: &mut Facts) {
    let after = |prefix: &str| name.strip_prefix(prefix);
    // What comes before the first character that is no part of a version.
    let version = |text: &str| {
        let end = text.find(|char: char| !char.is_ascii_digit() && char != '.');
        let text = text.get(..end.unwrap_or(text.len()))?.trim_matches('.');
        (!text.is_empty()).then(|| text.to_owned())
    };
    let found = if let Some(rest) = after("libpython") {
        Some(("cpython", version(rest)))
    } else if let Some(rest) = after("python").filter(|_| is_main) {
        Some(("cpython", version(rest)))
    } else if let Some(rest) = after("libruby") {
        // `libruby-3.1.so.3.1` or `libruby.so.3.1`
        let rest = rest.strip_prefix('-').or(rest.strip_prefix(".so."));
        Some(("ruby", rest.and_then(version)))
    } else if after("libnode.so").is_some() || (is_main && ["node", "nodejs"].contains(&name)) {
        Some(("nodejs", None))
    } else if name == "libjvm.so" {
        Some(("jvm", None))
    } else if name == "libcoreclr.so" {
        Some(("dotnet", None))
    } else {
        None
    };
    if let Some((name, version)) = found {
        facts.text("process.runtime.name", Some(name.to_owned()));
        facts.text("process.runtime.version", version);
    }
}
