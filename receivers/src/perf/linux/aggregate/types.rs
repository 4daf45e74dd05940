//! The sample types of a receiver's profiles, and which events and measures they are made of.

use profpipe_profile::{Profile, Strings, ValueType};

use crate::perf::linux::events::attr::Kind;
use crate::perf::linux::events::chosen::Chosen;
use crate::perf::linux::handoff::EventIx;
use crate::perf::{Event, Faults};

/// What a sample type tells of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How many samples there were.
    Samples,
    /// What they stand for.
    Weight,
    /// How many events they stand for.
    Events,
}

/// A sample type.
#[derive(Debug, Clone)]
pub(crate) struct SampleType {
    kind: String,
    unit: String,
    pub(crate) measure: Measure,
    /// The events whose rows it has.
    pub(crate) events: Vec<EventIx>,
    /// What lies between two samples: kind, unit and how many; none where that is not regular.
    period: Option<(&'static str, &'static str, i64)>,
}

/// The sample types of a receiver.
#[derive(Debug, Clone)]
pub(crate) struct SampleTypes(Vec<SampleType>);

impl SampleTypes {
    /// Those of these events, where clocks have so many samples a second.
    pub(crate) fn new(chosen: &Chosen, frequency: u32) -> Self {
        let mut types: Vec<SampleType> = Vec::new();
        let mut add = |kind: &str, unit: &str, measure, events: Vec<EventIx>, period| {
            let (kind, unit) = (kind.to_owned(), unit.to_owned());
            let same = |it: &&mut SampleType| (&it.kind, &it.unit) == (&kind, &unit);
            match types.iter_mut().find(same) {
                Some(SampleType { events: known, .. }) => known.extend(events),
                None => types.push(SampleType { kind, unit, measure, events, period }),
            }
        };
        let period = 1_000_000_000 / i64::from(frequency.max(1));
        let period = Some(("cpu", "nanoseconds", period));
        for (event, kind) in chosen.numbered() {
            let asked = chosen.ring.get(event.at()).and_then(|it| it.event.as_ref());
            match (kind, asked) {
                (Kind::Cpu, _) => {
                    add("samples", "count", Measure::Samples, vec![event], period);
                    add("cpu", "nanoseconds", Measure::Weight, vec![event], period);
                }
                (Kind::PageFaults { kind, .. }, _) => {
                    let name = match kind {
                        Faults::All => "page_faults",
                        Faults::Major => "page_faults_major",
                    };
                    add(name, "count", Measure::Weight, vec![event], None);
                }
                (_, Some(Event::Calls(_))) => {
                    add("calls", "count", Measure::Weight, vec![event], None);
                }
                (Kind::Tracepoint { .. }, Some(Event::BlockIo(_))) => {
                    add("io_bytes", "bytes", Measure::Weight, vec![event], None);
                    add("io_requests", "count", Measure::Events, vec![event], None);
                }
                (Kind::BlocksDone { .. }, _) => {
                    add("io_time", "nanoseconds", Measure::Weight, vec![event], None);
                }
                (_, Some(Event::Tracepoint(options))) => {
                    let name = options.value.as_ref().unwrap_or(&options.name);
                    let unit = options.unit.as_deref().unwrap_or("count");
                    add(name, unit, Measure::Weight, vec![event], None);
                }
                (_, Some(Event::Counter(options))) => {
                    add(&options.name, "count", Measure::Weight, vec![event], None);
                }
                _ => {}
            }
        }
        if chosen.off_cpu.is_some() {
            let event = chosen.off_cpu_number();
            add("off_cpu", "nanoseconds", Measure::Weight, vec![event], None);
            if chosen.wall {
                let both = vec![EventIx::FIRST, event];
                add("wall", "nanoseconds", Measure::Weight, both, None);
            }
        }
        if let Some(options) = &chosen.heap {
            let [bytes, blocks, live_bytes, live_blocks] = chosen.heap_numbers();
            let interval = i64::try_from(options.interval()).unwrap_or(i64::MAX);
            let period = Some(("space", "bytes", interval));
            add("alloc_space", "bytes", Measure::Weight, vec![bytes], period);
            add("alloc_objects", "count", Measure::Weight, vec![blocks], period);
            if options.live {
                add("inuse_space", "bytes", Measure::Weight, vec![live_bytes], period);
                add("inuse_objects", "count", Measure::Weight, vec![live_blocks], period);
            }
        }
        Self(types)
    }

    /// The one that is shown first.
    pub(super) fn default_type(&self) -> &str {
        let is_shown = |of: &&SampleType| of.measure == Measure::Weight;
        self.0.iter().find(is_shown).map_or("cpu", |of| &of.kind)
    }

    /// Each type, with a profile without samples that has what they share.
    pub(super) fn profiles(
        &self,
        strings: &mut Strings,
        shared: &Profile,
    ) -> Vec<(SampleType, Profile)> {
        let mut value_type = |kind: &str, unit: &str| ValueType {
            kind: strings.intern(kind),
            unit: strings.intern(unit),
        };
        let mut profile = |of: &SampleType| {
            let sample_type = value_type(&of.kind, &of.unit);
            let (period_type, period) = match of.period {
                Some((kind, unit, period)) => (value_type(kind, unit), period),
                None => (ValueType::default(), 0),
            };
            let profile = Profile { sample_type, period_type, period, ..shared.clone() };
            (of.clone(), profile)
        };
        self.0.iter().map(&mut profile).collect()
    }
}
