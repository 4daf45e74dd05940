//! What of a batch goes: conditions asked from resources down to samples.
//!
//! What is gone is asked no more. Judging changes nothing, so that a batch that loses nothing is
//! neither copied nor encoded again.

use std::collections::BTreeMap;

use profpipe_profile::{Dictionary, Profile, Profiles, Resource, SampleRef, Samples};

use super::Rules;
use super::condition::{Asked, Condition, Subject};
use super::config::ErrorMode;
use super::language::{Level, Outcome};

/// What was dropped, and what had no answer.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Samples and the sum of their values, by condition and type.
    pub(super) dropped: BTreeMap<(String, &'static str), (u64, u64)>,
    /// Times that a condition had no answer.
    pub(super) faults: u64,
    /// The first of these that is to be logged.
    pub(super) complaint: Option<String>,
    /// Anything was dropped, if only profiles without samples.
    any: bool,
}

impl Tally {
    pub(super) fn drops(&self) -> bool {
        self.any
    }

    fn drop_samples(&mut self, at: &str, kind: &'static str, samples: u64, value: u64) {
        self.any = true;
        let entry = self.dropped.entry((at.to_owned(), kind)).or_default();
        entry.0 = entry.0.saturating_add(samples);
        entry.1 = entry.1.saturating_add(value);
    }

    fn drop_profile(&mut self, at: &str, dictionary: &Dictionary, profile: &Profile) {
        let samples = profile.samples.len() as u64;
        let value = profile.samples.iter().map(magnitude).fold(0, u64::saturating_add);
        self.drop_samples(at, type_of(dictionary, profile), samples, value);
    }
}

/// A sample's weight as a counter counts it.
fn magnitude(sample: SampleRef<'_>) -> u64 {
    u64::try_from(sample.weight()).unwrap_or_default()
}

/// A profile's type as a label: senders choose types freely, so that only those that are usual get
/// one of their own.
fn type_of(dictionary: &Dictionary, profile: &Profile) -> &'static str {
    const USUAL: &[(&str, &str, &str)] = &[
        ("cpu", "nanoseconds", "cpu/nanoseconds"),
        ("samples", "count", "samples/count"),
        ("wall", "nanoseconds", "wall/nanoseconds"),
        ("off_cpu", "nanoseconds", "off_cpu/nanoseconds"),
        ("alloc_objects", "count", "alloc_objects/count"),
        ("alloc_space", "bytes", "alloc_space/bytes"),
        ("inuse_objects", "count", "inuse_objects/count"),
        ("inuse_space", "bytes", "inuse_space/bytes"),
        ("goroutine", "count", "goroutine/count"),
        ("contentions", "count", "contentions/count"),
        ("delay", "nanoseconds", "delay/nanoseconds"),
    ];
    let kind = dictionary.strings.get(profile.sample_type.kind);
    let unit = dictionary.strings.get(profile.sample_type.unit);
    let usual = USUAL.iter().find(|(known, of, _)| *known == kind && *of == unit);
    usual.map_or("other", |(_, _, label)| label)
}

/// What stays, in the order of the batch.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    resources: Vec<bool>,
    /// Of the resources that stay.
    scopes: Vec<bool>,
    /// Of the scopes that stay.
    profiles: Vec<Fate>,
}

/// What becomes of a profile.
#[derive(Debug)]
enum Fate {
    Stays,
    Goes,
    /// With these of its samples only.
    Thinned(Vec<bool>),
}

impl Verdict {
    /// Takes away what goes, and what is empty thereby.
    pub(super) fn apply(self, profiles: &mut Profiles) {
        let mut resources = self.resources.into_iter();
        profiles.resources.retain(|_| resources.next().unwrap_or(true));
        let mut scopes = self.scopes.into_iter();
        let mut fates = self.profiles.into_iter();
        profiles.resources.retain_mut(|resource| {
            let before = resource.scopes.len();
            resource.scopes.retain(|_| scopes.next().unwrap_or(true));
            resource.scopes.retain_mut(|scope| {
                let before = scope.profiles.len();
                scope.profiles.retain_mut(|profile| match fates.next() {
                    None | Some(Fate::Stays) => true,
                    Some(Fate::Goes) => false,
                    Some(Fate::Thinned(stays)) => {
                        thin(&mut profile.samples, &stays);
                        // It tells of samples that are gone.
                        profile.original_payload = Default::default();
                        profile.original_payload_format.clear();
                        true
                    }
                });
                before == scope.profiles.len() || !scope.profiles.is_empty()
            });
            before == resource.scopes.len() || !resource.scopes.is_empty()
        });
    }
}

fn thin(samples: &mut Samples, stays: &[bool]) {
    let old = std::mem::take(samples);
    samples.reserve(stays.iter().filter(|stays| **stays).count());
    for (sample, stays) in old.iter().zip(stays) {
        if *stays {
            samples.push(sample);
        }
    }
}

/// The conditions of a batch.
pub(super) struct Judge<'r> {
    /// By level: resource, scope, profile, sample.
    drops: [Vec<Asked<'r>>; 4],
    keep_resources: Vec<Asked<'r>>,
    keep_profiles: Vec<Asked<'r>>,
    keep_samples: Vec<Asked<'r>>,
    pub(super) tally: Tally,
}

/// What a list of conditions says.
enum Word<'r> {
    Stays,
    /// For the condition that is written there.
    Goes(&'r str),
}

impl<'r> Judge<'r> {
    /// Nothing asked yet; without a dictionary only resources can be judged.
    pub(super) fn new(rules: &'r Rules, dictionary: Option<&Dictionary>) -> Self {
        let asked = |list: &'r [Condition]| -> Vec<Asked<'r>> {
            list.iter().map(|condition| Asked::new(condition, dictionary)).collect()
        };
        let drops = [Level::Resource, Level::Scope, Level::Profile, Level::Sample].map(|level| {
            let of_level = rules.drops.iter().filter(|condition| condition.level() == level);
            of_level.map(|condition| Asked::new(condition, dictionary)).collect()
        });
        Self {
            drops,
            keep_resources: asked(&rules.keep_resources),
            keep_profiles: asked(&rules.keep_profiles),
            keep_samples: asked(&rules.keep_samples),
            tally: Tally::default(),
        }
    }

    /// Whether a resource stays by itself.
    ///
    /// # Errors
    /// If a condition has no answer and the batch is to be rejected for that.
    pub(super) fn resource(
        &mut self,
        resource: &Resource,
        schema_url: &str,
    ) -> Result<Option<&'r str>, String> {
        let subject = Subject { resource, schema_url, scope: None, profile: None, sample: None };
        let [drops, ..] = &mut self.drops;
        Ok(
            match word(
                drops,
                &mut self.keep_resources,
                "keep_resources",
                &subject,
                true,
                &mut self.tally,
            )? {
                Word::Stays => None,
                Word::Goes(at) => Some(at),
            },
        )
    }

    /// Judges everything.
    ///
    /// # Errors
    /// As [`Judge::resource`].
    pub(super) fn judge(&mut self, profiles: &Profiles) -> Result<Verdict, String> {
        let dictionary = &profiles.dictionary;
        let mut verdict = Verdict::default();
        for group in &profiles.resources {
            let goes = self.resource(&group.resource, &group.schema_url)?;
            verdict.resources.push(goes.is_none());
            if let Some(at) = goes {
                self.tally.any = true;
                for profile in group.scopes.iter().flat_map(|scope| &scope.profiles) {
                    self.tally.drop_profile(at, dictionary, profile);
                }
                continue;
            }
            let subject = Subject {
                resource: &group.resource,
                schema_url: &group.schema_url,
                scope: None,
                profile: None,
                sample: None,
            };
            for scope in &group.scopes {
                let subject = Subject { scope: Some((&scope.scope, &scope.schema_url)), ..subject };
                let [_, drops, ..] = &mut self.drops;
                match word(drops, &mut [], "", &subject, true, &mut self.tally)? {
                    Word::Stays => verdict.scopes.push(true),
                    Word::Goes(at) => {
                        verdict.scopes.push(false);
                        self.tally.any = true;
                        for profile in &scope.profiles {
                            self.tally.drop_profile(at, dictionary, profile);
                        }
                        continue;
                    }
                }
                for profile in &scope.profiles {
                    let subject = Subject { profile: Some((dictionary, profile)), ..subject };
                    verdict.profiles.push(self.profile(dictionary, profile, subject)?);
                }
            }
        }
        Ok(verdict)
    }

    fn profile(
        &mut self,
        dictionary: &Dictionary,
        profile: &Profile,
        subject: Subject<'_>,
    ) -> Result<Fate, String> {
        let Self {
            drops: [.., of_profiles, of_samples], keep_profiles, keep_samples, tally, ..
        } = self;
        if let Word::Goes(at) =
            word(of_profiles, keep_profiles, "keep_profiles", &subject, true, tally)?
        {
            tally.drop_profile(at, dictionary, profile);
            return Ok(Fate::Goes);
        }
        if of_samples.is_empty() && keep_samples.is_empty() || profile.samples.is_empty() {
            return Ok(Fate::Stays);
        }
        for asked in of_samples.iter_mut().chain(keep_samples.iter_mut()) {
            asked.begin();
        }
        let kind = type_of(dictionary, profile);
        let mut stays = Vec::with_capacity(profile.samples.len());
        let mut kept = 0;
        for sample in profile.samples.iter() {
            let subject = Subject { sample: Some(sample), ..subject };
            match word(of_samples, keep_samples, "keep_samples", &subject, false, tally)? {
                Word::Stays => {
                    kept += 1;
                    stays.push(true);
                }
                Word::Goes(at) => {
                    tally.drop_samples(at, kind, 1, magnitude(sample));
                    stays.push(false);
                }
            }
        }
        Ok(match kept {
            0 => Fate::Goes,
            _ if kept == stays.len() => Fate::Stays,
            _ => Fate::Thinned(stays),
        })
    }
}

/// What the conditions of one level say of a subject; `begins` unless it is one of many samples.
fn word<'r>(
    drops: &mut [Asked<'r>],
    keeps: &mut [Asked<'r>],
    keeps_at: &'r str,
    subject: &Subject<'_>,
    begins: bool,
    tally: &mut Tally,
) -> Result<Word<'r>, String> {
    for asked in drops {
        if begins {
            asked.begin();
        }
        match asked.ask(subject) {
            Outcome::True => return Ok(Word::Goes(&asked.condition.place.at)),
            Outcome::Fault => complain(asked, subject, tally)?,
            Outcome::False | Outcome::Unknown => {}
        }
    }
    let mut stays = keeps.is_empty();
    for asked in keeps {
        if begins {
            asked.begin();
        }
        match asked.ask(subject) {
            Outcome::True => return Ok(Word::Stays),
            // An error never drops.
            Outcome::Fault => {
                complain(asked, subject, tally)?;
                stays = true;
            }
            Outcome::False | Outcome::Unknown => {}
        }
    }
    Ok(if stays { Word::Stays } else { Word::Goes(keeps_at) })
}

/// Takes note of a condition without an answer.
fn complain(asked: &Asked<'_>, subject: &Subject<'_>, tally: &mut Tally) -> Result<(), String> {
    tally.faults = tally.faults.saturating_add(1);
    let place = &asked.condition.place;
    let message = || format!("{}: {}", place.at, asked.fault(subject));
    match place.mode {
        ErrorMode::Propagate => Err(message()),
        ErrorMode::Ignore => {
            tally.complaint.get_or_insert_with(message);
            Ok(())
        }
        ErrorMode::Silent => Ok(()),
    }
}
