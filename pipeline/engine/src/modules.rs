//! The module store: where receivers publish what a mapping is, and symbolization finds it.
//!
//! A module is something code can come from: an executable or a library, the vdso, the kernel, the
//! code that a just-in-time compiler wrote. A receiver publishes each as it sees it, while the
//! process that maps it lives, with an open descriptor; the mapping row in the dictionary carries
//! the identity, in attributes of the semantic conventions. A gateway, which has only the row,
//! finds nothing here and looks elsewhere by the same identity.
//!
//! The store is bounded: the modules unused for longest are forgotten, which closes their files. So
//! are those that nobody has published or found for [`UNUSED_TIMEOUT`]: they may be of files that were
//! deleted long ago, which take space on the disk until then. A receiver publishes with every
//! window what the window refers to and the store no longer has.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use profpipe_profile::attribute_names::{BUILD_ID_GNU, BUILD_ID_HTLHASH, PROCESS_PID};
use profpipe_profile::{Dictionary, MappingIx};

/// The pseudo file of the kernel and its modules; addresses in it are absolute. Where the mapping has the build id
/// of the kernel, it begins where the kernel's code does.
pub const KERNEL: &str = "[kernel.kallsyms]";
/// The pseudo file of code that the kernel maps into every process.
pub const VDSO: &str = "[vdso]";
/// The pseudo file of code that a process wrote itself; addresses in it are the process's own, and
/// the mapping has the process id as an attribute.
pub const JIT: &str = "[jit]";

/// How long a module is kept that nobody publishes or finds: longer than a batch is on its way to
/// whoever wants its modules. Who has one keeps it beyond.
pub const UNUSED_TIMEOUT: Duration = Duration::from_secs(60);

/// What identifies a module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModuleId {
    /// A file, by its GNU build id in hex.
    Gnu(String),
    /// A file, by the hash of its ends and length, in hex.
    Htl(String),
    /// The kernel of this host.
    Kernel,
    /// The vdso of this host.
    Vdso,
    /// The just-in-time code of a process.
    Jit(u32),
}

impl ModuleId {
    /// The identities that a mapping row states, the most exact first.
    pub fn of_mapping(dictionary: &Dictionary, mapping: MappingIx) -> Vec<Self> {
        let row = dictionary.mappings.get(mapping);
        let attribute = |name: &str| {
            row.attributes
                .iter()
                .find(|ix| dictionary.strings.get(dictionary.attributes.key(**ix)) == name)
                .map(|ix| dictionary.attributes.value(*ix))
        };
        let text = |name| attribute(name).and_then(|value| value.as_str()).map(str::to_owned);
        match dictionary.strings.get(row.filename) {
            KERNEL => {
                let exact = text(BUILD_ID_GNU).map(Self::Gnu);
                [Self::Kernel].into_iter().chain(exact).collect()
            }
            VDSO => vec![Self::Vdso],
            JIT => attribute(PROCESS_PID)
                .and_then(|value| value.as_int())
                .and_then(|pid| u32::try_from(pid).ok())
                .map(Self::Jit)
                .into_iter()
                .collect(),
            _ => {
                let exact = text(BUILD_ID_HTLHASH).map(Self::Htl);
                exact.into_iter().chain(text(BUILD_ID_GNU).map(Self::Gnu)).collect()
            }
        }
    }
}

/// A module that somebody has seen on this host.
#[derive(Debug, Clone)]
pub struct Module {
    /// The path as the process sees it, for people.
    pub path: String,
    /// The process that mapped it, so that companion files can be found through its root.
    pub pid: u32,
    /// Where its content is.
    pub content: Content,
}

/// Where the content of a module is.
#[derive(Debug, Clone)]
pub enum Content {
    /// An ELF file, open for reading.
    Elf(Arc<File>),
    /// An ELF image in memory (the vdso).
    Image(Arc<[u8]>),
    /// A `perf-PID.map` text file, open for reading; it may still grow.
    PerfMap(Arc<File>),
    /// The running kernel.
    Kernel,
}

/// Modules by identity. Cheap to share, safe from any thread.
#[derive(Debug)]
pub struct ModuleStore {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    modules: HashMap<ModuleId, Entry>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    module: Arc<Module>,
    /// The count of uses at the last one, and when that was.
    used: u64,
    at: Instant,
}

impl ModuleStore {
    /// A store of at most `capacity` modules.
    pub fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), capacity: capacity.max(1) }
    }

    /// Publishes a module under an identity, replacing what was there.
    pub fn publish(&self, id: ModuleId, module: Arc<Module>) {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        if state.modules.len() >= self.capacity && !state.modules.contains_key(&id) {
            // Forget an eighth at a time, so that a full store is not searched at every call.
            let mut ages: Vec<u64> = state.modules.values().map(|entry| entry.used).collect();
            let (_, oldest_kept, _) = ages.select_nth_unstable(self.capacity / 8);
            let oldest_kept = *oldest_kept;
            state.modules.retain(|_, entry| entry.used > oldest_kept);
        }
        state.modules.insert(id, Entry { module, used: clock, at: Instant::now() });
    }

    /// The module published under an identity.
    pub fn find(&self, id: &ModuleId) -> Option<Arc<Module>> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let entry = state.modules.get_mut(id)?;
        entry.used = clock;
        entry.at = Instant::now();
        Some(Arc::clone(&entry.module))
    }

    /// Forgets the modules that nobody has published or found for [`UNUSED_TIMEOUT`] at the time `now`.
    /// Who publishes is to call it now and then.
    pub fn forget_unused(&self, now: Instant) {
        let mut state = self.lock();
        state.modules.retain(|_, entry| now.saturating_duration_since(entry.at) < UNUSED_TIMEOUT);
        if state.modules.capacity() > 4 * state.modules.len().max(256) {
            state.modules.shrink_to_fit();
        }
    }

    /// Forgets a module, which closes its file when nobody uses it any more.
    pub fn forget(&self, id: &ModuleId) {
        self.lock().modules.remove(id);
    }

    /// The number of modules in the store.
    pub fn len(&self) -> usize {
        self.lock().modules.len()
    }

    /// True if nothing is in the store.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ModuleStore {
    /// 2,048 modules: with one descriptor each, a process needs a soft limit above that.
    fn default() -> Self {
        Self::new(2048)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn module(path: &str) -> Arc<Module> {
        Arc::new(Module { path: path.into(), pid: 1, content: Content::Kernel })
    }

    /// Scenario: 100,000 programs come and go, a few at a time; one is found all the time.
    /// Guarantees: those that nobody wants any more are forgotten, with the room they took; the one
    /// that is wanted stays; who holds a forgotten one still has it.
    #[test]
    fn modules_that_nobody_wants_are_forgotten() {
        let store = ModuleStore::default();
        let steady = ModuleId::Gnu("steady".into());
        store.publish(steady.clone(), module("steady"));
        let mut held = None;
        for round in 0..1000 {
            for at in 0..100 {
                let id = ModuleId::Htl(format!("{round}.{at}"));
                store.publish(id.clone(), module("thrown away"));
                held = held.or_else(|| store.find(&id));
            }
            let published = Instant::now();
            store.forget_unused(published);
            assert!(store.len() > 100, "{}", store.len());
            // The same as if so much time had gone by, but for the steady one.
            store.lock().modules.get_mut(&steady).unwrap().at = published + UNUSED_TIMEOUT;
            store.forget_unused(published + UNUSED_TIMEOUT);
            assert_eq!(store.len(), 1, "{round}");
            assert!(store.find(&steady).is_some());
        }
        assert!(store.lock().modules.capacity() <= 4096);
        assert_eq!(held.unwrap().path, "thrown away");
    }

    /// Scenario: more modules than the store may hold within a moment.
    /// Guarantees: the bound holds, and what was found last is there.
    #[test]
    fn a_full_store_forgets_the_oldest() {
        let store = ModuleStore::new(64);
        let wanted = ModuleId::Kernel;
        store.publish(wanted.clone(), module("wanted"));
        for at in 0..10_000 {
            store.publish(ModuleId::Jit(at), module("x"));
            assert!(store.len() <= 64 && store.find(&wanted).is_some(), "{at}");
        }
    }
}
