//! Asking one target for one profile, again and again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use profpipe_engine::Sender;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::Error;
use profpipe_engine::settings::ByteSize;
use profpipe_formats::pprof;
use profpipe_profile::attribute_names::{PROFILE_NAME, SERVICE_NAME};
use profpipe_profile::{Profiles, StringIx, Value};
use tokio::sync::Mutex;

use super::delta::{Baseline, Change};
use super::fetch::{Fetcher, HttpResponse};
use super::profiles::Kind;
use super::status::Status;
use super::target::Target;

/// What the scraping of one target needs.
pub(super) struct Scraper {
    pub(super) target: Target,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) max_body: ByteSize,
    pub(super) fetcher: Fetcher,
    pub(super) out: Sender,
    /// Held while the host and port measures: a program can take only one CPU profile at a time.
    pub(super) measuring: Arc<Mutex<()>>,
    /// The last counts of the target.
    pub(super) baseline: Arc<Mutex<Baseline>>,
    pub(super) status: Status,
}

impl Scraper {
    /// Scrapes until aborted, or until the pipeline is gone.
    pub(super) async fn run(mut self) {
        let baseline = Arc::clone(&self.baseline);
        // Nobody else has it: a receiver ends before the next one of its id starts.
        let mut baseline = baseline.lock().await;
        let first = tokio::time::Instant::now() + self.interval.mul_f64(self.target.phase());
        let mut ticks = tokio::time::interval_at(first, self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let started = Instant::now();
            let scraped = self.scrape(&mut baseline).await;
            self.status.scraped(started.elapsed(), scraped.as_ref().map(Option::is_some));
            match scraped {
                Ok(Some(batch)) => {
                    if self.out.send(batch).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => self.status.complain(&self.target, &error),
            }
        }
    }

    /// One profile; none if there is nothing to tell yet.
    async fn scrape(&mut self, baseline: &mut Baseline) -> Result<Option<Batch>, Error> {
        let measures = self.target.kind == Kind::Window;
        let turn = async { if measures { Some(self.measuring.lock().await) } else { None } };
        let turn = tokio::time::timeout(self.interval, turn).await.map_err(|_| {
            Error::new("another CPU profile of the same address took the whole interval")
        })?;
        let mut limit = self.timeout;
        if measures {
            limit += Duration::from_secs(self.target.seconds);
        }
        let began = nanoseconds();
        let max = usize::try_from(self.max_body.0).unwrap_or(usize::MAX);
        let answer =
            self.fetcher.get(&self.target.request(), self.target.source, limit, max).await?;
        drop(turn);
        let max_body = self.max_body;
        let decoding = tokio::task::spawn_blocking(move || decode(&answer, max_body));
        let mut profiles =
            decoding.await.map_err(|_| Error::new("reading the profile failed"))??;
        self.label(&mut profiles, began);
        if self.target.kind == Kind::Cumulative {
            let change = baseline.subtract(&mut profiles, nanoseconds());
            if change == Change::First {
                return Ok(None);
            }
            if change == Change::Restarted {
                self.status.restarted(&self.target);
            }
        }
        self.status.samples(profiles.sample_count());
        Ok(Some(Batch::new(profiles)))
    }

    /// Says whose profile it is, and when it was taken if it does not say so itself.
    fn label(&self, profiles: &mut Profiles, began: u64) {
        for profile in profiles.profiles_mut() {
            if profile.time_unix_nano == 0 {
                profile.time_unix_nano = began;
            }
            if profile.duration_nano == 0 && self.target.kind == Kind::Window {
                profile.duration_nano = self.target.seconds * 1_000_000_000;
            }
        }
        for resource in &mut profiles.resources {
            for (name, value) in &self.target.labels {
                let name = match name.as_str() {
                    "service_name" => SERVICE_NAME,
                    "instance" => "service.instance.id",
                    other => other,
                };
                resource.resource.set(name, Value::String(value.clone()));
            }
        }
        let name = match self.target.profile.as_str() {
            "fgprof" => "wall",
            name => name.trim_start_matches("godeltaprof_"),
        };
        let key = profiles.dictionary.strings.intern(PROFILE_NAME);
        let value = Value::String(name.to_owned());
        let named = profiles.dictionary.attributes.intern(key, value, StringIx::default());
        for profile in profiles.profiles_mut() {
            profile.attributes.push(named);
        }
    }
}

/// Reads an answer that should be a profile.
fn decode(answer: &HttpResponse, limit: ByteSize) -> Result<Profiles, Error> {
    let foreign = ["text/html", "application/json"];
    if foreign.iter().any(|kind| answer.content_type.starts_with(kind)) {
        return Err(Error::new(format!(
            "the response is {}, not a pprof profile; is the path right?",
            super::target::escaped(&answer.content_type)
        )));
    }
    let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
    pprof::decode_bounded(&answer.body, limit)
        .map_err(|cause| Error::with_source("the response is not a pprof profile", cause))
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
