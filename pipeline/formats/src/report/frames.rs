//! Locations as the functions that people see.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use profpipe_profile::{Dictionary, Index, LocationIx, MappingRef, StringIx};

/// A function as shown: its name, and the file that its code is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// The name; `module+0xoffset` if there is none.
    pub name: String,
    /// The last part of the path of the executable or library; empty if unknown.
    pub module: String,
}

/// The functions of locations, each looked up once. Equal functions have equal numbers.
#[derive(Debug)]
pub struct Frames<'a> {
    dictionary: &'a Dictionary,
    frames: Vec<Frame>,
    /// Of each function the source file that was seen first; empty if none was.
    files: Vec<StringIx>,
    /// Whether a function has no name of its own.
    unnamed: Vec<bool>,
    numbers: HashMap<Frame, u32, RandomState>,
    /// The functions of all locations looked up, end to end.
    lines: Vec<u32>,
    locations: Vec<Option<Range<usize>>>,
}

impl<'a> Frames<'a> {
    /// Without any, for the locations of this dictionary.
    pub fn new(dictionary: &'a Dictionary) -> Self {
        Self {
            dictionary,
            frames: Vec::new(),
            files: Vec::new(),
            unnamed: Vec::new(),
            numbers: HashMap::default(),
            lines: Vec::new(),
            locations: vec![None; dictionary.locations.len()],
        }
    }

    /// All functions that were looked up, by their numbers.
    pub fn into_frames(self) -> Vec<Frame> {
        self.frames
    }

    /// How many functions were looked up; their numbers are below that.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True if none was looked up.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The source file of a function; empty if it is not known.
    pub fn file(&self, number: u32) -> &'a str {
        let file = self.files.get(number as usize).copied().unwrap_or_default();
        self.dictionary.strings.get(file)
    }

    /// Whether a function has no name of its own, so that it is called by its address.
    pub fn is_unnamed(&self, number: u32) -> bool {
        self.unnamed.get(number as usize).copied().unwrap_or_default()
    }

    /// The functions at a location, the innermost inlined one first; never none.
    pub fn of(&mut self, location: LocationIx) -> &[u32] {
        let range = match self.locations.get(location.at()) {
            Some(Some(range)) => range.clone(),
            _ => self.look_up(location),
        };
        self.lines.get(range).unwrap_or_default()
    }

    fn look_up(&mut self, location: LocationIx) -> Range<usize> {
        let dictionary = self.dictionary;
        let row = dictionary.locations.get(location);
        let mapping = dictionary.mappings.get(row.mapping);
        let module = basename(dictionary.strings.get(mapping.filename));
        let start = self.lines.len();
        for line in row.lines {
            let function = dictionary.functions.get(line.function);
            let name = match dictionary.strings.get(function.name) {
                "" => dictionary.strings.get(function.system_name),
                name => name,
            };
            let is_unnamed = name.is_empty();
            let name = match name {
                "" => unsymbolized(module, mapping, row.address),
                name => name.to_owned(),
            };
            self.push(Frame { name, module: module.to_owned() }, function.filename, is_unnamed);
        }
        if row.lines.is_empty() {
            let name = unsymbolized(module, mapping, row.address);
            self.push(Frame { name, module: module.to_owned() }, StringIx::NONE, true);
        }
        let range = start..self.lines.len();
        if let Some(slot) = self.locations.get_mut(location.at()) {
            *slot = Some(range.clone());
        }
        range
    }

    fn push(&mut self, frame: Frame, file: StringIx, is_unnamed: bool) {
        let number = self.number(frame);
        self.lines.push(number);
        if let Some(known) = self.files.get_mut(number as usize)
            && known.is_none()
        {
            *known = file;
        }
        if let Some(unnamed) = self.unnamed.get_mut(number as usize) {
            *unnamed = is_unnamed;
        }
    }

    /// The number of a frame that no location stands for.
    pub fn number(&mut self, frame: Frame) -> u32 {
        if let Some(number) = self.numbers.get(&frame) {
            return *number;
        }
        let number = self.frames.len() as u32;
        self.frames.push(frame.clone());
        self.files.push(StringIx::NONE);
        self.unnamed.push(false);
        self.numbers.insert(frame, number);
        number
    }
}

/// What a frame without a name is called: `module+0xoffset`, the offset counted in the file, or the
/// bare address where the file is not known; `[unknown]` if there is not even that.
fn unsymbolized(module: &str, mapping: MappingRef<'_>, address: u64) -> String {
    if module.is_empty() && address == 0 {
        return "[unknown]".to_owned();
    }
    if module.is_empty() {
        return format!("{address:#x}");
    }
    let offset = address.wrapping_sub(mapping.memory_start).wrapping_add(mapping.file_offset);
    format!("{module}+{offset:#x}")
}

/// The last part of a path.
fn basename(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}
