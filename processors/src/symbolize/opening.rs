//! Which files make a module, and giving them to the worker.
//!
//! A module that this host has seen mapped is there; its debug information may be in another file.
//! Of a module that came with a profile from elsewhere there is only the build id: its executable
//! and its debug file are looked for in debug directories, then among what was uploaded, then fetched. Both are wanted, as on the
//! host: the executable alone has Go's table, the stubs and where code is.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use profpipe_engine::component::SymbolFile;
use profpipe_engine::modules::{Content, Module};

use super::answer::Reason;
use super::build_id::BuildId;
use super::cache::ModuleNumber;
use super::client::{ABSENT_PAUSE, Client, Job, MAX_NOTES, Trouble, nonsense, stamp_of};
use super::companion::CompanionFile;
use super::protocol::{Facts, Kind, Refusal, Request, Response, Role};
use super::remote::{FileRequest, Provision};
use super::stamp::{self, Stamp};
use super::tables::format::Sources;

/// A file that was fetched, or why there is none.
type Fetched = Result<Arc<File>, Reason>;

impl Client {
    /// Gives the worker a module, with the files that belong to it.
    pub(super) fn open(&mut self, job: &Job) -> Result<(), Trouble> {
        self.partial.remove(&job.module);
        self.split.remove(&job.module);
        self.tables.note_owner(job);
        match &job.source {
            Some(source) => self.open_seen(job, source),
            None => self.open_by_identity(job),
        }
    }

    fn open_seen(&mut self, job: &Job, source: &Module) -> Result<(), Trouble> {
        // Before it is read: what is written to it meanwhile shows.
        let stamp = stamp_of(job);
        let pid = Some(source.pid);
        let facts = match &source.content {
            Content::Elf(file) => self.offer(job.module, Kind::Elf, Some(file.as_fd()))?,
            Content::PerfMap(file) => {
                // Not noted as opened: it is offered each time, as it may have grown.
                let offered = self.offer(job.module, Kind::PerfMap, Some(file.as_fd()))?;
                return offered.map(|_| ()).map_err(|_| Trouble::Module(Reason::Limit));
            }
            Content::Image(image) => self.offer(job.module, Kind::Image(image.to_vec()), None)?,
            Content::Kernel => return Err(Trouble::Module(Reason::NotFound)),
        };
        let mut facts = facts.map_err(|refusal| {
            Trouble::Module(match refusal {
                Refusal::Mismatch => Reason::NoSymbol,
                Refusal::Limit => Reason::Limit,
            })
        })?;
        if let Content::Elf(file) = &source.content
            && !stamp::is_of(file, &facts.build_id, job.build_id.as_ref(), &job.id)
        {
            // Who has the right one may publish it.
            self.setup.modules.forget(&job.id);
            return Err(Trouble::Module(Reason::WrongBuildId));
        }
        let path = PathBuf::from(&source.path);
        let debug_link = facts.debug_link.clone();
        let mut sources = Sources { has_executable: true, debug_link, ..Sources::default() };
        if !facts.has_debug_info {
            let build_id = BuildId::from_bytes(&facts.build_id);
            let mut wanted: Vec<_> =
                build_id.clone().map(CompanionFile::BuildId).into_iter().collect();
            if let Some(link) = facts.debug_link.clone() {
                wanted.push(CompanionFile::Link { link, path: path.clone() });
            }
            let mut found = self.offer_companions(job.module, Role::Debug, wanted, pid)?;
            if found.is_none()
                && let Some(build_id) = build_id
                && matches!(source.content, Content::Elf(_))
            {
                found = self.offer_fetched(job, &build_id, Role::Debug)?;
            }
            facts = found.unwrap_or(facts);
        }
        let debug_info_bytes = facts.debug_info_bytes;
        if facts.has_debug_info {
            let package = vec![CompanionFile::Package(path.clone())];
            self.offer_companions(job.module, Role::Package, package, pid)?;
        }
        self.note_debug_info(&mut sources, &facts);
        sources.has_debug_info &= self.offer_supplementary(job, facts, path, pid)?;
        self.lane.note(job.module, debug_info_bytes);
        self.tables.note_sources(job.module, sources);
        self.note_opened(job.module, stamp);
        Ok(())
    }

    /// Opens a module of which only the build id is known.
    fn open_by_identity(&mut self, job: &Job) -> Result<(), Trouble> {
        if self.absent.get(&job.module).is_some_and(|since| since.elapsed() < ABSENT_PAUSE) {
            return Err(Trouble::Module(Reason::NotFound));
        }
        let Some(build_id) = &job.build_id else { return Err(Trouble::Module(Reason::NoBuildId)) };
        let mut reason = Reason::NotFound;
        let mut main = None;
        let mut has_executable = false;
        let mut files = self.setup.finder.find(CompanionFile::Executable(build_id.clone()), None);
        files.extend(self.uploaded(job, SymbolFile::Executable));
        for file in files {
            main = self.offer_main(job.module, build_id, file.as_fd(), &mut reason)?;
            has_executable = main.is_some();
            if has_executable {
                break;
            }
        }
        let mut debug = self.setup.finder.find(CompanionFile::BuildId(build_id.clone()), None);
        debug.extend(self.uploaded(job, SymbolFile::Debuginfo));
        let has_debug_info = main.as_ref().is_some_and(|facts| facts.has_debug_info);
        let (executable, debuginfo) = (main.is_none(), debug.is_empty() && !has_debug_info);
        if let Some(provision) = self.provision(job, build_id, executable, debuginfo)? {
            if let (true, Ok(file)) = (executable, &provision.executable) {
                main = self.offer_main(job.module, build_id, file.as_fd(), &mut reason)?;
                has_executable = main.is_some();
            }
            if reason == Reason::NotFound {
                reason = provision.reason();
            }
            let debug = debug.iter().map(AsFd::as_fd);
            let fetched = provision.debuginfo.as_ref().ok().map(AsFd::as_fd);
            main = self.offer_debug(job, build_id, main, debug.chain(fetched), &mut reason)?;
        } else {
            let debug = debug.iter().map(AsFd::as_fd);
            main = self.offer_debug(job, build_id, main, debug, &mut reason)?;
        }
        let Some(facts) = main else {
            if reason == Reason::NotFound {
                if self.absent.len() >= MAX_NOTES {
                    self.absent.clear();
                }
                self.absent.insert(job.module, Instant::now());
            }
            return Err(Trouble::Module(reason));
        };
        let debug_info_bytes = facts.debug_info_bytes;
        let mut sources = Sources { has_executable, ..Sources::default() };
        self.note_debug_info(&mut sources, &facts);
        sources.has_debug_info &= self.offer_supplementary(job, facts, "/".into(), None)?;
        self.lane.note(job.module, debug_info_bytes);
        self.tables.note_sources(job.module, sources);
        self.note_opened(job.module, None);
        Ok(())
    }

    /// A file that the job's tenant has uploaded.
    pub(super) fn uploaded(&self, job: &Job, file: SymbolFile) -> Option<OwnedFd> {
        let (scope, build_id) = (job.scope.as_ref()?, job.build_id.as_ref()?);
        // The name of a tenant is never empty.
        let tenant = Some(&**scope).filter(|name| !name.is_empty());
        self.setup.uploads.as_ref()?.find(tenant, build_id.hex(), file).map(OwnedFd::from)
    }

    /// Notes what the worker can read of debug information.
    fn note_debug_info(&self, sources: &mut Sources, facts: &Facts) {
        let is_read = facts.inflated_bytes <= self.setup.limits.memory;
        sources.has_debug_info = facts.has_debug_info && is_read;
        sources.left_out_bytes = if is_read { 0 } else { facts.inflated_bytes };
    }

    fn note_opened(&mut self, module: ModuleNumber, stamp: Option<Stamp>) {
        // The worker has forgotten most of them: a module is then offered again.
        if self.opened.len() >= MAX_NOTES {
            self.opened.clear();
        }
        self.opened.insert(module, stamp);
    }

    /// Offers debug files until one is the right one: beside the module, or in its place.
    fn offer_debug<'f>(
        &mut self,
        job: &Job,
        build_id: &BuildId,
        mut main: Option<Facts>,
        files: impl Iterator<Item = BorrowedFd<'f>>,
        reason: &mut Reason,
    ) -> Result<Option<Facts>, Trouble> {
        for file in files {
            if main.as_ref().is_some_and(|facts| facts.has_debug_info) {
                break;
            }
            if main.is_none() {
                main = self.offer_main(job.module, build_id, file, reason)?;
                continue;
            }
            let request = Request::Companion { module: job.module, role: Role::Debug };
            if let Ok(facts) = verdict(self.ask(&request, &[file])?)? {
                main = Some(facts);
                break;
            }
        }
        Ok(main)
    }

    /// Offers a file as the module itself; what is wrong with it otherwise goes to `reason`.
    fn offer_main(
        &mut self,
        module: ModuleNumber,
        build_id: &BuildId,
        file: BorrowedFd<'_>,
        reason: &mut Reason,
    ) -> Result<Option<Facts>, Trouble> {
        match self.offer(module, Kind::Elf, Some(file))? {
            Ok(facts) if build_id.is(&facts.build_id) => return Ok(Some(facts)),
            Ok(_) => *reason = Reason::WrongBuildId,
            Err(Refusal::Mismatch) => *reason = Reason::Unreadable,
            Err(Refusal::Limit) => *reason = Reason::Limit,
        }
        Ok(None)
    }

    /// Offers the file that debug information shares with others; false if it is not there.
    fn offer_supplementary(
        &mut self,
        job: &Job,
        facts: Facts,
        path: PathBuf,
        pid: Option<u32>,
    ) -> Result<bool, Trouble> {
        let Some((name, build_id)) = facts.supplementary else { return Ok(true) };
        let build_id = BuildId::from_bytes(&build_id);
        let mut wanted: Vec<_> = build_id.clone().map(CompanionFile::BuildId).into_iter().collect();
        wanted.push(CompanionFile::Supplementary { name, path });
        let found = self.offer_companions(job.module, Role::Supplementary, wanted, pid)?;
        if found.is_none()
            && let Some(build_id) = build_id
        {
            return Ok(self.offer_fetched(job, &build_id, Role::Supplementary)?.is_some());
        }
        Ok(found.is_some())
    }

    /// Offers the files that are found until one is the right one.
    fn offer_companions(
        &mut self,
        module: ModuleNumber,
        role: Role,
        wanted: Vec<CompanionFile>,
        pid: Option<u32>,
    ) -> Result<Option<Facts>, Trouble> {
        for wanted in wanted {
            for file in self.setup.finder.find(wanted, pid) {
                let request = Request::Companion { module, role };
                if let Ok(facts) = verdict(self.ask(&request, &[file.as_fd()])?)? {
                    return Ok(Some(facts));
                }
            }
        }
        Ok(None)
    }

    /// Offers the files that the worker has missed, each once; false if none was of use.
    pub(super) fn offer_split(&mut self, job: &Job, wanted: Vec<String>) -> Result<bool, Trouble> {
        let source = job.source.as_ref();
        let path = source.map_or_else(PathBuf::new, |source| PathBuf::from(&source.path));
        let pid = source.map(|source| source.pid);
        if self.split.len() >= MAX_NOTES {
            self.split.clear();
        }
        let mut is_better = false;
        for name in wanted {
            let tried = self.split.entry(job.module).or_default();
            if tried.len() >= MAX_NOTES || !tried.insert(name.clone()) {
                continue;
            }
            let file = vec![CompanionFile::Split { name, path: path.clone() }];
            is_better |= self.offer_companions(job.module, Role::Split, file, pid)?.is_some();
        }
        Ok(is_better)
    }

    /// Offers a debug file that is fetched.
    fn offer_fetched(
        &mut self,
        job: &Job,
        build_id: &BuildId,
        role: Role,
    ) -> Result<Option<Facts>, Trouble> {
        let provision = self.provision(job, build_id, false, true)?;
        let file: Option<Fetched> = provision.map(|provision| provision.debuginfo);
        let Some(Ok(file)) = file else { return Ok(None) };
        let request = Request::Companion { module: job.module, role };
        Ok(verdict(self.ask(&request, &[file.as_fd()])?)?.ok())
    }

    /// What was fetched for a job; none where nothing can be, or need be.
    fn provision(
        &mut self,
        job: &Job,
        build_id: &BuildId,
        executable: bool,
        debuginfo: bool,
    ) -> Result<Option<Provision>, Trouble> {
        if self.setup.remote.is_none() || job.is_kernel || !(executable || debuginfo) {
            return Ok(None);
        }
        let Some(provision) = job.provisions.get(build_id) else {
            let (build_id, tenant) = (build_id.clone(), Arc::clone(&job.tenant.0));
            return Err(Trouble::Wait(FileRequest { build_id, executable, debuginfo, tenant }));
        };
        if provision.is_partial() {
            if self.partial.len() >= MAX_NOTES {
                self.partial.clear();
            }
            let since = (Instant::now(), Arc::clone(&job.tenant.0));
            self.partial.insert(job.module, since);
        }
        Ok(Some(provision.clone()))
    }

    fn offer(
        &mut self,
        module: ModuleNumber,
        content: Kind,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Result<Facts, Refusal>, Trouble> {
        verdict(self.ask(&Request::Open { module, content }, file.as_slice())?)
    }
}

fn verdict(response: Response) -> Result<Result<Facts, Refusal>, Trouble> {
    match response {
        Response::Opened(facts) => Ok(Ok(facts)),
        Response::Refused(refusal) => Ok(Err(refusal)),
        _ => Err(nonsense()),
    }
}
