//! Whether a file is HotSpot, and what it is in a process.
//!
//! By what it exports: the tables that describe its structures. GraalVM's native images and OpenJ9 have none.

use super::HotSpot;
use super::heap::CodeHeap;
use super::layout::{Layout, Missing};
use super::tables::{self, Tables};
use crate::perf::linux::runtimes::memory::Memory;
use crate::perf::linux::runtimes::symbols::Symbols;
use profpipe_host::content::Content;

/// The first and the last version whose frames are understood.
const VERSIONS: std::ops::RangeInclusive<u32> = 17..=25;

/// A file that is HotSpot: its variables by its own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotSpotFile {
    variables: Vec<(&'static str, u64)>,
}

/// Why a HotSpot is shown as native code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsupported {
    /// Its version was not tried.
    Version(u32),
    /// It does not describe a structure that is needed.
    Structure(Missing),
}

impl HotSpotFile {
    /// Looks at a file; none if it is not HotSpot, or of a processor whose frames are not understood.
    pub(crate) fn read<C: Content + ?Sized>(content: &C) -> Option<Self> {
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let symbols = Symbols::exported(content, tables::MARK)?;
        let find = |name| Some((name, symbols.find(name)?.address));
        let variables = tables::variables().map(find).collect::<Option<Vec<_>>>()?;
        Some(Self { variables })
    }

    /// HotSpot in a process that has the file so far from its own addresses; none if the process cannot be
    /// read, or has not come so far.
    pub(crate) fn in_process(
        &self,
        bias: u64,
        memory: &mut dyn Memory,
    ) -> Option<Result<HotSpot, Unsupported>> {
        let at = |wanted: &str| {
            let (_, address) = self.variables.iter().find(|(name, _)| *name == wanted)?;
            Some(address.wrapping_add(bias))
        };
        let tables = Tables::read(&at, memory)?;
        let layout = match Layout::of(&tables, memory) {
            Ok(layout) => layout,
            Err(missing) => return Some(Err(Unsupported::Structure(missing))),
        };
        if layout.version == 0 || layout.call_stub_return == 0 {
            // It writes that down when it begins.
            return None;
        }
        if !VERSIONS.contains(&layout.version) {
            return Some(Err(Unsupported::Version(layout.version)));
        }
        let heaps = CodeHeap::all(&layout, memory)?;
        Some(Ok(HotSpot::new(layout, heaps)))
    }
}
