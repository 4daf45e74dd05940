//! The thread that answers for the processor: it opens files, talks to the worker and restarts it,
//! so that the pipeline never waits.
//!
//! Jobs are served in turns of one chunk of addresses, so that a large binary does not keep the
//! small ones waiting. A worker that dies costs the binary it was reading a strike; two strikes
//! and that binary is left alone for a while. Everybody else sees a pause of milliseconds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use profpipe_pipeline::engine::WorkerCommand;
use profpipe_pipeline::modules::{Content, Module, ModuleId};
use profpipe_pipeline::telemetry::Counter;

use profpipe_pipeline::overhead::{Overhead, Stage, Work};

use super::answer::{self, Answer, Known, Reason};
use super::cache::ModuleNumber;
use super::child::Child;
use super::companion::{Finder, Wanted};
use super::kernel::Kernel;
use super::protocol::{Facts, Kind, Limits, MAX_ADDRESSES, Refusal, Request, Response, Role};

/// A worker that nobody asked for this long is ended, which frees its memory.
/// Until then it rests with little.
const IDLE: Duration = Duration::from_secs(30);
/// Deaths of the worker over one binary before that is left alone.
const MAX_STRIKES: u32 = 2;
/// How long it is left alone, and how long a strike is remembered.
const QUARANTINE: Duration = Duration::from_secs(600);
/// How long a file that was not found is not looked for again.
const ABSENT: Duration = Duration::from_secs(60);
/// The longest pause before a worker that keeps dying is started again.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a job waits for; beyond, it goes without names.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Entries of the tables below before they are cleared.
const MAX_NOTES: usize = 16_384;

/// Names wanted.
#[derive(Debug)]
pub(super) struct Job {
    /// The job's number.
    pub(super) number: u64,
    /// The module's number.
    pub(super) module: ModuleNumber,
    /// The module's identity.
    pub(super) id: ModuleId,
    /// The module, if this host has seen it.
    pub(super) source: Option<Arc<Module>>,
    /// The addresses, ascending.
    pub(super) addresses: Vec<u64>,
}

/// Answers to a part of a job.
#[derive(Debug)]
pub(super) struct Progress {
    /// The job's number.
    pub(super) job: u64,
    /// The module's number.
    pub(super) module: ModuleNumber,
    /// Answers.
    pub(super) answers: Vec<Known>,
    /// The same question will have the same answer.
    pub(super) lasting: bool,
    /// Nothing more will come.
    pub(super) done: bool,
}

/// What the client needs to know.
#[derive(Debug)]
pub(super) struct Setup {
    /// How to start the worker.
    pub(super) command: Option<WorkerCommand>,
    /// What the worker may use.
    pub(super) limits: Limits,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// Finds separate debug files.
    pub(super) finder: Finder,
    /// Counts unexpected ends of the worker.
    pub(super) restarts: Counter,
    /// What all this may cost.
    pub(super) overhead: Arc<Overhead>,
}

/// Starts the thread. It ends when the sender of its jobs is dropped.
///
/// # Errors
/// If no thread can be started.
pub(super) fn start(
    setup: Setup,
    jobs: Receiver<Job>,
    progress: Sender<Progress>,
) -> io::Result<()> {
    let client = Client {
        setup,
        progress,
        child: None,
        opened: HashSet::new(),
        strikes: HashMap::new(),
        absent: HashMap::new(),
        kernel: Kernel::default(),
        pause: Duration::ZERO,
        start_at: Instant::now(),
        told: false,
    };
    std::thread::Builder::new().name("symbolize".into()).spawn(move || client.run(&jobs))?;
    Ok(())
}

struct Client {
    setup: Setup,
    progress: Sender<Progress>,
    child: Option<Child>,
    /// The modules that the worker has.
    opened: HashSet<ModuleNumber>,
    /// Deaths of the worker by module, and when the last was.
    strikes: HashMap<ModuleNumber, (u32, Instant)>,
    /// Modules that were looked for in vain.
    absent: HashMap<ModuleNumber, Instant>,
    kernel: Kernel,
    /// The pause after the last death, and when the worker may be started again.
    pause: Duration,
    /// See `pause`.
    start_at: Instant,
    /// What is wrong with the worker has been logged.
    told: bool,
}

/// The worker cannot answer now.
enum Trouble {
    /// For this reason, which is the module's.
    Module(Reason),
    /// The worker died over it.
    Death(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Death(error)
    }
}

impl Client {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut queue: VecDeque<Job> = VecDeque::new();
        loop {
            if queue.is_empty() {
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => queue.push_back(job),
                    Err(RecvTimeoutError::Timeout) => self.end_worker(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => queue.push_back(job),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
            let Some(mut job) = queue.pop_front() else { continue };
            let begin = Instant::now();
            let mut work = Work::in_turn(&self.setup.overhead, Stage::Symbolize);
            let answers = self.step(&job, &mut work);
            drop(work);
            tell(&job, answers.len(), begin.elapsed());
            let answered = answers.len();
            job.addresses.drain(..answered.min(job.addresses.len()));
            let done = job.addresses.is_empty();
            // Code that is compiled as it runs moves.
            let lasting =
                !matches!(job.source.as_deref(), Some(Module { content: Content::PerfMap(_), .. }));
            let progress = Progress { job: job.number, module: job.module, answers, lasting, done };
            if self.progress.send(progress).is_err() {
                return;
            }
            if !done {
                queue.push_back(job);
            }
        }
    }

    /// Answers for the first addresses of a job, at least one.
    fn step(&mut self, job: &Job, work: &mut Work) -> Vec<Known> {
        let chunk = &job.addresses[..job.addresses.len().min(MAX_ADDRESSES)];
        if matches!(job.source.as_deref(), Some(Module { content: Content::Kernel, .. })) {
            return self.kernel.resolve(chunk, Instant::now(), work);
        }
        // Twice, because the first death may have been another's fault.
        loop {
            if let Some((deaths, last)) = self.strikes.get(&job.module) {
                if last.elapsed() >= QUARANTINE {
                    self.strikes.remove(&job.module);
                } else if *deaths >= MAX_STRIKES {
                    return unnamed(&job.addresses, Reason::Limit);
                }
            }
            match self.resolve(job, chunk) {
                Ok(answers) => {
                    self.pause = Duration::ZERO;
                    return answers;
                }
                Err(Trouble::Module(reason)) => return unnamed(&job.addresses, reason),
                Err(Trouble::Death(error)) => self.bury(job, &error),
            }
        }
    }

    fn resolve(&mut self, job: &Job, chunk: &[u64]) -> Result<Vec<Known>, Trouble> {
        self.revive()?;
        if !self.opened.contains(&job.module) {
            self.open(job)?;
        }
        let request = Request::Resolve { module: job.module, addresses: chunk.to_vec() };
        let names = match self.ask(&request, &[])? {
            Response::Resolved(names) => names,
            Response::Unknown => {
                // Forgotten to make room for others.
                self.opened.remove(&job.module);
                self.open(job)?;
                match self.ask(&request, &[])? {
                    Response::Resolved(names) => names,
                    Response::Unknown => return Err(Trouble::Module(Reason::Limit)),
                    _ => return Err(nonsense()),
                }
            }
            Response::Refused(_) => return Err(Trouble::Module(Reason::Limit)),
            _ => return Err(nonsense()),
        };
        let last = names.last;
        let answers = answer::from_wire(names, chunk).ok_or_else(nonsense)?;
        if last {
            self.end_worker();
        }
        Ok(answers)
    }

    /// Gives the worker a module, with the files that belong to it.
    fn open(&mut self, job: &Job) -> Result<(), Trouble> {
        let Some(source) = &job.source else { return self.open_by_identity(job) };
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
        self.opened.insert(job.module);
        let path = PathBuf::from(&source.path);
        if !facts.has_debug_info {
            let mut wanted = vec![Wanted::BuildId(facts.build_id.clone())];
            if let Some(link) = facts.debug_link.clone() {
                wanted.push(Wanted::Link { link, path: path.clone() });
            }
            if let Some(found) = self.offer_companions(job.module, Role::Debug, wanted, pid)? {
                facts = found;
            }
        }
        self.offer_supplementary(job.module, facts, path, pid)
    }

    /// Without the module itself its debug file will do, if there is one with its build id.
    fn open_by_identity(&mut self, job: &Job) -> Result<(), Trouble> {
        if self.absent.get(&job.module).is_some_and(|since| since.elapsed() < ABSENT) {
            return Err(Trouble::Module(Reason::NotFound));
        }
        let build_id = match &job.id {
            ModuleId::Gnu(hex) => from_hex(hex).unwrap_or_default(),
            _ => Vec::new(),
        };
        for file in self.setup.finder.find(Wanted::BuildId(build_id.clone()), None) {
            let Ok(facts) = self.offer(job.module, Kind::Elf, Some(file.as_fd()))? else {
                continue;
            };
            if facts.build_id == build_id {
                self.opened.insert(job.module);
                return self.offer_supplementary(job.module, facts, "/".into(), None);
            }
        }
        if self.absent.len() >= MAX_NOTES {
            self.absent.clear();
        }
        self.absent.insert(job.module, Instant::now());
        Err(Trouble::Module(Reason::NotFound))
    }

    fn offer_supplementary(
        &mut self,
        module: ModuleNumber,
        facts: Facts,
        path: PathBuf,
        pid: Option<u32>,
    ) -> Result<(), Trouble> {
        let Some((name, build_id)) = facts.supplementary else { return Ok(()) };
        let wanted = vec![Wanted::BuildId(build_id), Wanted::Supplementary { name, path }];
        self.offer_companions(module, Role::Supplementary, wanted, pid).map(|_| ())
    }

    /// Offers the files that are found until one is the right one.
    fn offer_companions(
        &mut self,
        module: ModuleNumber,
        role: Role,
        wanted: Vec<Wanted>,
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

    fn offer(
        &mut self,
        module: ModuleNumber,
        content: Kind,
        file: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> Result<Result<Facts, Refusal>, Trouble> {
        verdict(self.ask(&Request::Open { module, content }, file.as_slice())?)
    }

    fn ask(
        &mut self,
        request: &Request,
        files: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<Response, Trouble> {
        let deadline = Instant::now() + self.setup.timeout;
        let child = self.child.as_ref().ok_or(Trouble::Module(Reason::NoWorker))?;
        Ok(child.ask(request, files, deadline)?)
    }

    /// Makes sure that there is a worker.
    fn revive(&mut self) -> Result<(), Trouble> {
        if self.child.as_mut().is_some_and(|child| !child.has_ended()) {
            return Ok(());
        }
        if self.child.is_some() {
            // It ended between two requests, which is nobody's fault that we know.
            self.setup.restarts.add(1);
        }
        self.end_worker();
        let Some(command) = self.setup.command.clone() else {
            return Err(Trouble::Module(Reason::NoWorker));
        };
        let wait = self.start_at.saturating_duration_since(Instant::now());
        if wait > MAX_WAIT {
            return Err(Trouble::Module(Reason::NoWorker));
        }
        std::thread::sleep(wait);
        match Child::start(&command, self.setup.limits, &self.setup.overhead) {
            Ok(child) => {
                if !child.missing.is_empty() && !self.told {
                    self.told = true;
                    let missing = child.missing.join(", ");
                    tracing::warn!("symbolize: the worker runs without {missing}");
                }
                self.child = Some(child);
                Ok(())
            }
            Err(error) => {
                self.lengthen_pause();
                if !self.told {
                    self.told = true;
                    let program = command.program.display();
                    tracing::warn!("symbolize: cannot start the worker {program}: {error}");
                }
                Err(Trouble::Module(Reason::NoWorker))
            }
        }
    }

    fn end_worker(&mut self) {
        self.child = None;
        self.opened.clear();
    }

    /// Notes that the worker died over a job's module.
    fn bury(&mut self, job: &Job, error: &io::Error) {
        self.end_worker();
        self.setup.restarts.add(1);
        self.lengthen_pause();
        if self.strikes.len() >= MAX_NOTES {
            self.strikes.clear();
        }
        let (deaths, last) = self.strikes.entry(job.module).or_insert((0, Instant::now()));
        *deaths += 1;
        *last = Instant::now();
        if *deaths >= MAX_STRIKES {
            let path = job.source.as_ref().map_or("a debug file", |source| &source.path);
            tracing::warn!(
                "symbolize: the worker died {deaths} times over {path} ({error}): \
                 no names from it for {} minutes",
                QUARANTINE.as_secs() / 60
            );
        }
    }

    fn lengthen_pause(&mut self) {
        self.pause = (self.pause * 2).clamp(Duration::from_millis(20), MAX_PAUSE);
        self.start_at = Instant::now() + self.pause;
    }
}

fn tell(job: &Job, answered: usize, took: Duration) {
    let path = job.source.as_ref().map_or("a debug file", |source| &source.path);
    tracing::debug!("symbolize: asked for {answered} addresses of {path}, which took {took:?}");
}

fn verdict(response: Response) -> Result<Result<Facts, Refusal>, Trouble> {
    match response {
        Response::Opened(facts) => Ok(Ok(facts)),
        Response::Refused(refusal) => Ok(Err(refusal)),
        _ => Err(nonsense()),
    }
}

fn nonsense() -> Trouble {
    Trouble::Death(io::Error::new(io::ErrorKind::InvalidData, "an answer that makes no sense"))
}

fn unnamed(addresses: &[u64], reason: Reason) -> Vec<Known> {
    addresses.iter().map(|address| Known::only(*address, Answer::Unnamed(reason))).collect()
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || hex.len() > 128 {
        return None;
    }
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
