//! `symbolize`: gives frames their names.
//!
//! The processor looks at the locations that have no lines, asks its cache, and where that does
//! not know, a worker process. Meanwhile the batch is parked; it goes on from
//! [`Processor::tick`] when its answers are there or its time is up. The pipeline never waits.
//!
//! Binaries are hostile input, so everything that parses one runs in the worker ([`worker_main`]):
//! a process without rights, in a sandbox, with bounded memory and time. It is handed open files;
//! it opens none. A worker that dies costs the binary it was reading its names, nothing else.
//!
//! # Layout
//! - [`mod@config`]: what users type. `rewrite`: what a batch lacks, and putting it there.
//! - `answer`, `cache`: what is known about addresses.
//! - `job`, `client`, `opening`, `stamp`, `child`, `companion`, `kernel`: the thread that finds files and asks the
//!   worker. `lanes`: there are two where there is a budget, so that a large binary holds up nothing
//!   but its own names.
//! - `parked`: a batch that waits for names. `order`: batches of one service go on in the order in which they came.
//! - `tables`: what is kept on disk of binaries, so that they are read once.
//! - `describer`: what binaries say of their own making, for others who want to know.
//! - `build_id`, [`mod@remote`]: files by build id, from a cache on disk and debuginfod servers. `uploads`: those that
//!   tenants upload.
//! - `protocol`: what the two processes say to each other.
//! - `worker`: the other process; reads ELF, DWARF, Go's tables, JIT maps.

mod answer;
mod build_id;
mod cache;
mod child;
mod client;
mod companion;
pub mod config;
mod describer;
mod job;
mod kernel;
mod lanes;
mod opening;
mod order;
mod parked;
mod protocol;
pub mod remote;
mod rewrite;
mod stamp;
pub mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod uploads;
mod worker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use profpipe_engine::Haste;
use profpipe_engine::batch::{Batch, Context, Origin};
use profpipe_engine::component::{Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::modules::{ModuleId, ModuleStore};
use profpipe_engine::overhead::{Overhead, Stage};
use profpipe_engine::telemetry::{Counter, names};
use profpipe_profile::Profiles;

pub use self::config::SymbolizeConfig;
pub use self::worker::worker_main;

pub(crate) use self::build_id::BuildId;
pub(crate) use self::companion::{CompanionFile, Finder};
pub(crate) use self::describer::Describer;
pub(crate) use self::kernel::Symbols;
pub(crate) use self::protocol::Build;

use self::answer::{Reason, Resolution, ResolvedAddress};
use self::cache::{Key, KnownAnswers, ModuleNumber, Scope};
use self::client::{Job, Message, Progress};
use self::job::UnresolvedAddresses;
use self::order::{Order, Services};
use self::parked::{Parked, Plan};
use self::protocol::Limits;
use self::remote::Remote;
use self::rewrite::Given;
use self::uploads::Uploads;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<SymbolizeConfig>(
    "symbolize",
    Stability::Alpha,
    "gives frames their function names, files and lines",
);

/// The one variable that the worker keeps of its parent's environment: tests start themselves as
/// worker by it. The worker reads no other.
const WORKER_ENVIRONMENT: &str = "PROFPIPE_SYMBOLIZER_WORKER";

/// How many times as long names may take where there is a budget for them.
const GOVERNED_TIMEOUT_FACTOR: u32 = 4;

/// Addresses under way at most; beyond, new ones stay without names.
const MAX_ASKED: usize = 1 << 20;

/// The processor.
#[derive(Debug)]
pub struct Symbolize {
    config: SymbolizeConfig,
    modules: Arc<ModuleStore>,
    overhead: Arc<Overhead>,
    haste: Arc<Haste>,
    cache: Arc<KnownAnswers>,
    parked: VecDeque<Parked>,
    parked_bytes: usize,
    /// The job that will answer for an address to a tenant.
    asked: HashMap<(Tenant, Key), u64>,
    tenants: HashMap<Arc<str>, Tenant>,
    /// The jobs that are under way for each tenant.
    under_way: HashMap<Tenant, usize>,
    next_job: u64,
    client: ClientHandle,
    progress: Receiver<Progress>,
    /// Jobs for which files are fetched.
    fetching: HashSet<u64>,
    /// Files can be fetched.
    fetches: bool,
    /// Files that tenants upload.
    uploads: Option<Uploads>,
    counts: Counts,
}

/// The number of a tenant in this process. What one asks for another does not wait for: it may be
/// refused.
type Tenant = u32;

/// Modules of one tenant under way at most: who sends many unknown ones must not keep the
/// thread from the others.
const MAX_JOBS: usize = 4096;

/// How often [`Haste`] is looked at while the last batches wait for their names.
const HASTE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Tenants that have a number at most; beyond, all numbers are given out afresh.
const MAX_TENANTS: usize = 65_536;

/// The way to the thread; dropped, it ends.
#[derive(Debug)]
struct ClientHandle(Sender<Message>);

impl Drop for ClientHandle {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.send(Message::End);
    }
}

/// What is counted.
#[derive(Debug)]
struct Counts {
    named: Counter,
    provisional: Counter,
    unnamed: Vec<(Reason, Counter)>,
    parked: Counter,
}

impl Counts {
    fn new(setup: &Setup) -> Self {
        let metrics = &setup.services.metrics;
        let of = |reason: Reason| {
            let labels = [("reason", reason.text())];
            (reason, metrics.labelled(names::FRAMES_UNNAMED, &setup.id, &labels))
        };
        Self {
            named: metrics.counter(names::FRAMES_NAMED, &setup.id),
            provisional: metrics.counter(names::FRAMES_PROVISIONAL, &setup.id),
            unnamed: Reason::ALL.into_iter().map(of).collect(),
            parked: metrics.counter(names::SYMBOLIZE_PARKED_BYTES, &setup.id),
        }
    }

    fn tally(&self, tally: &rewrite::Tally) {
        self.named.add(tally.named);
        self.provisional.add(tally.provisional);
        for (reason, counter) in &self.unnamed {
            counter.add(tally.unnamed.get(reason).copied().unwrap_or_default());
        }
    }
}

impl Symbolize {
    /// The processor; its thread and worker start when first needed.
    ///
    /// # Errors
    /// If the cache for fetched files cannot be used.
    pub(crate) fn new(config: SymbolizeConfig, setup: &Setup) -> Result<Self, Error> {
        let (messages, queue) = channel();
        let (sender, progress) = channel();
        let metrics = &setup.services.metrics;
        let remote = config.debuginfod.settings(&config.cache, setup)?.map(|settings| {
            let directory = settings.disk.directory.clone();
            let reply = messages.clone();
            let answer = move |request, provision| {
                // Nobody may want it any more.
                let _ = reply.send(Message::Provided(request, provision));
            };
            Remote::start(settings, (metrics, &setup.id), answer).map_err(|error| {
                Error::new(format!(
                    "cannot use the cache directory {}: {error}",
                    directory.display()
                ))
            })
        });
        let remote = remote.transpose()?;
        let fetches = remote.is_some();
        let uploads = config.symbol_storage.as_deref();
        let uploads = uploads.map(|id| setup.extensions.symbol_storage(id)).transpose()?;
        let client = client::Setup {
            command: setup.services.worker.clone(),
            limits: Limits {
                address_space: config.worker_address_space.0,
                memory: config.worker_memory.0,
                cpu_seconds: config.worker_timeout.0.as_secs().max(1),
                is_paced: setup.services.overhead.limits().is_some(),
            },
            timeout: config.worker_timeout.0,
            finder: Finder::new(config.debug_directories.clone()),
            remote,
            restarts: metrics.counter(names::WORKER_RESTARTS, &setup.id),
            overhead: Arc::clone(&setup.services.overhead),
            modules: Arc::clone(&setup.services.modules),
            uploads: uploads.clone(),
            tables: config.tables.open(setup),
        };
        if let Err(error) = client::start(client, queue, sender) {
            tracing::warn!("symbolize: cannot start a thread, so nothing gets a name: {error}");
        }
        Ok(Self {
            modules: Arc::clone(&setup.services.modules),
            overhead: Arc::clone(&setup.services.overhead),
            haste: Arc::clone(&setup.services.haste),
            cache: KnownAnswers::of(&config, setup),
            parked: VecDeque::new(),
            parked_bytes: 0,
            asked: HashMap::new(),
            tenants: HashMap::new(),
            under_way: HashMap::new(),
            next_job: 1,
            client: ClientHandle(messages),
            progress,
            fetching: HashSet::new(),
            fetches,
            uploads: uploads.map(Uploads::new),
            counts: Counts::new(setup),
            config,
        })
    }

    /// How long batches wait from now on.
    #[cfg(test)]
    fn set_timeout(&mut self, timeout: std::time::Duration) {
        self.config.timeout.0 = timeout;
    }

    /// Finds what the cache knows and asks for the rest; returns the jobs to wait for.
    fn plan(&mut self, profiles: &Profiles, context: &Context) -> (Plan, HashSet<u64>) {
        let mut plan = Plan::default();
        let mut jobs = HashSet::new();
        let mut wanted: HashMap<ModuleNumber, UnresolvedAddresses> = HashMap::new();
        let scope = self.scope(context);
        for (mapping, ids) in rewrite::unnamed_modules(&profiles.dictionary) {
            let is_kernel = context.origin != Origin::ThisHost && ids.contains(&ModuleId::Kernel);
            if is_kernel {
                let begin = profiles.dictionary.mappings.get(mapping).memory_start;
                plan.kernels.insert(mapping, begin);
            }
            let module = self.identify(&ids, &scope, context);
            plan.modules.insert(
                mapping,
                module.map(|(number, id, build_id)| {
                    let addresses = Vec::new();
                    let wanted_of = || UnresolvedAddresses { id, build_id, is_kernel, addresses };
                    wanted.entry(number).or_insert_with(wanted_of);
                    number
                }),
            );
        }
        let (tenant_name, tenant) = self.tenant(context);
        for location in profiles.dictionary.locations.iter().skip(1) {
            let Some(Ok(number)) = plan.modules.get(&location.mapping) else { continue };
            let key = (*number, plan.address(location.mapping, location.address));
            if !location.lines.is_empty() || plan.answers.contains_key(&key) {
                continue;
            }
            if let Some(answer) = self.cache.lock().get(key) {
                plan.answers.insert(key, answer);
            } else if let Some(job) = self.asked.get(&(tenant, key)) {
                jobs.insert(*job);
            } else if let Some(wanted) = wanted.get_mut(number) {
                wanted.addresses.push(key.1);
            }
        }
        for (module, unresolved) in wanted {
            let UnresolvedAddresses { id, build_id, is_kernel, mut addresses } = unresolved;
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() {
                continue;
            }
            let source = self.modules.find(&id);
            let reason = if source.is_none() && build_id.is_none() {
                // Debug files go by the GNU build id.
                Some(if matches!(id, ModuleId::Gnu(_)) {
                    Reason::NoBuildId
                } else {
                    Reason::NotFound
                })
            } else {
                let under_way = self.under_way.get(&tenant).copied().unwrap_or_default();
                let is_much = self.asked.len() + addresses.len() > MAX_ASKED;
                (is_much || under_way >= MAX_JOBS).then_some(Reason::Limit)
            };
            if let Some(reason) = reason {
                let refused = addresses.into_iter().map(|address| (module, address));
                plan.answers.extend(refused.map(|key| (key, Resolution::Unnamed(reason))));
                continue;
            }
            let number = self.next_job;
            self.next_job += 1;
            let keys = addresses.iter().map(|address| (tenant, (module, *address)));
            self.asked.extend(keys.map(|key| (key, number)));
            jobs.insert(number);
            *self.under_way.entry(tenant).or_default() += 1;
            let job = Job {
                numbers: vec![number],
                is_fresh: true,
                is_looked_up: false,
                is_provisional: false,
                module,
                id,
                source,
                build_id,
                is_kernel,
                scope: scope.clone(),
                tenant: (Arc::clone(&tenant_name), tenant),
                addresses,
                provisions: HashMap::new(),
            };
            // Without the thread the batch goes on when its time is up.
            let _ = self.client.0.send(Message::Job(job));
        }
        (plan, jobs)
    }

    /// Whose batch it is. Where nothing is fetched, nothing is refused to one and given to another:
    /// all are one.
    fn tenant(&mut self, context: &Context) -> (Arc<str>, Tenant) {
        let Some(name) = context.tenant.as_ref().filter(|_| self.fetches || self.uploads.is_some())
        else {
            return (Arc::default(), 0);
        };
        if let Some(number) = self.tenants.get(name) {
            return (Arc::clone(name), *number);
        }
        if self.tenants.len() >= MAX_TENANTS {
            self.tenants.clear();
        }
        let number = self.tenants.len() as Tenant + 1;
        self.tenants.insert(Arc::clone(name), number);
        (Arc::clone(name), number)
    }

    /// Whose uploaded files count for a batch; all that is known for them is forgotten where they have changed.
    fn scope(&mut self, context: &Context) -> Scope {
        let tenant = context.tenant.clone().unwrap_or_default();
        if self.uploads.as_mut()?.have_changed(&tenant, Instant::now()) {
            self.cache.lock().forget_scope(&tenant);
        }
        Some(tenant)
    }

    /// The module of a mapping with these identities.
    fn identify(
        &mut self,
        ids: &[ModuleId],
        scope: &Scope,
        context: &Context,
    ) -> Result<(ModuleNumber, ModuleId, Option<BuildId>), Reason> {
        // Its kernel is ours then, and so are its process ids.
        let local = context.origin == Origin::ThisHost;
        let mut ids = ids.iter().filter(|id| {
            // The kernel, the vdso and processes of another host are not ours.
            local || matches!(id, ModuleId::Gnu(_) | ModuleId::Htl(_))
        });
        let Some(first) = ids.clone().next() else { return Err(Reason::NoBuildId) };
        let build_id = ids.clone().find_map(|id| match id {
            ModuleId::Gnu(hex) => BuildId::parse(hex),
            _ => None,
        });
        let seen = ids.clone().find(|id| self.modules.find(id).is_some());
        // The store may have forgotten what the cache still knows. Of a batch from elsewhere only
        // the build id counts then: its identities may belong to different files, and what is found
        // by one must not be noted for the other.
        let known =
            || ids.clone().find(|id| local && self.cache.lock().number(scope, id).is_some());
        let id = seen.or_else(known).cloned();
        let by_build_id = || build_id.as_ref().map(|id| ModuleId::Gnu(id.hex().to_owned()));
        let id = id.or_else(by_build_id).or_else(|| ids.next().cloned());
        let id = id.unwrap_or_else(|| first.clone());
        Ok((self.cache.lock().assign(scope, &id), id, build_id))
    }

    /// Takes what the client has sent.
    fn receive(&mut self) {
        while let Ok(progress) = self.progress.try_recv() {
            self.accept(progress);
        }
    }

    fn accept(&mut self, progress: Progress) {
        let module = progress.module;
        if progress.is_fetching {
            self.fetching.extend(progress.jobs);
            return;
        }
        if progress.is_provisional {
            self.accept_provisional(progress);
            return;
        }
        let is_for = |parked: &Parked| progress.jobs.iter().any(|job| parked.jobs.contains(job));
        for ResolvedAddress { address, same, answer } in progress.answers {
            let key = (module, address);
            self.asked.remove(&(progress.tenant, key));
            let answer = match answer {
                Resolution::Unnamed(reason) if !reason.is_lasting() => Resolution::Unnamed(reason),
                answer if !progress.lasting => answer,
                answer => self.cache.lock().keep(module, same, answer),
            };
            for parked in &mut self.parked {
                if is_for(parked) {
                    parked.plan.answers.insert(key, answer.clone());
                }
            }
        }
        if progress.done {
            if let Some(jobs) = self.under_way.get_mut(&progress.tenant) {
                *jobs = jobs.saturating_sub(progress.jobs.len());
                if *jobs == 0 {
                    self.under_way.remove(&progress.tenant);
                }
            }
            for job in &progress.jobs {
                self.fetching.remove(job);
                for parked in &mut self.parked {
                    parked.jobs.remove(job);
                }
            }
        }
    }

    /// Takes names by symbol tables, for batches whose time is up before the better ones come.
    fn accept_provisional(&mut self, progress: Progress) {
        let Progress { jobs, module, answers, .. } = progress;
        for parked in &mut self.parked {
            if !jobs.iter().any(|job| parked.jobs.contains(job)) {
                continue;
            }
            for ResolvedAddress { address, answer, .. } in &answers {
                if matches!(answer, Resolution::Named(_)) {
                    parked.plan.provisional.insert((module, *address), answer.clone());
                }
            }
        }
    }

    /// Emits the batches that have their answers, have waited long enough, or are too many.
    fn release(&mut self, now: Instant, out: &mut Outbox) {
        let limit = usize::try_from(self.config.max_parked.0).unwrap_or(usize::MAX);
        let mut waiting = VecDeque::with_capacity(self.parked.len());
        let mut order = Order::default();
        while let Some(parked) = self.parked.pop_front() {
            let ready = parked.jobs.is_empty() || parked.until(&self.fetching) <= now;
            if self.parked_bytes > limit || ready && order.is_free(&parked.services) {
                self.parked_bytes = self.parked_bytes.saturating_sub(parked.bytes);
                if parked.is_left {
                    out.push(parked.batch);
                } else {
                    self.emit(parked.batch, &parked.plan, out);
                }
            } else {
                order.hold(&parked.services);
                waiting.push_back(parked);
            }
        }
        self.parked = waiting;
        self.counts.parked.set(self.parked_bytes as u64);
    }

    /// Puts the answers into a batch and emits it.
    fn emit(&self, mut batch: Batch, plan: &Plan, out: &mut Outbox) {
        // The batch was decoded when it came in.
        if let Ok(profiles) = batch.profiles_mut() {
            let tally = rewrite::apply(profiles, |mapping, address| {
                let address = plan.address(mapping, address);
                let answer = match plan.modules.get(&mapping) {
                    Some(Ok(module)) => match plan.answers.get(&(*module, address)) {
                        Some(answer) => answer.clone(),
                        None => return plan.in_the_meantime((*module, address)),
                    },
                    Some(Err(reason)) => Resolution::Unnamed(*reason),
                    None => Resolution::Unnamed(Reason::NoBuildId),
                };
                Given { answer, is_provisional: false }
            });
            self.counts.tally(&tally);
        }
        out.push(batch);
    }
}

impl Processor for Symbolize {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        self.receive();
        let context = batch.context.clone();
        let profiles = batch
            .profiles()
            .map_err(|error| Error::with_source("symbolize: cannot read a batch", error))?;
        let locations = &profiles.dictionary.locations;
        // Without leave to look for names a gateway may find them.
        let named = locations.iter().skip(1).all(|location| !location.lines.is_empty());
        let is_left = named || !self.overhead.allows_symbols();
        if is_left && self.parked.is_empty() {
            out.push(batch);
            return Ok(());
        }
        let bytes = rewrite::weigh(profiles);
        self.cache.lock().sweep(Instant::now());
        let (plan, jobs) = if is_left { Default::default() } else { self.plan(profiles, &context) };
        if jobs.is_empty() && self.parked.is_empty() {
            self.emit(batch, &plan, out);
            return Ok(());
        }
        let services = Services::of(profiles);
        let now = Instant::now();
        // Names that must fit into a budget take longer, but a window's profile leaves in time.
        let timeout = self.config.timeout.0;
        // What is fetched for the first time takes longer.
        let max_wait = self.config.debuginfod.max_wait.0.max(timeout);
        let (timeout, max_wait) = match &context.window {
            Some(window) if self.overhead.is_governed() => {
                let patience = window.patience();
                (patience.min(timeout * GOVERNED_TIMEOUT_FACTOR), patience.min(max_wait))
            }
            _ => (timeout, max_wait),
        };
        if let Some(window) = &context.window {
            window.waits_for(Stage::Symbolize);
        }
        let (deadline, last_deadline) = (now + timeout, now + max_wait.max(timeout));
        self.parked_bytes += bytes;
        let parked =
            Parked { batch, deadline, last_deadline, bytes, jobs, services, is_left, plan };
        self.parked.push_back(parked);
        self.release(now, out);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.parked.is_empty()
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        self.receive();
        self.release(now, out);
    }

    fn finish(&mut self, deadline: Instant, out: &mut Outbox) {
        loop {
            self.receive();
            let now = Instant::now();
            self.release(now, out);
            if self.parked.is_empty() {
                return;
            }
            if now >= deadline || self.haste.has_begun() {
                break;
            }
            let next = self.parked.iter().map(|parked| parked.until(&self.fetching)).min();
            let until = next.map_or(deadline, |next| next.min(deadline)).min(now + HASTE_INTERVAL);
            match self.progress.recv_timeout(until.saturating_duration_since(now)) {
                Ok(progress) => self.accept(progress),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        while let Some(parked) = self.parked.pop_front() {
            if parked.is_left {
                out.push(parked.batch);
            } else {
                self.emit(parked.batch, &parked.plan, out);
            }
        }
        self.parked_bytes = 0;
        self.counts.parked.set(0);
    }
}
