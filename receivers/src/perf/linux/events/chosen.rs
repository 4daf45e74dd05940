//! Which events a receiver has: what its configuration asks for and the host allows.

use profpipe_engine::component::Error;

use super::attr::{Choices, Kind};
use super::session::{is_denied, unusable};
use super::target::Target;
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::looks::rights::Limit;
use crate::perf::{Event, Every, OffCpu, PageFaults};

/// A sample for so many faults where nothing else is said: of chosen processes for good, of the whole
/// host until it is known how many there are.
pub(crate) const FIRST_EVERY: u64 = 61;

/// The events of a receiver.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// Those that write into rings, in the order of their numbers; at least one.
    pub(crate) kinds: Vec<Kind>,
    /// What looks at threads that wait, if that is wanted; its number is the next.
    pub(crate) off_cpu: Option<OffCpu>,
    /// The sum of both is wanted, too.
    pub(crate) wall: bool,
    /// What `page_faults` was told.
    pub(crate) page_faults: Option<PageFaults>,
    /// The names of those that the host does not allow.
    pub(crate) missing: Vec<&'static str>,
}

impl Chosen {
    /// What a configuration asks for.
    pub(crate) fn new(events: &[Event]) -> Self {
        let mut chosen = Self {
            kinds: Vec::new(),
            off_cpu: None,
            wall: false,
            page_faults: None,
            missing: Vec::new(),
        };
        let mut cpu = false;
        for event in events {
            match event {
                Event::Cpu => cpu = true,
                Event::OffCpu(options) => {
                    chosen.off_cpu.get_or_insert(*options);
                }
                Event::Wall(options) => {
                    cpu = true;
                    chosen.off_cpu = Some(*options);
                    chosen.wall = true;
                }
                Event::PageFaults(options) => chosen.page_faults = Some(*options),
            }
        }
        if cpu {
            chosen.kinds.push(Kind::Cpu);
        }
        if let Some(PageFaults { kind, every, .. }) = chosen.page_faults {
            let every = match every {
                Every::Auto => FIRST_EVERY,
                Every::Count(every) => every,
            };
            chosen.kinds.push(Kind::PageFaults { kind, every });
        }
        chosen.fill();
        chosen
    }

    /// Something has to report mappings and forks.
    fn fill(&mut self) {
        if self.kinds.is_empty() {
            self.kinds.push(Kind::Nothing);
        }
    }

    /// Whether there are only looks, which need no event: an event of a thread makes each of its switches
    /// slower, even one that counts nothing.
    pub(crate) fn is_without_events(&self) -> bool {
        self.kinds == [Kind::Nothing]
    }

    /// Whether time on CPUs is sampled.
    pub(crate) fn has_cpu(&self) -> bool {
        self.kinds.first() == Some(&Kind::Cpu)
    }

    /// The number of what looks at waiting threads.
    pub(crate) fn off_cpu_number(&self) -> EventIx {
        EventIx(self.kinds.len() as u8)
    }

    /// The events with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (EventIx, Kind)> + use<'_> {
        self.kinds.iter().enumerate().map(|(at, kind)| (EventIx(at as u8), *kind))
    }

    /// Leaves out looks at threads of a scope where the host does not allow them; says so.
    pub(crate) fn leave_out_looks(
        &mut self,
        limit: Option<Limit>,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(options) = self.off_cpu else { return Ok(()) };
        let name =
            if self.wall { Event::Wall(options).name() } else { Event::OffCpu(options).name() };
        match limit {
            None => {}
            Some(Limit::Less(what)) => remarks.push(format!("`{name}`: {what}")),
            Some(Limit::Nothing(why)) if options.required => {
                return Err(Error::new(format!("`{name}` cannot be had here: {why}")));
            }
            Some(Limit::Nothing(why)) => {
                remarks.push(format!("`{name}` cannot be had here and is left out: {why}"));
                self.missing.push(name);
                (self.off_cpu, self.wall) = (None, false);
            }
        }
        Ok(())
    }

    /// Leaves out what cannot be opened on a process and CPU although the clock can; says so.
    pub(crate) fn leave_out_missing(
        &mut self,
        choices: &Choices,
        target: &Target,
        cpu: i32,
        remarks: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(options) = self.page_faults else { return Ok(()) };
        let is_faults = |kind: &Kind| matches!(kind, Kind::PageFaults { .. });
        let Some(kind) = self.kinds.iter().copied().find(is_faults) else { return Ok(()) };
        let Err(error) = target.open(&choices.sampling(kind, false), cpu) else {
            return Ok(());
        };
        if options.required {
            return Err(unusable(&error));
        }
        let grant = match is_denied(&error) {
            true => "; grant it with `sudo sysctl kernel.perf_event_paranoid=1`",
            false => "",
        };
        let name = Event::PageFaults(options).name();
        remarks.push(format!("`{name}` cannot be sampled here ({error}) and is left out{grant}"));
        self.missing.push(name);
        self.kinds.retain(|kind| !is_faults(kind));
        self.fill();
        Ok(())
    }
}
