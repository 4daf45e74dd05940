//! What the thread that asks the worker does with tables: looks there first, adds what it was told, and
//! makes them whole when nobody waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use profpipe_engine::component::SymbolFile;
use profpipe_engine::modules::Content;
use sha2::{Digest as _, Sha256};

use super::super::answer::{self, Reason, Resolution, ResolvedAddress};
use super::super::cache::ModuleNumber;
use super::super::client::{ABSENT_PAUSE, Client, Job, MAX_NOTES, Trouble, nonsense};
use super::super::companion::CompanionFile;
use super::super::protocol::{Request, Response};
use super::super::stamp;
use super::Tables;
use super::content::{FileState, HashStep, Hashing};
use super::format::{Sources, WINDOW};

/// Files that wait to be read for their hash at most; each is open.
const MAX_HASHING: usize = 64;
/// Windows that wait to be made whole at most.
const MAX_LATER: usize = 4096;
/// Requests for one window; a window that takes more is left as it is.
const MAX_REQUESTS: usize = 256;
/// After so long it is looked again whether servers have what a table was made without.
const SERVER_PAUSE: Duration = Duration::from_secs(3600);

/// The tables, as one client uses them.
#[derive(Debug, Default)]
pub(in super::super) struct TableUse {
    shared: Option<Arc<Mutex<Tables>>>,
    /// What the modules are that the worker has open.
    sources: HashMap<ModuleNumber, Sources>,
    /// Modules of which a file of debug information is missing.
    lacking: HashSet<ModuleNumber>,
    /// Whose files the worker has had.
    owners: HashSet<Owner>,
    /// Windows to be made whole.
    later: VecDeque<Later>,
    queued: HashSet<(ModuleNumber, u64)>,
    /// Windows that cannot be whole; none for all of a module.
    given_up: HashSet<(ModuleNumber, Option<u64>)>,
    /// Whether a table that is not complete may be used, and when that was found out.
    judged: HashMap<(String, ModuleNumber), (Instant, bool)>,
    /// The hashes of files without a build id.
    hashes: HashMap<FileState, Option<Arc<str>>>,
    /// Files whose hash is wanted when there is nothing else to do.
    hashing: VecDeque<Hashing>,
}

/// A window to be made whole.
#[derive(Debug)]
struct Later {
    job: Job,
    key: String,
    window: u64,
    /// What the module was made of when it was begun.
    sources: Option<Sources>,
    /// What there is of it.
    ranges: Vec<(Range<u64>, Resolution)>,
    requests: usize,
}

/// Who could have written a file; none if nobody but those who are trusted.
type Owner = Option<Author>;

/// Somebody who may write what they like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Author {
    /// A user of this host.
    User(u32),
    /// A tenant that uploads; empty for all who are none.
    Tenant(Arc<str>),
}

impl Author {
    /// For the names of tables that are only for its files.
    fn suffix(&self) -> String {
        match self {
            Self::User(user) => format!("-u{user}"),
            Self::Tenant(name) => {
                let hash = Sha256::digest(name.as_bytes());
                format!("-t{}", profpipe_host::hex(hash.get(..16).unwrap_or_default()))
            }
        }
    }
}

/// Who could have written what a job's module is read from.
fn owner(job: &Job) -> Owner {
    if let Some(tenant) = &job.scope
        && job.source.is_none()
    {
        return Some(Author::Tenant(Arc::clone(tenant)));
    }
    let file = match &job.source.as_deref()?.content {
        Content::Elf(file) | Content::PerfMap(file) => file,
        Content::Image(_) | Content::Kernel => return None,
    };
    let facts = rustix::fs::fstat(file).ok();
    // What cannot be asked may be anybody's.
    let Some(facts) = facts else { return Some(Author::User(u32::MAX)) };
    (facts.st_uid != 0 || facts.st_mode & 0o022 != 0).then_some(Author::User(facts.st_uid))
}

impl TableUse {
    /// Uses these tables, if there are any.
    pub(in super::super) fn new(shared: Option<Arc<Mutex<Tables>>>) -> Self {
        Self { shared, ..Self::default() }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Tables>> {
        Some(self.shared.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what a module is that the worker has opened.
    pub(in super::super) fn note_sources(&mut self, module: ModuleNumber, sources: Sources) {
        if self.sources.len() >= MAX_NOTES {
            self.sources.clear();
            self.lacking.clear();
        }
        self.lacking.remove(&module);
        self.sources.insert(module, sources);
    }

    /// Notes that debug information refers to files that are not here.
    pub(in super::super) fn note_lacking(&mut self, module: ModuleNumber) {
        self.lacking.insert(module);
    }

    /// Notes whose file the worker gets. A file that takes it over can make it lie about all others.
    pub(in super::super) fn note_owner(&mut self, job: &Job) {
        self.owners.insert(owner(job));
    }

    /// Notes that the worker has ended.
    pub(in super::super) fn note_end(&mut self) {
        self.owners.clear();
    }

    /// Whether what the worker says of a module of this owner may be kept for others: it has had no
    /// files but the owner's and those of trusted users.
    fn is_clean(&self, owner: &Owner) -> bool {
        self.owners.iter().all(|other| other.is_none() || other == owner)
    }

    /// Notes that a window, or all of a module, is not to be made whole.
    fn give_up(&mut self, module: ModuleNumber, window: Option<u64>) {
        if self.given_up.len() >= MAX_NOTES {
            self.given_up.clear();
        }
        self.given_up.insert((module, window));
        if window.is_none() {
            self.later.retain(|later| later.job.module != module);
            self.queued.retain(|(of, _)| *of != module);
        }
    }

    fn has_given_up(&self, module: ModuleNumber, window: u64) -> bool {
        [None, Some(window)].iter().any(|window| self.given_up.contains(&(module, *window)))
    }

    /// Takes the next window to be made whole: one for which the worker can go on, if there is any.
    fn next_later(&mut self) -> Option<Later> {
        let at = self.later.iter().position(|later| self.is_clean(&owner(&later.job)));
        let later = self.later.remove(at.unwrap_or_default())?;
        self.queued.remove(&(later.job.module, later.window));
        Some(later)
    }

    /// Makes itself small while nothing is asked for.
    pub(in super::super) fn rest(&self) {
        if let Some(mut tables) = self.lock() {
            tables.rest();
        }
    }

    /// Whether there is anything to do while nobody waits.
    pub(in super::super) fn has_work(&self) -> bool {
        !self.later.is_empty() || !self.hashing.is_empty()
    }

    /// Gives up what was to be done while nobody waits.
    pub(in super::super) fn drop_work(&mut self) {
        self.later.clear();
        self.queued.clear();
        self.hashing.clear();
    }

    /// The hash of a file's content: known, read now, or, if that may wait, later.
    fn hash(&mut self, file: &File, may_wait: bool) -> Option<Arc<str>> {
        let state = FileState::of(file)?;
        if let Some(known) = self.hashes.get(&state) {
            return known.clone();
        }
        let kept = self.lock().and_then(|mut tables| tables.content(&state.key()));
        if let Some(kept) = kept {
            self.note_hash(state, Some(Arc::clone(&kept)));
            return Some(kept);
        }
        let Some(mut hashing) = Hashing::begin(file, state) else {
            self.note_hash(state, None);
            return None;
        };
        if may_wait {
            let is_new = self.hashing.iter().all(|other| other.state != state);
            if is_new && self.hashing.len() < MAX_HASHING {
                self.hashing.push_back(hashing);
            }
            return None;
        }
        loop {
            if let Some(hash) = self.hash_more(&mut hashing) {
                return hash;
            }
        }
    }

    /// Reads a little of a file; what came of it if that was the end.
    fn hash_more(&mut self, hashing: &mut Hashing) -> Option<Option<Arc<str>>> {
        let (hash, is_lasting) = match hashing.step() {
            HashStep::More => return None,
            HashStep::Done(hash, is_lasting) => (Some(hash), is_lasting),
            HashStep::Failed => (None, false),
        };
        if let (true, Some(hash), Some(mut tables)) = (is_lasting, &hash, self.lock()) {
            tables.keep_content(&hashing.state.key(), hash);
        }
        self.note_hash(hashing.state, hash.clone());
        Some(hash)
    }

    fn note_hash(&mut self, state: FileState, hash: Option<Arc<str>>) {
        if self.hashes.len() >= MAX_NOTES {
            self.hashes.clear();
        }
        self.hashes.insert(state, hash);
    }
}

impl Client {
    /// Takes the addresses out of a job that are known already, with what is known of them.
    pub(in super::super) fn take_known(&mut self, job: &mut Job) -> Vec<ResolvedAddress> {
        if std::mem::replace(&mut job.is_looked_up, true) {
            return Vec::new();
        }
        let Some(key) = self.table_key(job) else { return Vec::new() };
        if !self.may_use(job, &key) {
            return Vec::new();
        }
        let Some(mut tables) = self.tables.lock() else { return Vec::new() };
        tables.take_known(&key, &mut job.addresses)
    }

    /// The key of a job's module; none if it has no table.
    ///
    /// A build id is what a file says of itself. What is made of a file that one user owns is not shown
    /// to others: only of files that are root's, or that we were given by build id, it is for all.
    fn table_key(&mut self, job: &Job) -> Option<String> {
        self.tables.shared.as_ref()?;
        let file = match job.source.as_deref().map(|source| &source.content) {
            None => None,
            Some(Content::Elf(elf)) => Some(elf),
            Some(_) => return None,
        };
        match (&job.build_id, file) {
            (Some(build_id), _) => {
                let owner = owner(job).map(|author| author.suffix()).unwrap_or_default();
                Some(format!("{}{owner}", build_id.hex()))
            }
            // Its content may be another by now than the one that was mapped.
            (None, Some(file)) if stamp::is_of(file, &[], None, &job.id) => {
                let may_wait = self.setup.overhead.is_governed();
                let hash = self.tables.hash(file, may_wait)?;
                Some(format!("sha256-{hash}"))
            }
            (None, _) => None,
        }
    }

    /// Whether a table says all that could be said now: one that was made without debug information is
    /// of no use where that is there.
    fn may_use(&mut self, job: &Job, key: &str) -> bool {
        let identity = match self.tables.lock() {
            Some(mut tables) => tables.identity(key).cloned(),
            None => None,
        };
        let Some(identity) = identity else { return false };
        if identity.sources.is_complete() {
            return true;
        }
        let left_out = identity.sources.left_out_bytes;
        if left_out > 0 && left_out <= self.setup.limits.memory {
            return false;
        }
        let judged = (key.to_owned(), job.module);
        if let Some((since, may)) = self.tables.judged.get(&judged)
            && since.elapsed() < ABSENT_PAUSE
        {
            return *may;
        }
        let may = !self.has_more(job, &identity.sources) && {
            self.setup.remote.is_none() || identity.is_younger(SERVER_PAUSE)
        };
        if self.tables.judged.len() >= MAX_NOTES {
            self.tables.judged.clear();
        }
        self.tables.judged.insert(judged, (Instant::now(), may));
        may
    }

    /// Whether there are files that a table was made without.
    fn has_more(&mut self, job: &Job, sources: &Sources) -> bool {
        let mut wanted = Vec::new();
        let source = job.source.as_ref();
        if !sources.has_executable {
            if source.is_some() {
                return true;
            }
            if self.uploaded(job, SymbolFile::Executable).is_some() {
                return true;
            }
            wanted.extend(job.build_id.clone().map(CompanionFile::Executable));
        }
        if !sources.has_debug_info {
            if self.uploaded(job, SymbolFile::Debuginfo).is_some() {
                return true;
            }
            wanted.extend(job.build_id.clone().map(CompanionFile::BuildId));
            if let (Some(link), Some(source)) = (sources.debug_link.clone(), source) {
                wanted.push(CompanionFile::Link { link, path: PathBuf::from(&source.path) });
            }
        }
        let pid = source.map(|source| source.pid);
        wanted.into_iter().any(|file| !self.setup.finder.find(file, pid).is_empty())
    }

    /// Keeps what the worker has answered, and notes the windows that it is in.
    pub(in super::super) fn keep_answers(&mut self, job: &Job, answers: &[ResolvedAddress]) {
        if job.is_provisional || self.tables.lacking.contains(&job.module) {
            return;
        }
        let Some(key) = self.table_key(job) else { return };
        let Some(sources) = self.tables.sources.get(&job.module).cloned() else { return };
        // Then the key may be that of another content.
        if self.has_changed(job) {
            return;
        }
        let mut windows: HashMap<u64, Vec<(Range<u64>, Resolution)>> = HashMap::new();
        for ResolvedAddress { address, same, answer } in answers {
            if matches!(answer, Resolution::Unnamed(reason) if *reason != Reason::NoSymbol) {
                continue;
            }
            let window = address - address % WINDOW;
            let Some(end) = window.checked_add(WINDOW) else { continue };
            let part = same.start.max(window)..same.end.min(end);
            windows.entry(window).or_default().push((part, answer.clone()));
        }
        let is_clean = self.tables.is_clean(&owner(job));
        // Then it is not used any more, see `may_use`.
        let max_age = self.setup.remote.is_some().then_some(SERVER_PAUSE);
        for (window, mut ranges) in windows {
            let Some(mut tables) = self.tables.lock() else { return };
            if tables.is_whole(&key, window, &sources) {
                continue;
            }
            ranges.sort_by_key(|(range, _)| (range.start, range.end));
            let mut end = 0;
            ranges.retain(|(range, _)| {
                let is_new = range.start >= end && range.start < range.end;
                end = if is_new { range.end } else { end };
                is_new
            });
            if is_clean {
                tables.add(&key, (&sources, max_age), (window, false), &ranges);
            }
            drop(tables);
            if self.tables.later.len() < MAX_LATER
                && !self.tables.has_given_up(job.module, window)
                && self.tables.queued.insert((job.module, window))
            {
                let job = Job { addresses: Vec::new(), numbers: Vec::new(), ..job.clone() };
                self.tables.later.push_back(Later {
                    job,
                    key: key.clone(),
                    window,
                    sources: None,
                    ranges: Vec::new(),
                    requests: 0,
                });
            }
        }
        // A table that was made of less has been replaced.
        self.tables.judged.remove(&(key, job.module));
    }

    /// Does a piece of what may wait: reads a file for its hash, or makes a window whole.
    pub(in super::super) fn work_on_tables(&mut self) {
        if let Some(mut hashing) = self.tables.hashing.pop_front() {
            if self.tables.hash_more(&mut hashing).is_none() {
                self.tables.hashing.push_front(hashing);
            }
            return;
        }
        let Some(mut later) = self.tables.next_later() else { return };
        if !self.tables.is_clean(&owner(&later.job)) {
            self.end_worker();
        }
        let module = later.job.module;
        let step = match self.sweep(&mut later) {
            // It was opened again meanwhile, with another content.
            Ok(Sweep::Done(_)) if self.table_key(&later.job).as_ref() != Some(&later.key) => {
                Ok(Sweep::Never)
            }
            step => step,
        };
        match step {
            Ok(Sweep::More) if later.requests < MAX_REQUESTS => {
                self.tables.queued.insert((module, later.window));
                self.tables.later.push_front(later);
            }
            Ok(Sweep::Done(sources)) => {
                if let Some(mut tables) = self.tables.lock() {
                    let window = (later.window, true);
                    tables.add(&later.key, (&sources, None), window, &later.ranges);
                }
            }
            Ok(Sweep::Known) => {}
            Ok(Sweep::More | Sweep::Never) => self.tables.give_up(module, Some(later.window)),
            Err(Trouble::Module(_) | Trouble::Wait(_) | Trouble::Large) => {
                self.tables.give_up(module, Some(later.window));
            }
            // Of the binary more was read than was asked for: its names go on without that.
            Err(Trouble::Death(_)) => {
                self.replace_worker();
                self.tables.give_up(module, None);
            }
        }
    }

    /// Asks for a part of a window.
    fn sweep(&mut self, later: &mut Later) -> Result<Sweep, Trouble> {
        let job = &later.job;
        let Some(end) = later.window.checked_add(WINDOW) else { return Ok(Sweep::Never) };
        later.requests += 1;
        self.make_ready(job)?;
        let Some(sources) = self.tables.sources.get(&job.module).cloned() else {
            return Ok(Sweep::Never);
        };
        if later.sources.get_or_insert_with(|| sources.clone()) != &sources
            || self.partial.contains_key(&job.module)
        {
            return Ok(Sweep::Never);
        }
        let is_known = match self.tables.lock() {
            Some(mut tables) => tables.is_whole(&later.key, later.window, &sources),
            None => true,
        };
        if is_known {
            return Ok(Sweep::Known);
        }
        let at = later.ranges.last().map_or(later.window, |(range, _)| range.end);
        let request = Request::Sweep { module: job.module, from: at, to: end };
        let names = match self.ask(&request, &[])? {
            Response::Resolved(names) => names,
            Response::Unknown => {
                self.opened.remove(&job.module);
                return Ok(Sweep::More);
            }
            _ => return Err(nonsense()),
        };
        if !names.wanted.is_empty() {
            return Ok(Sweep::Never);
        }
        let is_last = names.last;
        later.ranges.extend(answer::ranges_from_wire(names, at, end).ok_or_else(nonsense)?);
        // Somebody has written to the file meanwhile.
        if self.has_changed(job) {
            self.opened.remove(&job.module);
            return Ok(Sweep::Never);
        }
        if is_last {
            self.end_worker();
        }
        let is_done = later.ranges.last().is_some_and(|(range, _)| range.end >= end);
        Ok(if is_done { Sweep::Done(sources) } else { Sweep::More })
    }
}

/// What came of a request for a part of a window.
enum Sweep {
    /// It is whole, of these sources.
    Done(Sources),
    /// There is more.
    More,
    /// Somebody else has made it.
    Known,
    /// It will not be whole.
    Never,
}
