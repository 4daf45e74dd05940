//! What the drain thread does about runtimes whose frames are on the native stack: has their code read, and
//! leaves samples alone until that is known to be the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};

use super::attached::{Attached, AttachedTable, Processes};
use super::discovery::{Discovery, Request};
use super::function::FunctionKey;
use super::native::{Site, Wants};
use crate::perf::linux::handoff::{Frame, NO_ROW, SITE_ROW};
use crate::perf::linux::processes::host::ThisHost;
use crate::perf::linux::thread::now;

/// For how long after its last sample the code of a process is read again and again, in nanoseconds.
const HOT_NANOS: u64 = 500_000_000;
/// How long a sample is left in its ring at most until code is known to be the same, in nanoseconds.
const LONGEST_WAIT: u64 = 250_000_000;

/// The processes that have such a runtime.
#[derive(Default)]
pub(crate) struct Walks {
    /// A copy of those that are attached to.
    processes: Arc<Processes>,
    version: u64,
    /// Those that were sampled lately.
    hot: HashMap<u32, Hot>,
    /// Functions whose names were asked for.
    asked: HashSet<FunctionKey>,
}

struct Hot {
    attached: Arc<Attached>,
    sampled: u64,
    wants: Wants,
}

impl Walks {
    /// The runtime of a process, if it has one of this kind.
    pub(crate) fn attached(
        &mut self,
        table: &AttachedTable,
        (pid, process): (u32, u32),
    ) -> Option<Arc<Attached>> {
        table.renew(&mut self.processes, &mut self.version);
        let attached = self.processes.get(&pid)?;
        let is_of_use = attached.process == process
            && attached.runtime.native().is_some()
            && !attached.barred.load(Ordering::Relaxed);
        is_of_use.then(|| Arc::clone(attached))
    }

    /// Notes a sample of such a process, and what is to be read of it.
    pub(crate) fn sampled(&mut self, attached: &Arc<Attached>, wants: &Wants) {
        let new = || Hot { attached: Arc::clone(attached), sampled: 0, wants: Wants::default() };
        let hot = self.hot.entry(attached.process).or_insert_with(new);
        hot.sampled = now();
        hot.wants.add(wants);
    }

    /// Since when the code of all that were sampled lately is known to be the same: younger samples wait, but
    /// not for ever. `u64::MAX` if nothing has to be known.
    pub(crate) fn verified(&self, time: u64) -> u64 {
        let verified = self
            .hot
            .values()
            .filter_map(|hot| Some(hot.attached.runtime.native()?.runtime.verified()));
        verified.min().map_or(u64::MAX, |it| it.max(time.saturating_sub(LONGEST_WAIT)))
    }

    /// Has code read.
    pub(crate) fn end_round(&mut self, discovery: Option<&Discovery>) {
        let time = now();
        self.hot.retain(|_, hot| time < hot.sampled + HOT_NANOS);
        for hot in self.hot.values_mut() {
            let (Some(native), Some(discovery)) = (hot.attached.runtime.native(), discovery) else {
                continue;
            };
            if !native.begin(time) {
                continue;
            }
            let wants = std::mem::take(&mut hot.wants);
            if !discovery.ask(Request::Code { attached: Arc::clone(&hot.attached), wants }) {
                native.end();
            }
        }
    }

    /// Forgets which names were asked for: they may have been forgotten since.
    pub(crate) fn ask_again(&mut self) {
        self.asked.clear();
    }

    /// Gives places in managed functions their rows, and has their names read.
    pub(crate) fn place(
        &mut self,
        (frames, sites): (&mut [Frame], &[Site]),
        attached: &Arc<Attached>,
        host: &mut ThisHost,
        discovery: Option<&Discovery>,
    ) {
        let (process, kind) = (attached.process, attached.runtime.frame_type());
        for frame in frames.iter_mut().filter(|frame| frame.row == SITE_ROW) {
            let site = usize::try_from(frame.address).ok().and_then(|at| sites.get(at));
            let Some(Site { code, cookie, position }) = site.copied() else {
                *frame = Frame { row: NO_ROW, address: 0 };
                continue;
            };
            let key = FunctionKey { process, code, cookie };
            *frame = host.managed_frame(key, kind, position);
            if !self.asked.contains(&key)
                && let Some(discovery) = discovery
                && discovery.ask(Request::Name { attached: Arc::clone(attached), key })
            {
                self.asked.insert(key);
            }
        }
    }
}
