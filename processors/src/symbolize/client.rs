//! The thread that answers for the processor: it opens files, talks to the worker and restarts it,
//! so that the pipeline never waits.
//!
//! Jobs are served in turns of one chunk of addresses, so that a large binary does not keep the
//! small ones waiting. A job that needs files from elsewhere waits aside until these have come; the
//! others go on. A worker that dies costs the binary it was reading a strike; two strikes
//! and that binary is left alone for a while. Everybody else sees a pause of milliseconds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use profpipe_engine::WorkerCommand;
use profpipe_engine::component::SymbolStorage;
use profpipe_engine::modules::{Content, Module, ModuleStore};
use profpipe_engine::telemetry::Counter;

use profpipe_engine::overhead::{Overhead, Stage, Work};

use super::answer::{self, Reason, Resolution, ResolvedAddress};
use super::build_id::BuildId;
use super::cache::ModuleNumber;
use super::child::Child;
use super::companion::Finder;
pub(super) use super::job::{Job, Message, Progress};
use super::kernel::Kernel;
use super::lanes::{self, Lane, Yield};
use super::protocol::{Limits, MAX_ADDRESSES, Names, Request, Response};
use super::remote::{FileRequest, Remote};
use super::stamp::Stamp;
use super::tables::{TableUse, Tables};

/// A worker that was not asked for this long is ended, which frees its memory.
/// Until then it rests with little.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Deaths of the worker over one binary before that is left alone.
const MAX_STRIKES: u32 = 2;
/// How long it is left alone, and how long a strike is remembered.
const QUARANTINE_DURATION: Duration = Duration::from_secs(600);
/// How often in a row files that the worker misses are looked for.
const MAX_SPLIT_ROUNDS: usize = 8;
/// How long a file that was not found is not looked for again.
pub(super) const ABSENT_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause before a worker that keeps dying is started again.
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a job waits for; beyond, it goes without names.
const MAX_RESTART_WAIT: Duration = Duration::from_millis(250);
/// Entries of the tables below before they are cleared.
pub(super) const MAX_NOTES: usize = 16_384;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// How to start the worker.
    pub(super) command: Option<WorkerCommand>,
    /// What the worker may use.
    pub(super) limits: Limits,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// Finds separate debug files.
    pub(super) finder: Finder,
    /// Fetches files that are not on this host.
    pub(super) remote: Option<Remote>,
    /// Counts unexpected ends of the worker.
    pub(super) restarts: Counter,
    /// What all this may cost.
    pub(super) overhead: Arc<Overhead>,
    /// Where modules are from.
    pub(super) modules: Arc<ModuleStore>,
    /// Files that were uploaded.
    pub(super) uploads: Option<Arc<dyn SymbolStorage>>,
    /// What is kept on disk of binaries.
    pub(super) tables: Option<Arc<Mutex<Tables>>>,
}

/// Starts the thread. It ends when it is stopped, or no sender is left.
///
/// # Errors
/// If no thread can be started.
pub(super) fn start(
    setup: Setup,
    messages: Receiver<Message>,
    progress: Sender<Progress>,
) -> io::Result<()> {
    let mut lane = Lane::Only;
    if setup.limits.is_paced {
        let (second, handed) = std::sync::mpsc::channel();
        let jobs = Arc::new(AtomicUsize::new(0));
        let of_second = Lane::Second(Yield(Arc::clone(&jobs)));
        start_lane(setup.clone(), of_second, handed, progress.clone())?;
        lane = Lane::First { second, jobs, large: HashSet::new() };
    }
    start_lane(setup, lane, messages, progress)
}

fn start_lane(
    setup: Setup,
    lane: Lane,
    messages: Receiver<Message>,
    progress: Sender<Progress>,
) -> io::Result<()> {
    let client = Client {
        tables: TableUse::new(setup.tables.clone()),
        setup,
        progress,
        child: None,
        opened: HashMap::new(),
        strikes: HashMap::new(),
        absent: HashMap::new(),
        partial: HashMap::new(),
        split: HashMap::new(),
        waiting: HashMap::new(),
        next_wish: lane.first_wish(),
        lane,
        kernel: Kernel::default(),
        pause: Duration::ZERO,
        start_at: Instant::now(),
        told: false,
    };
    std::thread::Builder::new().name("symbolize".into()).spawn(move || client.run(&messages))?;
    Ok(())
}

pub(super) struct Client {
    pub(super) setup: Setup,
    progress: Sender<Progress>,
    child: Option<Child>,
    /// The modules that the worker has, with the stamps of their files then.
    pub(super) opened: HashMap<ModuleNumber, Option<Stamp>>,
    /// Deaths of the worker by module, and when the last was.
    strikes: HashMap<ModuleNumber, (u32, Instant)>,
    /// Modules that were looked for in vain.
    pub(super) absent: HashMap<ModuleNumber, Instant>,
    /// Modules of which a file could not be had, when they were opened all the same, and for whom.
    pub(super) partial: HashMap<ModuleNumber, (Instant, Arc<str>)>,
    /// Files of debug information that were looked for because the worker missed them, by module.
    pub(super) split: HashMap<ModuleNumber, HashSet<String>>,
    /// Jobs that wait for files, by the number of the request.
    waiting: HashMap<u64, (Job, BuildId)>,
    next_wish: u64,
    pub(super) lane: Lane,
    pub(super) tables: TableUse,
    kernel: Kernel,
    /// The pause after the last death, and when the worker may be started again.
    pause: Duration,
    /// See `pause`.
    start_at: Instant,
    /// What is wrong with the worker has been logged.
    told: bool,
}

/// The worker cannot answer now.
pub(super) enum Trouble {
    /// For this reason, which is the module's.
    Module(Reason),
    /// The worker died over it.
    Death(io::Error),
    /// Files must be fetched before.
    Wait(FileRequest),
    /// There is much debug information to read: that is for the second lane.
    Large,
}

/// What came of a turn.
enum Step {
    Answers(Vec<ResolvedAddress>),
    Wait(FileRequest),
    /// The job is to be taken up again.
    Again,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Death(error)
    }
}

impl Client {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut queue: VecDeque<Job> = VecDeque::new();
        loop {
            self.lane.has_jobs(queue.len());
            if queue.is_empty() && !self.tables.has_work() {
                match messages.recv_timeout(IDLE_TIMEOUT) {
                    Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(message) => queue.extend(self.job_of(message)),
                    Err(RecvTimeoutError::Timeout) => {
                        self.end_worker();
                        self.tables.rest();
                    }
                }
            }
            loop {
                match messages.try_recv() {
                    Ok(Message::End) | Err(TryRecvError::Disconnected) => return,
                    Ok(message) => queue.extend(self.job_of(message)),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.lane.has_jobs(queue.len());
            let Some(mut job) = lanes::next_job(&mut queue) else {
                if self.tables.has_work() {
                    self.work_ahead();
                }
                continue;
            };
            if let Some(first) = self.lane.yields() {
                first.wait();
            }
            let begin = Instant::now();
            let mut work = Work::in_turn(&self.setup.overhead, Stage::Symbolize);
            let known = self.take_known(&mut job);
            let is_done = job.addresses.is_empty();
            if (is_done || !known.is_empty()) && self.report(&job, known, true, is_done).is_err() {
                return;
            }
            if is_done {
                continue;
            }
            let step = self.step(&mut job, &mut work);
            let answers = match step {
                Step::Answers(answers) => answers,
                Step::Wait(request) => {
                    self.wait(job, request);
                    continue;
                }
                Step::Again => {
                    queue.push_front(job);
                    continue;
                }
            };
            tell(&job, answers.len(), begin.elapsed());
            let answered = answers.len();
            job.addresses.drain(..answered.min(job.addresses.len()));
            let done = job.addresses.is_empty();
            // Code that is compiled as it runs moves, and what is missing now may come later.
            let lasting = !self.partial.contains_key(&job.module)
                && !matches!(
                    job.source.as_deref(),
                    Some(Module { content: Content::PerfMap(_), .. })
                );
            if lasting {
                self.keep_answers(&job, &answers);
            }
            drop(work);
            if self.report(&job, answers, lasting, done).is_err() {
                return;
            }
            if !done {
                queue.push_back(job);
            }
        }
    }

    /// Reports answers to a part of a job.
    fn report(
        &self,
        job: &Job,
        answers: Vec<ResolvedAddress>,
        lasting: bool,
        done: bool,
    ) -> Result<(), ()> {
        let progress = Progress { answers, lasting, done, ..Progress::of(job) };
        self.progress.send(progress).map_err(|_| ())
    }

    /// Does a piece of what nobody waits for.
    fn work_ahead(&mut self) {
        if !self.setup.overhead.allows_symbols() {
            self.tables.drop_work();
            return;
        }
        if let Some(first) = self.lane.yields() {
            first.wait();
        }
        let _work = Work::in_turn(&self.setup.overhead, Stage::Symbolize);
        self.work_on_tables();
    }

    /// The job that a message is about.
    fn job_of(&mut self, message: Message) -> Option<Job> {
        match message {
            Message::Job(job) => Some(job),
            Message::Provided(request, provision)
                if lanes::is_of_second_lane(request) && self.lane.yields().is_none() =>
            {
                self.lane.pass_on(Message::Provided(request, provision));
                None
            }
            Message::Provided(request, provision) => {
                let (mut job, build_id) = self.waiting.remove(&request)?;
                job.provisions.insert(build_id, provision);
                Some(job)
            }
            Message::End => None,
        }
    }

    /// Puts a job aside until its files have come.
    fn wait(&mut self, job: Job, request: FileRequest) {
        let Some(remote) = &self.setup.remote else { return };
        let progress = Progress { is_fetching: true, ..Progress::of(&job) };
        // If nobody is there any more, the loop finds out.
        let _ = self.progress.send(progress);
        let number = self.next_wish;
        self.next_wish += 2;
        self.waiting.insert(number, (job, request.build_id.clone()));
        remote.ask(number, request);
    }

    /// Answers for the first addresses of a job, at least one.
    fn step(&mut self, job: &mut Job, work: &mut Work) -> Step {
        let chunk = job.addresses[..job.addresses.len().min(MAX_ADDRESSES)].to_vec();
        if matches!(job.source.as_deref(), Some(Module { content: Content::Kernel, .. })) {
            return Step::Answers(self.kernel.resolve(&chunk, Instant::now(), work));
        }
        // Twice, because the first death may have been another's fault.
        loop {
            if let Some((deaths, last)) = self.strikes.get(&job.module) {
                if last.elapsed() >= QUARANTINE_DURATION {
                    self.strikes.remove(&job.module);
                } else if *deaths >= MAX_STRIKES {
                    return Step::Answers(unnamed(&job.addresses, Reason::Limit));
                }
            }
            match self.resolve(job, &chunk) {
                Err(Trouble::Large) => {
                    // Once it is known that its debug information takes long.
                    if self.lane.hand_over(job.clone()) {
                        job.is_provisional = true;
                    }
                    return Step::Again;
                }
                Ok(answers) => {
                    self.pause = Duration::ZERO;
                    return Step::Answers(answers);
                }
                Err(Trouble::Module(reason)) => {
                    return Step::Answers(unnamed(&job.addresses, reason));
                }
                Err(Trouble::Wait(request)) => return Step::Wait(request),
                Err(Trouble::Death(error)) => self.bury(job, &error),
            }
        }
    }

    /// Makes sure that the worker has a job's module open.
    pub(super) fn make_ready(&mut self, job: &Job) -> Result<(), Trouble> {
        self.revive()?;
        // What one tenant was refused may be there for another, and for all after a while.
        let again = |(since, tenant): &(Instant, Arc<str>)| {
            since.elapsed() >= ABSENT_PAUSE || *tenant != job.tenant.0
        };
        if self.partial.get(&job.module).is_some_and(again) {
            self.partial.remove(&job.module);
            self.opened.remove(&job.module);
        }
        if !self.opened.contains_key(&job.module) || self.has_changed(job) {
            self.open(job)?;
        }
        Ok(())
    }

    fn resolve(&mut self, job: &Job, chunk: &[u64]) -> Result<Vec<ResolvedAddress>, Trouble> {
        self.make_ready(job)?;
        if self.lane.is_large(job.module) && !job.is_provisional {
            return Err(Trouble::Large);
        }
        let only_symbols = job.is_provisional;
        let request =
            Request::Resolve { module: job.module, addresses: chunk.to_vec(), only_symbols };
        let mut names = self.ask_names(job, &request)?;
        for _ in 0..MAX_SPLIT_ROUNDS {
            let wanted = std::mem::take(&mut names.wanted);
            if wanted.is_empty() {
                break;
            }
            if !self.offer_split(job, wanted)? {
                self.tables.note_lacking(job.module);
                break;
            }
            names = self.ask_names(job, &request)?;
        }
        // Somebody has written to the file meanwhile: whose names these are nobody knows.
        if self.has_changed(job) {
            self.opened.remove(&job.module);
            return Err(Trouble::Module(Reason::WrongBuildId));
        }
        let last = names.last;
        let answers = answer::from_wire(names, chunk).ok_or_else(nonsense)?;
        if last {
            self.end_worker();
        }
        Ok(answers)
    }

    /// Asks for names, of a module that the worker may have forgotten to make room for others.
    fn ask_names(&mut self, job: &Job, request: &Request) -> Result<Names, Trouble> {
        let mut response = self.ask(request, &[])?;
        if matches!(response, Response::Unknown) {
            self.opened.remove(&job.module);
            self.open(job)?;
            response = self.ask(request, &[])?;
        }
        match response {
            Response::Resolved(names) => Ok(names),
            Response::Unknown | Response::Refused(_) => Err(Trouble::Module(Reason::Limit)),
            _ => Err(nonsense()),
        }
    }

    /// Whether somebody has written to the file of a job's module since the worker has it.
    pub(super) fn has_changed(&self, job: &Job) -> bool {
        let before = self.opened.get(&job.module).copied().flatten();
        before.zip(stamp_of(job)).is_some_and(|(before, now)| before != now)
    }

    pub(super) fn ask(
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
            // It ended between two requests, and no binary is known to be the cause.
            self.setup.restarts.add(1);
        }
        self.end_worker();
        let Some(command) = self.setup.command.clone() else {
            return Err(Trouble::Module(Reason::NoWorker));
        };
        let wait = self.start_at.saturating_duration_since(Instant::now());
        if wait > MAX_RESTART_WAIT {
            return Err(Trouble::Module(Reason::NoWorker));
        }
        std::thread::sleep(wait);
        match Child::start(&command, self.setup.limits, &self.setup.overhead) {
            Ok(mut child) => {
                child.yields = self.lane.yields();
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

    pub(super) fn end_worker(&mut self) {
        self.child = None;
        self.opened.clear();
        self.tables.note_end();
    }

    /// Gives up a worker that died or says nothing.
    pub(super) fn replace_worker(&mut self) {
        self.end_worker();
        self.setup.restarts.add(1);
        self.lengthen_pause();
    }

    /// Notes that the worker died over a job's module.
    fn bury(&mut self, job: &Job, error: &io::Error) {
        self.replace_worker();
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
                QUARANTINE_DURATION.as_secs() / 60
            );
        }
    }

    fn lengthen_pause(&mut self) {
        self.pause = (self.pause * 2).clamp(Duration::from_millis(20), MAX_RESTART_PAUSE);
        self.start_at = Instant::now() + self.pause;
    }
}

/// The stamp of the file that a job's module is read from, if it is one that this host has seen.
pub(super) fn stamp_of(job: &Job) -> Option<Stamp> {
    match job.source.as_deref()? {
        Module { content: Content::Elf(file), .. } => Stamp::of(file),
        _ => None,
    }
}

fn tell(job: &Job, answered: usize, took: Duration) {
    let path = job.source.as_ref().map_or("a debug file", |source| &source.path);
    tracing::debug!("symbolize: asked for {answered} addresses of {path}, which took {took:?}");
}

pub(super) fn nonsense() -> Trouble {
    Trouble::Death(io::Error::new(io::ErrorKind::InvalidData, "an answer that makes no sense"))
}

fn unnamed(addresses: &[u64], reason: Reason) -> Vec<ResolvedAddress> {
    addresses
        .iter()
        .map(|address| ResolvedAddress::only(*address, Resolution::Unnamed(reason)))
        .collect()
}
