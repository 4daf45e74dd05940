//! The `resource_detection` processor: where profiles were taken, and what decides how fast a
//! program is there.
//!
//! What is true of the host is found out once and now and then again; what is true of a process,
//! when its profile passes. The latter, and the fingerprint of the hardware, go only to profiles
//! that a sampler in this program has taken: the id of a process that came over the network is
//! another host's. That is known from the receiver that a batch came from, which no sender can
//! choose, and never from what the profile says of itself.

mod build;
mod catalog;
mod cgroup;
mod cloud;
mod config;
mod environment;
mod facts;
mod files;
mod fingerprint;
mod making;
mod process;
mod system;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use profpipe_engine::batch::{Batch, Origin, Outcome};
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::telemetry::Counter;
use profpipe_profile::attribute_names::{HOST_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID};
use profpipe_profile::{
    AttributeIx, Dictionary, Profiles, Resource, ResourceProfiles, StringIx, Value,
};

use build::Builds;
use cgroup::Throttling;
use facts::Facts;
use files::Files;
use making::BuildInfoCache;
use process::{Described, ProcessQuery, Processes};
use waiting::Waiting;

pub use catalog::Detector;
pub use config::{Cloud, Config, HostNameSource, Plain, System, Toggle, Toggles};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "resource_detection",
    Stability::Alpha,
    "says where profiles were taken and what decides how fast programs are there",
)
.with_aliases(&["resourcedetection"]);

/// Resources that got attributes.
const ENRICHED: &str = "profpipe_resource_detection_resources_total";
/// Profiles taken here of processes about which nothing could be found out: they had ended.
const GONE: &str = "profpipe_resource_detection_processes_gone_total";
/// Times that the host was looked at again and had changed.
const CHANGES: &str = "profpipe_resource_detection_changes_total";

/// What metadata services have said to a processor; none as long as they have not.
type KnownClouds = Mutex<Option<Vec<(Detector, Facts)>>>;

struct ResourceDetection {
    config: Config,
    files: Files,
    lookup: environment::Lookup,
    host: HostFacts,
    processes: Processes,
    makings: BuildInfoCache,
    /// What metadata services have said.
    clouds: Vec<(Detector, Facts)>,
    /// Where that is kept for the next processor of these settings.
    known: Arc<KnownClouds>,
    /// The batches that wait for that; none once it is known.
    waiting: Option<Waiting>,
    windows: u64,
    next: Instant,
    enriched: Counter,
    gone: Counter,
    changes: Counter,
}

/// What is true of everything on this host.
#[derive(Debug, Clone, Default, PartialEq)]
struct HostFacts {
    /// What the environment says.
    told: Facts,
    /// What describes the host.
    host: Facts,
    /// What describes it only to profiles taken here.
    fingerprint: Facts,
    /// What its names are, whether they are set or not.
    names: [Option<Value>; 2],
}

impl ResourceDetection {
    fn new(config: Config, setup: &Setup) -> Result<Self, Error> {
        let files = Files::new(&config.root_path);
        if !files.root().is_dir() {
            let root = files.root().display();
            return Err(Error::new(format!("`root_path` {root} is not a directory")));
        }
        let count = |name| setup.services.metrics.counter(name, &setup.id);
        let component = format!("processors::{}", setup.id);
        let known = setup.services.carried.of_same::<_, KnownClouds>(&component, &config);
        let clouds = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut this = Self {
            // Process ids are those of our own namespace, wherever the host's files are.
            processes: Processes::new(Files::new("/"), files.clone()),
            makings: BuildInfoCache::new(&setup.services),
            windows: 0,
            waiting: match clouds {
                Some(_) => None,
                None => Waiting::begin(&config, setup)?,
            },
            clouds: clouds.unwrap_or_default(),
            known,
            files,
            lookup: environment::variable,
            host: HostFacts::default(),
            next: Instant::now() + config.refresh_interval.0,
            enriched: count(ENRICHED),
            gone: count(GONE),
            changes: count(CHANGES),
            config,
        };
        this.host = this.look();
        Ok(this)
    }

    /// Looks at the host.
    fn look(&self) -> HostFacts {
        let mut found = HostFacts {
            names: [Some(system::name().into()), system::id(&self.files).map(Value::from)],
            ..HostFacts::default()
        };
        for detector in &self.config.detectors {
            let (place, mut facts) = match detector {
                Detector::Env => (&mut found.told, environment::detect(self.lookup)),
                Detector::System => (&mut found.host, system::detect(&self.files)),
                Detector::Kubernetes => (&mut found.host, environment::kubernetes(self.lookup)),
                Detector::Fingerprint => (&mut found.fingerprint, fingerprint::detect(&self.files)),
                Detector::Ec2 | Detector::Gcp | Detector::Azure => {
                    let said = self.clouds.iter().find(|(of, _)| of == detector);
                    (&mut found.host, said.map(|(_, facts)| facts.clone()).unwrap_or_default())
                }
                Detector::Process | Detector::Container | Detector::Systemd => continue,
            };
            facts.retain(|name| self.config.sets(*detector, name));
            place.merge(facts);
        }
        found
    }

    fn refresh(&mut self, now: Instant) {
        if now >= self.next {
            let interval = self.config.refresh_interval.0.max(Duration::from_secs(1));
            self.next = now + interval;
            self.processes.forget(now, interval * 4);
            let host = self.look();
            if host != self.host {
                self.host = host;
                self.changes.add(1);
            }
        }
    }

    /// Describes a resource.
    fn enrich(&self, resource: &mut Resource, native: bool) {
        let replace = self.config.replace.unwrap_or(native);
        // Who a resource is, its own program knows better than the agent's environment.
        let own = |key: &str| key.starts_with("service.") || key.starts_with("process.");
        let foreign = !native && self.config.replace != Some(true) && self.is_elsewhere(resource);
        self.host.told.apply(resource, |key| replace && !own(key));
        if !foreign {
            self.host.host.apply(resource, |_| replace);
        }
        if native {
            self.host.fingerprint.apply(resource, |_| replace);
        }
        self.enriched.add(1);
    }

    /// Describes a process of this host and what happened to it.
    fn enrich_process(
        &mut self,
        of: &mut ResourceProfiles,
        dictionary: &mut Dictionary,
        builds: &Builds,
        now: Instant,
    ) {
        let pid = of.resource.get(PROCESS_PID).and_then(Value::as_int);
        let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) else { return };
        let executable = of.resource.get(PROCESS_EXECUTABLE_PATH).and_then(Value::as_str);
        let profiles = of.scopes.iter().flat_map(|scope| &scope.profiles);
        let end = |time: u64, length: u64| if time == 0 { 0 } else { time.saturating_add(length) };
        let ends = profiles.map(|profile| end(profile.time_unix_nano, profile.duration_nano));
        let build = executable.and_then(|path| builds.of(path, of, dictionary));
        let on = self.config.has(Detector::Fingerprint);
        let build = build.filter(|_| on).map(|mut build| {
            build.retain(|name| self.config.sets(Detector::Fingerprint, name));
            build
        });
        let wanted = ProcessQuery {
            pid,
            executable,
            end: ends.max().unwrap_or(0),
            window: self.windows,
            build: build.as_ref(),
        };
        let described = self.processes.describe(wanted, &self.config, now);
        let is_known = described.is_some();
        let known = described.as_ref().and_then(|described| described.made.clone());
        let made = match known {
            _ if !on => Facts::default(),
            Some(made) => made,
            None => {
                let mut made = self.makings.of(executable, of, dictionary);
                made.facts.retain(|name| self.config.sets(Detector::Fingerprint, name));
                if is_known { self.processes.learn(pid, made) } else { made.facts }
            }
        };
        let Some(Described { mut facts, throttling, .. }) = described else {
            self.gone.add(1);
            let mut facts = build.unwrap_or_default();
            facts.merge(made);
            facts.apply(&mut of.resource, |_| false);
            return;
        };
        facts.merge(made);
        let replace = self.config.replace.unwrap_or(false);
        facts.apply(&mut of.resource, |_| replace);
        let rows = throttling.map(|throttling| self.rows(throttling, dictionary));
        for profile in of.scopes.iter_mut().flat_map(|scope| &mut scope.profiles) {
            for row in rows.iter().flatten() {
                // Another processor of this kind may have been here.
                let key = dictionary.attributes.key(*row);
                let mut there = profile.attributes.iter();
                if there.all(|there| dictionary.attributes.key(*there) != key) {
                    profile.attributes.push(*row);
                }
            }
        }
    }

    /// What happened, as attributes of a profile.
    fn rows(&self, happened: Throttling, dictionary: &mut Dictionary) -> Vec<AttributeIx> {
        let Throttling { periods, throttled, nanoseconds } = happened;
        let all = [
            ("profpipe.environment.cgroup.cpu.throttled_time", nanoseconds),
            ("profpipe.environment.cgroup.cpu.throttled_periods", throttled),
            ("profpipe.environment.cgroup.cpu.periods", periods),
        ];
        let wanted =
            all.into_iter().filter(|(key, _)| self.config.sets(Detector::Fingerprint, key));
        wanted
            .map(|(key, value)| {
                let key = dictionary.strings.intern(key);
                let value = Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
                dictionary.attributes.intern(key, value, StringIx::NONE)
            })
            .collect()
    }

    /// Whether a resource says that it is on another host than this.
    fn is_elsewhere(&self, resource: &Resource) -> bool {
        let [name, id] = &self.host.names;
        let other = |key, ours: &Option<Value>| {
            resource.get(key).is_some_and(|theirs| Some(theirs) != ours.as_ref())
        };
        other(HOST_NAME, name) || other("host.id", id)
    }
}

impl Processor for ResourceDetection {
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        self.listen(Instant::now(), out);
        let Some(waiting) = &mut self.waiting else { return self.pass(batch, out) };
        // What makes no sense is refused at once.
        batch.summary().map_err(|cause| Error::with_source("cannot read the batch", cause))?;
        match waiting.hold(batch) {
            Some(oldest) => self.pass(oldest, out),
            None => Ok(()),
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        self.listen(now, out);
        self.refresh(now);
    }

    fn finish(&mut self, deadline: Instant, out: &mut Outbox) {
        if let Some(waiting) = &mut self.waiting {
            waiting.wait(deadline);
        }
        self.listen(deadline, out);
        self.give_up(out);
    }

    fn wants(&self) -> Access {
        Access::Samples
    }
}

impl ResourceDetection {
    /// Hears what metadata services have said, and lets go what waited for it.
    fn listen(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(clouds) = self.waiting.as_mut().and_then(|waiting| waiting.answers(now)) {
            if !clouds.is_empty() {
                // Services that have said nothing are asked again by the next processor.
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *known = Some(clouds.clone());
            }
            self.clouds = clouds;
            self.host = self.look();
            self.give_up(out);
        }
    }

    /// Waits no more.
    fn give_up(&mut self, out: &mut Outbox) {
        for batch in self.waiting.take().into_iter().flat_map(Waiting::into_batches) {
            let receipt = batch.receipt.clone();
            if let Err(error) = self.pass(batch, out) {
                receipt.settle(Outcome::Rejected(error.chain()));
            }
        }
    }

    fn pass(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        let native = batch.context.origin == Origin::ThisHost;
        let profiles = batch
            .profiles_mut()
            .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
        let Profiles { dictionary, resources } = profiles;
        let now = Instant::now();
        self.windows += 1;
        self.makings.listen();
        let builds = if native { Builds::read(dictionary) } else { Builds::default() };
        for of in resources {
            if native {
                self.enrich_process(of, dictionary, &builds, now);
            }
            self.enrich(&mut of.resource, native);
        }
        out.push(batch);
        Ok(())
    }
}
