//! Debug information that the compiler left in files of its own: `.dwp` packages and `.dwo` files.
//!
//! The program has skeletons then: lines, but no functions. A line is where inlined code was written, so
//! without the functions it must not be shown under the name of the one that was called. What an
//! address needs and is not here is noted, for the processor to look for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use addr2line::SplitDwarfLoad;
use gimli::{Dwarf, DwarfPackage, RunTimeEndian, SectionId};

use super::dwarf::Reader;

/// The most files that are noted as missing at a time, and the longest path of one.
const MAX_WANTED: usize = 64;
/// See there.
const MAX_PATH: usize = 4096;
/// The sections of such files: an index refers to all that there are, whether they matter here or not.
pub(super) const SECTIONS: [SectionId; 13] = [
    SectionId::DebugAbbrev,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugMacinfo,
    SectionId::DebugMacro,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugTypes,
    SectionId::DebugCuIndex,
    SectionId::DebugTuIndex,
];

/// The sections of one file.
#[derive(Debug)]
pub(super) struct SplitSections<'a> {
    pub(super) content: HashMap<SectionId, &'a [u8]>,
    pub(super) endian: RunTimeEndian,
}

/// The files of a module, by what they hold.
#[derive(Default)]
pub(super) struct Splits<'a> {
    package: Option<DwarfPackage<Reader<'a>>>,
    /// By the id that the skeleton has.
    units: HashMap<u64, SplitSections<'a>>,
    /// Paths of files that an address needed.
    wanted: BTreeSet<String>,
}

impl<'a> SplitSections<'a> {
    fn reader(&self, id: SectionId) -> Reader<'a> {
        Reader::new(self.content.get(&id).copied().unwrap_or_default(), self.endian)
    }

    fn dwarf(&self) -> Option<Dwarf<Reader<'a>>> {
        Dwarf::load(|id| Ok::<_, gimli::Error>(self.reader(id))).ok()
    }

    /// The id of the unit in it; none if there is no such unit.
    fn id(&self) -> Option<u64> {
        let mut dwarf = self.dwarf()?;
        dwarf.file_type = gimli::DwarfFileType::Dwo;
        let mut units = dwarf.units();
        // Units of types come before it in DWARF 5.
        while let Some(header) = units.next().ok()? {
            if let Some(id) = dwarf.unit(header).ok().and_then(|unit| unit.dwo_id) {
                return Some(id.0);
            }
        }
        None
    }
}

impl<'a> Splits<'a> {
    /// What is in a package and in files.
    pub(super) fn new(
        package: Option<SplitSections<'a>>,
        files: impl Iterator<Item = SplitSections<'a>>,
    ) -> Self {
        let package = package.and_then(|sections| {
            let empty = Reader::new(&[], sections.endian);
            DwarfPackage::load(|id| Ok::<_, gimli::Error>(sections.reader(id)), empty).ok()
        });
        let units = files.filter_map(|sections| Some((sections.id()?, sections))).collect();
        Self { package, units, wanted: BTreeSet::new() }
    }

    /// The debug information that belongs to a skeleton; where it is not here, that is noted.
    pub(super) fn load(
        &mut self,
        wanted: &SplitDwarfLoad<Reader<'a>>,
    ) -> Option<Arc<Dwarf<Reader<'a>>>> {
        let parent = &wanted.parent;
        let in_package = self.package.as_ref();
        if let Some(found) = in_package.and_then(|it| it.find_cu(wanted.dwo_id, parent).ok()?) {
            return Some(Arc::new(found));
        }
        if let Some(sections) = self.units.get(&wanted.dwo_id.0) {
            let mut found = sections.dwarf()?;
            found.make_dwo(parent);
            return Some(Arc::new(found));
        }
        let text = |part: &Option<Reader<'a>>| {
            let part = part.as_ref()?.slice();
            (part.len() <= MAX_PATH).then(|| String::from_utf8_lossy(part).into_owned())
        };
        if let Some(path) = text(&wanted.path).filter(|_| self.wanted.len() < MAX_WANTED) {
            // An absolute path stands for itself.
            let directory = text(&wanted.comp_dir).unwrap_or_default();
            let path = std::path::Path::new(&directory).join(path);
            self.wanted.extend(path.to_str().map(str::to_owned));
        }
        None
    }

    /// The paths of files that were missing since the last call.
    pub(super) fn take_wanted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wanted).into_iter().collect()
    }
}
