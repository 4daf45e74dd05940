//! The rings of a session, as large as the host allows.
//!
//! The memory of rings is locked, and the kernel bounds that for each user. Where it does not allow what
//! is wanted, less is taken: the smallest rings hold no copy of a whole stack, so that becomes smaller
//! too. What was left out is said.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::attr::Choices;
use super::session::{REPORT, unusable};
use super::sys::Attr;
use super::target::Target;
use super::{permission, session};
use crate::perf::linux::records::ring::Ring;
use profpipe_engine::component::Error;

/// The ring for mappings and forks, where they have their own.
const SIDE_RING: usize = 256 << 10;
/// The smallest ring that holds samples with the whole stack copy: one takes 33 KiB.
const FULL_RING: usize = 128 << 10;
/// The smallest ring that is of any use.
const SMALLEST_RING: usize = 16 << 10;

/// How often small rings are asked for again, and the pause before.
const MAX_ATTEMPTS: u32 = 3;
/// See there.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(30);

/// Rings, with the events that own them.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    /// One for each CPU.
    pub(crate) rings: Vec<Ring>,
    pub(crate) owners: Vec<OwnedFd>,
    /// The events that report mappings and forks into rings of their own, where there is a budget.
    pub(crate) reporters: Vec<OwnedFd>,
    /// The CPUs that they are of.
    pub(crate) cpus: Vec<i32>,
}

/// Why there are no rings.
enum RingError {
    /// An event cannot be opened.
    Open(io::Error),
    /// Its ring cannot be mapped.
    Map(io::Error),
}

impl RingError {
    fn explain(&self) -> Error {
        match self {
            Self::Map(error) if session::is_denied(error) => Error::new(permission::ring_memory()),
            Self::Open(error) | Self::Map(error) => unusable(error),
        }
    }
}

impl Rings {
    /// Maps rings of at most `wanted` bytes; `choices` become what fits into those that are allowed,
    /// and `remarks` say so.
    pub(crate) fn map(
        choices: &mut Choices,
        cpus: &[i32],
        wanted: usize,
        (target, budget): (&Target, Option<f64>),
        remarks: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let wanted = wanted.max(rustix::param::page_size());
        let stack = choices.stack;
        let mut size = 1 << wanted.ilog2();
        let mut attempts = MAX_ATTEMPTS;
        loop {
            if size < FULL_RING {
                // A multiple of 8, as the kernel wants it.
                choices.stack = stack.min(size as u32 / 4);
            }
            choices.watermark = (size / 4) as u32;
            let owning = choices.reporting(target.is_per_cpu() && budget.is_none());
            match map_all(&owning, cpus, size, target) {
                Ok(mut mapped) => {
                    if let Some(budget) = budget {
                        let quick = Choices { watermark: side_watermark(budget), ..*choices };
                        let more = map_all(&quick.reporting(true), cpus, SIDE_RING, target)
                            .map_err(|error| error.explain())?;
                        mapped.reporters = more.owners;
                        mapped.rings.extend(more.rings);
                    }
                    if size < wanted / 2 {
                        remarks.push(remark(
                            size,
                            wanted,
                            (choices.stack < stack).then_some(choices.stack),
                        ));
                    }
                    return Ok(mapped);
                }
                Err(RingError::Map(error))
                    if session::is_denied(&error) && size > SMALLEST_RING =>
                {
                    size /= 2;
                }
                // Another recording of this user may be finding out what it can have, too.
                Err(RingError::Map(error)) if session::is_denied(&error) && attempts > 0 => {
                    attempts -= 1;
                    std::thread::sleep(ATTEMPT_PAUSE);
                    size = FULL_RING / 2;
                }
                Err(error) => return Err(error.explain()),
            }
        }
    }
}

/// What is lost with rings of this size.
fn remark(size: usize, wanted: usize, stack: Option<u32>) -> String {
    let cut = match stack {
        Some(stack) => format!(
            ", and of a stack only {} KiB are copied: deep stacks are truncated",
            stack >> 10
        ),
        None => String::new(),
    };
    format!(
        "only {} KiB of ring buffer per CPU are permitted: samples may be lost under load{cut} ({}); \
         grant more with `sudo sysctl kernel.perf_event_mlock_kb={}`, or run as root or with CAP_IPC_LOCK",
        size >> 10,
        permission::ring_memory_limits(),
        (wanted >> 10) + 4
    )
}

/// Opens and maps the ring-owning events. CPUs that went offline are left out.
fn map_all(attr: &Attr, cpus: &[i32], size: usize, target: &Target) -> Result<Rings, RingError> {
    let mut mapped = Rings::default();
    for cpu in cpus {
        let event = match target.open(attr, *cpu) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            other => other.map_err(RingError::Open)?,
        };
        mapped.rings.push(Ring::map(event.as_fd(), size).map_err(RingError::Map)?);
        mapped.owners.push(event);
        mapped.cpus.push(*cpu);
    }
    Ok(mapped)
}

/// How much of the side band wakes the reader: what a fifth of a second's share of the budget pays
/// for. A storm is seen before it has cost much.
fn side_watermark(budget: f64) -> u32 {
    // Some 5 microseconds each.
    let records = 0.15 * budget * 1e9 / 5_000.0 / 2.0;
    (records * REPORT as f64).clamp(2048.0, 32_768.0) as u32
}
