//! The pprof profiles of one series: written row by row, and ended where a limit is reached.
//!
//! Only what the rows use is written. Time is left out: it is added when the profile is sent,
//! since two profiles of the same labels must not have the same.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use profpipe_formats::pprof::Writer;
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, PPROF_IS_FOLDED,
};
use profpipe_profile::{
    AttributeIx, Dictionary, FunctionIx, Index, LocationIx, LocationRef, MappingIx, StackIx, Value,
};

use super::numbers::{Numbers, Texts};

/// The most frames of a stack; the server would cut off the leaf.
const MAX_DEPTH: usize = 1000;
/// What stands for the frames left out in the middle of a deep stack.
const TRUNCATED: &str = "[truncated]";

/// What all profiles of a series state.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    /// The type and the unit of each column.
    pub(super) columns: Vec<(String, String)>,
    pub(super) period_type: (String, String),
    pub(super) period: i64,
    pub(super) duration_nanos: u64,
}

/// One row: a stack, its labels and the values of each column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) stack: StackIx,
    pub(super) labels: &'a [(String, String)],
    pub(super) values: &'a [i64],
}

/// The limits of a profile, beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) samples: usize,
    /// Whether a frame without a name gets one.
    pub(super) names_frames: bool,
}

/// Writes the profiles of one batch, one series after the other. What it needs for that is kept from
/// one to the next: a batch has many small series.
pub(super) struct Encoder<'a> {
    dictionary: &'a Dictionary,
    limits: Limits,
    /// Samples and tables of the profile being written.
    output: Writer,
    texts: Texts<'a>,
    mappings: Numbers,
    functions: Numbers,
    /// Functions made up here, by name.
    made_up: HashMap<String, u64, RandomState>,
    locations: Numbers,
    truncated: Option<u64>,
    /// Attributes that say that a location stands for several.
    folded: HashSet<AttributeIx, RandomState>,
    /// The locations of the row being written, and the functions of the location.
    frames: Vec<u64>,
    inlined: Vec<u64>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(dictionary: &'a Dictionary, limits: Limits) -> Self {
        let attributes = &dictionary.attributes;
        let folded = (0..attributes.len() as u32).map(AttributeIx::new).filter(|row| {
            attributes.value(*row).as_bool() == Some(true)
                && dictionary.strings.get(attributes.key(*row)) == PPROF_IS_FOLDED
        });
        Self {
            dictionary,
            limits,
            output: Writer::default(),
            texts: Texts::new(&dictionary.strings),
            mappings: Numbers::new(dictionary.mappings.len()),
            functions: Numbers::new(dictionary.functions.len()),
            made_up: HashMap::default(),
            locations: Numbers::new(dictionary.locations.len()),
            truncated: None,
            folded: folded.collect(),
            frames: Vec::new(),
            inlined: Vec::new(),
        }
    }

    /// Writes rows as profiles of up to so many bytes, as far as single rows allow. Returns each with
    /// the number of its rows.
    pub(super) fn write(
        &mut self,
        header: &Header,
        rows: &[Row<'_>],
        max_bytes: usize,
    ) -> Vec<(Vec<u8>, usize)> {
        let mut profiles = Vec::new();
        let mut rest = rows;
        // A row may bring far more than itself: names and lines of all its frames.
        let mut soft = max_bytes / 8 * 7;
        while !rest.is_empty() {
            self.clear();
            let mut taken = 0;
            for row in rest.iter().take(self.limits.samples.max(1)) {
                self.row(*row);
                taken += 1;
                if self.size() >= soft {
                    break;
                }
            }
            let profile = self.finish(header);
            if profile.len() > max_bytes && taken > 1 {
                soft /= 2;
                continue;
            }
            profiles.push((profile, taken));
            rest = rest.get(taken..).unwrap_or_default();
            soft = max_bytes / 8 * 7;
        }
        profiles
    }

    fn clear(&mut self) {
        self.output.0.clear();
        self.texts.clear();
        self.mappings.clear();
        self.functions.clear();
        self.made_up.clear();
        self.locations.clear();
        self.truncated = None;
    }

    fn size(&self) -> usize {
        self.output.0.len() + self.texts.written.0.len()
    }

    fn row(&mut self, row: Row<'_>) {
        let stack = self.dictionary.stacks.get(row.stack);
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        if stack.len() > MAX_DEPTH {
            // Both ends say more than the middle, which is a recursion.
            let (leaf, root) = (MAX_DEPTH / 2, MAX_DEPTH / 2 - 1);
            let leaf = stack.get(..leaf).unwrap_or_default();
            let root = stack.get(stack.len() - root..).unwrap_or_default();
            frames.extend(leaf.iter().map(|location| self.location(*location)));
            frames.push(self.truncation());
            frames.extend(root.iter().map(|location| self.location(*location)));
        } else {
            frames.extend(stack.iter().map(|location| self.location(*location)));
        }
        let texts = &mut self.texts;
        self.output.message(2, |sample| {
            sample.packed(1, frames.iter().copied());
            sample.packed(2, row.values.iter().map(|value| *value as u64));
            for (name, value) in row.labels {
                let (name, value) = (texts.other(name), texts.other(value));
                sample.message(3, |label| {
                    label.uint(1, name);
                    label.uint(2, value);
                });
            }
        });
        self.frames = frames;
    }

    fn location(&mut self, row: LocationIx) -> u64 {
        if let Some(number) = self.locations.get(row) {
            return number;
        }
        let location = self.dictionary.locations.get(row);
        let mapping = self.mapping(location.mapping);
        let mut functions = std::mem::take(&mut self.inlined);
        functions.clear();
        functions.extend(location.lines.iter().map(|line| self.function(line.function)));
        if location.lines.is_empty() && self.limits.names_frames {
            functions.push(self.made_up(frame_name(self.dictionary, location)));
        }
        let number = self.locations.add(row);
        let is_folded = location.attributes.iter().any(|row| self.folded.contains(row));
        self.output.message(4, |message| {
            message.uint(1, number);
            message.uint(2, mapping);
            message.uint(3, location.address);
            let places = location.lines.iter().map(|line| (line.line, line.column));
            for (function, (line, column)) in functions.iter().zip(places.chain([(0, 0)])) {
                message.message(4, |message| {
                    message.uint(1, *function);
                    message.uint(2, line as u64);
                    message.uint(3, column as u64);
                });
            }
            message.uint(5, is_folded.into());
        });
        self.inlined = functions;
        number
    }

    /// The location that stands for frames left out.
    fn truncation(&mut self) -> u64 {
        if let Some(number) = self.truncated {
            return number;
        }
        let function = self.made_up(TRUNCATED.to_owned());
        let number = self.locations.next();
        self.output.message(4, |message| {
            message.uint(1, number);
            message.message(4, |line| line.uint(1, function));
        });
        self.truncated = Some(number);
        number
    }

    fn function(&mut self, row: FunctionIx) -> u64 {
        if let Some(number) = self.functions.get(row) {
            return number;
        }
        let number = self.functions.add(row);
        let function = self.dictionary.functions.get(row);
        let system_name = self.texts.row(function.system_name);
        let name = match self.texts.row(function.name) {
            0 if system_name == 0 => self.texts.other("[unknown]"),
            0 => system_name,
            name => name,
        };
        let filename = self.texts.row(function.filename);
        self.output.message(5, |message| {
            message.uint(1, number);
            message.uint(2, name);
            message.uint(3, system_name);
            message.uint(4, filename);
            message.uint(5, function.start_line as u64);
        });
        number
    }

    /// A function of which there is only a name.
    fn made_up(&mut self, name: String) -> u64 {
        if let Some(number) = self.made_up.get(&name) {
            return *number;
        }
        let text = self.texts.other(&name);
        let number = self.functions.next();
        self.output.message(5, |message| {
            message.uint(1, number);
            message.uint(2, text);
        });
        self.made_up.insert(name, number);
        number
    }

    fn mapping(&mut self, row: MappingIx) -> u64 {
        if row.is_none() {
            return 0;
        }
        if let Some(number) = self.mappings.get(row) {
            return number;
        }
        let dictionary = self.dictionary;
        let mapping = dictionary.mappings.get(row);
        let filename = self.texts.row(mapping.filename);
        let build_id = [BUILD_ID_GNU, BUILD_ID_GO].into_iter().find_map(|name| {
            find(dictionary, mapping.attributes, name)?.as_str().filter(|text| !text.is_empty())
        });
        let build_id = self.texts.other(build_id.unwrap_or_default());
        let flags = [
            PPROF_HAS_FUNCTIONS,
            PPROF_HAS_FILENAMES,
            PPROF_HAS_LINE_NUMBERS,
            PPROF_HAS_INLINE_FRAMES,
        ];
        let number = self.mappings.add(row);
        self.output.message(3, |message| {
            message.uint(1, number);
            message.uint(2, mapping.memory_start);
            message.uint(3, mapping.memory_limit);
            message.uint(4, mapping.file_offset);
            message.uint(5, filename);
            message.uint(6, build_id);
            for (field, name) in (7..).zip(flags) {
                let is_set = find(dictionary, mapping.attributes, name).and_then(Value::as_bool);
                message.uint(field, is_set.unwrap_or_default().into());
            }
        });
        number
    }

    fn finish(&mut self, header: &Header) -> Vec<u8> {
        let mut types = Writer::default();
        let mut value_type = |field, (kind, unit): &(String, String)| {
            let (kind, unit) = (self.texts.other(kind), self.texts.other(unit));
            types.message(field, |message| {
                message.uint(1, kind);
                message.uint(2, unit);
            });
        };
        for column in &header.columns {
            value_type(1, column);
        }
        if header.period_type != Default::default() {
            value_type(11, &header.period_type);
        }
        types.uint(10, header.duration_nanos);
        types.uint(12, header.period as u64);
        let mut profile = Vec::with_capacity(types.0.len() + self.size());
        profile.extend_from_slice(&types.0);
        profile.extend_from_slice(&self.output.0);
        profile.extend_from_slice(&self.texts.written.0);
        profile
    }
}

/// The time, as the field of a profile that has none yet.
pub(super) fn time(nanos: u64) -> Vec<u8> {
    let mut field = Writer::default();
    field.uint(9, nanos);
    field.0
}

fn find<'d>(
    dictionary: &'d Dictionary,
    attributes: &[AttributeIx],
    name: &str,
) -> Option<&'d Value> {
    attributes
        .iter()
        .find(|row| dictionary.strings.get(dictionary.attributes.key(**row)) == name)
        .map(|row| dictionary.attributes.value(*row))
}

/// `module+0xoffset`, as every table and flame graph of this project calls such a frame.
fn frame_name(dictionary: &Dictionary, location: LocationRef<'_>) -> String {
    let mapping = dictionary.mappings.get(location.mapping);
    let path = dictionary.strings.get(mapping.filename);
    let module = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path);
    if module.is_empty() {
        return match location.address {
            0 => "[unknown]".to_owned(),
            address => format!("{address:#x}"),
        };
    }
    let offset = location.address.wrapping_sub(mapping.memory_start);
    format!("{module}+{:#x}", offset.wrapping_add(mapping.file_offset))
}
