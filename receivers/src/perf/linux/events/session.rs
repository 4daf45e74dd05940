//! The open events of one receiver, and their rings.
//!
//! There is one ring per CPU, mapped on an event that counts nothing but reports mappings, names,
//! forks and exits; sampling events write into it. For the whole host that is one sampling event
//! per CPU. For chosen processes it is one per thread and CPU, because the kernel lets children
//! inherit an event with a ring only if it is bound to a CPU. A process with more threads than there
//! are descriptors is sampled with the whole host, where that is permitted, and the rest is dropped.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use profpipe_engine::component::Error;
use profpipe_host::proc::Stat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attr::{Choices, Clock, Kind};
use super::chosen::Chosen;
use super::descriptors::Descriptors;
use super::descriptors::{few_descriptors, too_many_threads};
use super::levers::READERS_ROUND;
use super::negotiate::negotiate;
use super::permission;
use super::rings::Rings;
use super::sys;
use super::target::Target;
use super::tasks::{online_cpus, threads_of, tree_of};
use crate::perf::Config;
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::processes::namespace::View;
use crate::perf::linux::records::ring::Ring;
use crate::perf::linux::runtimes::rights;

/// The bytes of one of its records, about.
pub(crate) const REPORT: usize = 120;
/// How often threads are looked for that no record reported.
const THREADS_INTERVAL: Duration = Duration::from_secs(1);
/// With so much of a ring filled, of 1, rings are read twice as often, but not more often than this.
const HURRIED_AT: f64 = 0.125;
const SHORTEST_ROUND: Duration = Duration::from_millis(1);
/// The most threads that are attached to one by one.
pub(super) const MAX_THREADS: usize = 16_384;

/// Open events and their rings.
#[derive(Debug)]
pub(crate) struct Session {
    /// One for each CPU.
    pub(crate) rings: Vec<Ring>,
    pub(crate) owners: Vec<OwnedFd>,
    /// The events that report mappings and forks into rings of their own, where there is a budget;
    /// otherwise the owners report them too.
    pub(crate) reporters: Vec<OwnedFd>,
    /// The clocks of the whole host, one for each CPU.
    pub(crate) samplers: Vec<OwnedFd>,
    /// Its other sampling events, in the order of their numbers.
    pub(super) others: Vec<HostEvents>,
    /// They rest.
    pub(super) is_paused: bool,
    /// The sampling events of threads.
    pub(super) threads: Vec<ThreadEvents>,
    /// What there is to sample.
    pub(crate) chosen: Chosen,
    /// The kernel's numbers of events that were opened, and of those closed in this and in the last
    /// round, until they are told.
    pub(super) opened: Vec<(u64, EventIx)>,
    pub(super) closed: [Vec<u64>; 2],
    /// What events counted that were closed since.
    pub(super) counted_before: HashMap<EventIx, u64>,
    /// Threads that are sampled: attached to, or children of such.
    covered: HashSet<u32>,
    /// Threads that were not covered when last looked for.
    candidates: HashSet<u32>,
    next_look: Instant,
    pub(crate) cpus: Vec<i32>,
    /// Samples lost by samplers that were closed since.
    pub(crate) lost_before: u64,
    /// Whether samples are to wake who waits for the rings.
    pub(crate) wanted_wakeups: bool,
    /// There is a budget, as a share of a core: samplers run on credits.
    pub(crate) budget: Option<f64>,
    pub(super) target: Target,
    /// The whole host is sampled for this process and its descendants alone.
    pub(crate) only: Option<u32>,
    descriptors: Descriptors,
    /// Threads that there was no descriptor for.
    unattached: u64,
    /// What the events were opened with.
    pub(crate) choices: Choices,
    /// How often the rings are read for as much as was in them lately, where nobody says that they fill.
    hurry: Duration,
    /// What the user should know about the choices.
    pub(crate) remarks: Vec<String>,
}

/// Sampling events of the whole host.
#[derive(Debug)]
pub(super) struct HostEvents {
    pub(super) event: EventIx,
    /// One for each CPU.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// The sampling events of a thread.
#[derive(Debug)]
pub(super) struct ThreadEvents {
    /// Of each event one for each CPU; never empty.
    pub(super) descriptors: Vec<(EventIx, OwnedFd)>,
    /// The kernel's numbers of those that are not the first event.
    numbers: Vec<u64>,
}

impl Session {
    /// Opens the events for a configuration, with as much as the host allows.
    pub(crate) fn open(config: &Config, budget: Option<f64>) -> Result<Self, Error> {
        let view = View::own();
        if let Some(obstacle) = view.obstacle() {
            return Err(Error::new(obstacle));
        }
        let cpus = online_cpus();
        let mut target = Target::of(&config.scope)?;
        let mut remarks = Vec::new();
        if !matches!(target, Target::Tree(_)) {
            remarks.extend(view.limit().map(str::to_owned));
        }
        let mut chosen = Chosen::new(&config.events, &target, &mut remarks)?;
        let wanted = Choices {
            clock: Clock::Cycles,
            frequency: config.frequency,
            stack: 0,
            user_chain: false,
            kernel: true,
            build_id: true,
            lost: true,
            inherit: false,
            sideband: false,
            watermark: 0,
            // Chosen processes are few; of a whole host it is not known whether it is of use.
            // It makes switches between threads dearer: only for readers that others may come before.
            count: config.runtimes.enabled && !rights::read_at_once(),
            wakeups: config.reads_chosen(),
        }
        .unwinding(config.unwind, config.stack_size.0);
        if target.is_per_cpu() {
            match negotiate(wanted, &target, &cpus) {
                Ok(choices) => {
                    let cpu = cpus.first().copied().unwrap_or(0);
                    chosen.leave_out_missing(&choices, &target, cpu, &mut remarks)?;
                    // It is kept by what a clock has seen.
                    let budget = budget.filter(|_| chosen.has_cpu());
                    let session =
                        Self::open_rings(config, target, chosen, choices, cpus, remarks, budget)?;
                    return session.sample_host();
                }
                Err(error) if is_denied(&error) && matches!(target, Target::Cgroup(_)) => {
                    return Err(Error::new(format!(
                        "profiling a control group is not permitted here ({error}); {}",
                        permission::GRANT_ALL
                    )));
                }
                Err(error) if is_denied(&error) => remarks.push(format!(
                    "profiling the whole host is not permitted here{}: only the processes of this \
                     user are profiled; {}",
                    match permission::paranoid() {
                        Some(level) => format!(" (kernel.perf_event_paranoid is {level})"),
                        None => String::new(),
                    },
                    permission::GRANT_ALL
                )),
                Err(error) => return Err(unusable(&error)),
            }
        }
        if let Target::Tree(pid) = target
            && !fs::exists(format!("/proc/{pid}")).unwrap_or(false)
        {
            return Err(Error::new(format!(
                "process {pid} does not exist; look for it with `ps -e`"
            )));
        }
        if let Target::Tree(pid) = target {
            let threads = tree_of(pid).into_iter().map(|pid| threads_of(pid).len()).sum();
            if !has_room(threads, cpus.len(), &Descriptors::now()) {
                let Ok(choices) = negotiate(wanted, &Target::Host, &cpus) else {
                    return Err(too_many_threads(pid, threads, cpus.len()));
                };
                remarks.push(format!(
                    "process {pid} has {threads} threads, more than there are descriptors for: the \
                     whole host is sampled and what is not of the process is dropped"
                ));
                let session =
                    Self::open_rings(config, Target::Host, chosen, choices, cpus, remarks, None)?;
                let mut session = session.sample_host()?;
                session.only = Some(pid);
                return Ok(session);
            }
        }
        let wanted =
            Choices { inherit: true, sideband: true, wakeups: config.runtimes.enabled, ..wanted };
        let choices = match negotiate(wanted, &Target::User, &cpus) {
            Err(error) if is_denied(&error) => {
                let user = Choices { kernel: false, ..wanted };
                let choices =
                    negotiate(user, &Target::User, &cpus).map_err(|error| unusable(&error))?;
                let level = permission::paranoid().unwrap_or_default();
                remarks.push(format!(
                    "time in the kernel is not permitted to be profiled (kernel.perf_event_paranoid \
                     is {level}) and is missing; grant it with `sudo sysctl \
                     kernel.perf_event_paranoid=1`"
                ));
                choices
            }
            other => other.map_err(|error| unusable(&error))?,
        };
        if target.is_per_cpu() {
            target = Target::User;
        }
        let cpu = cpus.first().copied().unwrap_or(0);
        chosen.leave_out_missing(&choices, &target, cpu, &mut remarks)?;
        if budget.is_some() {
            remarks.push(
                "a budget can be kept for the whole host only: here the frequency stays what it is"
                    .into(),
            );
        }
        let mut session = Self::open_rings(config, target, chosen, choices, cpus, remarks, None)?;
        session.open_host_events(|_, kind| kind.is_of_all())?;
        session.attach_all()?;
        Ok(session)
    }

    fn open_rings(
        config: &Config,
        target: Target,
        chosen: Chosen,
        mut choices: Choices,
        cpus: Vec<i32>,
        mut remarks: Vec<String>,
        budget: Option<f64>,
    ) -> Result<Self, Error> {
        let wanted = config.buffer_size.0 as usize;
        let Rings { rings, owners, reporters, cpus } =
            Rings::map(&mut choices, &cpus, wanted, (&target, budget), &mut remarks)?;
        Ok(Self {
            rings,
            owners,
            reporters,
            wanted_wakeups: choices.wakeups,
            budget,
            lost_before: 0,
            samplers: Vec::new(),
            others: Vec::new(),
            is_paused: false,
            threads: Vec::new(),
            chosen,
            opened: Vec::new(),
            closed: Default::default(),
            counted_before: HashMap::new(),
            covered: HashSet::new(),
            candidates: HashSet::new(),
            next_look: Instant::now() + THREADS_INTERVAL,
            cpus,
            target,
            only: None,
            descriptors: Descriptors::now(),
            unattached: 0,
            hurry: READERS_ROUND,
            choices,
            remarks,
        })
    }

    /// Opens the sampling events of the whole host.
    fn sample_host(mut self) -> Result<Self, Error> {
        self.open_host_events(|_, _| true)?;
        Ok(self)
    }

    /// Opens those events of each CPU.
    pub(super) fn open_host_events(
        &mut self,
        is_wanted: impl Fn(EventIx, Kind) -> bool,
    ) -> Result<(), Error> {
        let chosen = self.chosen.clone();
        for (event, kind) in chosen.numbered().filter(|(event, kind)| is_wanted(*event, *kind)) {
            let target =
                if kind.is_of_all() { self.target.of_calls() } else { self.target.clone() };
            let attr = self.choices.sampling(kind, event == EventIx::FIRST);
            let mut descriptors = Vec::with_capacity(self.cpus.len());
            for (cpu, owner) in self.cpus.iter().zip(&self.owners) {
                let sampler = target.open(&attr, *cpu).map_err(|error| unusable(&error))?;
                sys::set_output(sampler.as_fd(), owner.as_fd())
                    .map_err(|error| unusable(&error))?;
                self.set_filter(event, &sampler).map_err(|error| unusable(&error))?;
                let number = sys::number(sampler.as_fd()).map_err(|error| unusable(&error))?;
                self.opened.push((number, event));
                descriptors.push(sampler);
            }
            match kind {
                Kind::Cpu => self.samplers = descriptors,
                _ => {
                    self.others.push(HostEvents { event, descriptors });
                }
            }
        }
        Ok(())
    }

    /// Starts sampling, where that did not happen when a thread was attached.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let clocks = if self.is_governed() { &[][..] } else { &self.samplers };
        let others = self.others.iter().flat_map(|it| &it.descriptors);
        for event in self.owners.iter().chain(&self.reporters).chain(clocks).chain(others) {
            sys::enable(event.as_fd()).map_err(|error| unusable(&error))?;
        }
        Ok(())
    }

    /// Attaches to every thread of the scope that is not attached to yet.
    fn attach_all(&mut self) -> Result<(), Error> {
        match self.target {
            Target::Host | Target::Cgroup(_) => Ok(()),
            _ if self.has_no_events() => Ok(()),
            Target::Tree(pid) => {
                let mut result = Ok(());
                for tid in tree_of(pid).into_iter().flat_map(threads_of).collect::<Vec<_>>() {
                    result = self.attach(tid).and(result);
                }
                if self.unattached > 0 {
                    // They have begun since they were counted.
                    let threads = self.threads.len() + self.unattached as usize;
                    return Err(too_many_threads(pid, threads, self.cpus.len()));
                }
                if self.threads.is_empty() {
                    return Err(match result {
                        Err(error) if is_denied(&error) => Error::new(format!(
                            "process {pid} may not be profiled by this user ({error}): it is of \
                             another user, or one that the kernel protects, as set-user-ID programs \
                             are; run as root"
                        )),
                        _ => Error::new(format!("process {pid} has ended")),
                    });
                }
                Ok(())
            }
            Target::User | Target::Matching(_) => {
                for pid in self.target.processes() {
                    for tid in threads_of(pid) {
                        // A thread that has ended meanwhile, or may not be traced, is left out.
                        let _ = self.attach(tid);
                    }
                }
                if self.unattached > 0 {
                    self.remarks.push(few_descriptors(self.unattached, &self.descriptors));
                }
                Ok(())
            }
        }
    }

    fn attach(&mut self, tid: u32) -> io::Result<()> {
        if self.covered.contains(&tid) {
            return Ok(());
        }
        let needed = self.cpus.len() * self.chosen.of_threads().count();
        if self.threads.len() >= MAX_THREADS || !self.descriptors.take(needed) {
            self.unattached += 1;
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let opened = self.open_thread(tid);
        match opened {
            Ok(events) => {
                self.covered.insert(tid);
                self.threads.push(events);
                Ok(())
            }
            Err(error) => {
                self.descriptors.give_back(needed);
                let is_shortage = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                self.unattached += u64::from(is_shortage);
                Err(error)
            }
        }
    }

    fn open_thread(&mut self, tid: u32) -> io::Result<ThreadEvents> {
        let mut descriptors = Vec::with_capacity(self.cpus.len());
        let mut numbers = Vec::new();
        for (event, kind) in self.chosen.of_threads() {
            let attr = self.choices.sampling(kind, event == EventIx::FIRST);
            for (cpu, owner) in self.cpus.iter().zip(&self.owners) {
                let sampler = sys::open_event(&attr, tid.cast_signed(), *cpu)?;
                sys::set_output(sampler.as_fd(), owner.as_fd())?;
                self.set_filter(event, &sampler)?;
                if event != EventIx::FIRST {
                    let number = sys::number(sampler.as_fd())?;
                    self.opened.push((number, event));
                    numbers.push(number);
                }
                descriptors.push((event, sampler));
            }
        }
        for (_, event) in &descriptors {
            sys::enable(event.as_fd())?;
        }
        Ok(ThreadEvents { descriptors, numbers })
    }

    /// Whether threads have no events: nothing reports what they map, begin and end.
    pub(crate) fn has_no_events(&self) -> bool {
        self.chosen.is_without_events() && !self.target.is_per_cpu()
    }

    /// Whether there is a budget.
    pub(crate) fn is_governed(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether the events are those of the whole host, and not of threads.
    pub(crate) fn is_of_host(&self) -> bool {
        self.target.is_per_cpu()
    }

    /// Whose threads are looked at.
    pub(crate) fn looked_at(&self) -> Target {
        self.only.map_or_else(|| self.target.clone(), Target::Tree)
    }

    /// How long a ring takes to fill while its CPU is busy, about.
    pub(crate) fn slack(&self) -> Duration {
        // The watermark is a quarter.
        let ring = f64::from(self.choices.watermark) * 4.0;
        let sample = f64::from(self.choices.stack) + 1024.0;
        let seconds = ring / sample / f64::from(self.choices.frequency.max(1));
        Duration::from_secs_f64(seconds.min(2.0))
    }

    /// Waits until a ring has filled to its watermark or `waker` is readable, at most `time`.
    pub(crate) fn wait(&self, time: Duration, waker: Option<&Arc<OwnedFd>>) {
        // Who is woken by every sample is not this one.
        let owners = if self.choices.wakeups { &[][..] } else { &self.owners };
        let time = if self.choices.wakeups { time.min(self.round()).min(self.hurry) } else { time };
        let events = owners.iter().chain(&self.reporters).chain(waker.map(|waker| &**waker));
        let mut watched: Vec<_> = events.map(|event| PollFd::new(event, PollFlags::IN)).collect();
        let seconds = i64::try_from(time.as_secs()).unwrap_or(1);
        let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(time.subsec_nanos()) };
        // An interruption or an error makes this round early, no more.
        let _ = poll(&mut watched, Some(&time));
        let is_woken = waker.is_some()
            && watched.last().is_some_and(|last| last.revents().contains(PollFlags::IN));
        if let (true, Some(waker)) = (is_woken, waker) {
            // Once for each time that somebody asks.
            let _ = rustix::io::read(&**waker, &mut [0; 8]);
        }
    }

    /// Takes note of what the kernel has written.
    pub(crate) fn refresh(&mut self) {
        let mut filled = 0.0_f64;
        for ring in &mut self.rings {
            ring.refresh();
            filled = filled.max(ring.filled());
        }
        self.hurry = match filled > HURRIED_AT {
            true => (self.hurry / 2).max(SHORTEST_ROUND),
            false => (self.hurry * 5 / 4).min(READERS_ROUND),
        };
    }

    /// Gives what was read back to the kernel.
    pub(crate) fn release(&self) {
        for ring in &self.rings {
            ring.release();
        }
    }

    /// Threads began that are sampled because their parents are.
    pub(crate) fn inherited(&mut self, began: &[u32], ended: &[u32]) {
        if !self.target.is_per_cpu() {
            self.covered.extend(began);
            for tid in ended {
                self.covered.remove(tid);
            }
        }
    }

    /// Closes the events of threads that have ended with all their children. True if the scope is
    /// a process and nothing of it is left.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.has_no_events() {
            let Target::Tree(pid) = self.target else { return false };
            return Stat::read(pid).is_none_or(|stat| stat.ended) && tree_of(pid).len() <= 1;
        }
        if self.threads.is_empty() {
            return matches!(self.target, Target::Tree(_));
        }
        let mut ended: Vec<bool> = Vec::with_capacity(self.threads.len());
        {
            let events = self.threads.iter().filter_map(|it| it.descriptors.first());
            // The kernel reports a hang-up when the thread and all who inherited are gone.
            let mut watched: Vec<_> =
                events.map(|(_, event)| PollFd::new(event, PollFlags::empty())).collect();
            if poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
                return false;
            }
            ended.extend(watched.iter().map(|fd| fd.revents().contains(PollFlags::HUP)));
        }
        let mut ended = ended.into_iter();
        let gone = self.threads.extract_if(.., |_| ended.next().unwrap_or(false));
        for ThreadEvents { descriptors, numbers } in gone {
            for (event, descriptor) in &descriptors {
                if *event != EventIx::FIRST || !self.chosen.has_cpu() {
                    let count = sys::count(descriptor.as_fd()).unwrap_or(0);
                    *self.counted_before.entry(*event).or_default() += count;
                }
            }
            self.descriptors.give_back(descriptors.len());
            let [now, _] = &mut self.closed;
            now.extend(numbers);
        }
        self.threads.is_empty() && matches!(self.target, Target::Tree(_))
    }

    /// Attaches to threads that have come into the scope in another way than from a parent that is
    /// sampled: of the same user, or begun while their process was being attached to.
    pub(crate) fn follow_new_threads(&mut self) {
        let now = Instant::now();
        if self.target.is_per_cpu() || self.has_no_events() || now < self.next_look {
            return;
        }
        self.next_look = now + THREADS_INTERVAL;
        let found = self.target.processes();
        let is_tree = matches!(self.target, Target::Tree(_));
        let found: Vec<u32> = match is_tree {
            true => found.into_iter().flat_map(threads_of).collect(),
            false => found,
        };
        let new: HashSet<u32> =
            found.into_iter().filter(|tid| !self.covered.contains(tid)).collect();
        // The record of its birth may still lie in a ring: it is new if nothing came until now.
        let certain: Vec<u32> = new.intersection(&self.candidates).copied().collect();
        self.candidates = new;
        let before = self.unattached;
        for tid in certain {
            if !is_tree {
                for tid in threads_of(tid) {
                    let _ = self.attach(tid);
                }
            } else {
                let _ = self.attach(tid);
            }
        }
        // Once: they are looked at again and again.
        if before == 0 && self.unattached > 0 {
            tracing::warn!("perf: {}", few_descriptors(self.unattached, &self.descriptors));
        }
    }
}

/// Whether there are descriptors for so many threads.
fn has_room(threads: usize, cpus: usize, descriptors: &Descriptors) -> bool {
    // Each CPU has a ring besides.
    let mut some = *descriptors;
    threads <= MAX_THREADS && some.take(threads.saturating_add(1).saturating_mul(cpus))
}

pub(crate) fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

pub(crate) fn unusable(error: &io::Error) -> Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => return Error::new(permission::denied()),
        Some(libc::ENOSYS) => "this kernel or sandbox has no perf events; use another receiver",
        Some(libc::EMFILE) => "too many open files; raise the limit with `ulimit -n 65536`",
        Some(libc::ENOMEM) => "not enough memory for ring buffers; set a smaller `buffer_size`",
        _ => "perf events cannot be opened; run `profpipe doctor` to see why",
    };
    Error::new(format!("{advice} ({error})"))
}
