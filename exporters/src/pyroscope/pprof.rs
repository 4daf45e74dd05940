//! The pprof profiles of one series: written row by row, and ended where a limit is reached.
//!
//! Only what the rows use is written. Time is left out: it is added when the profile is sent,
//! since two profiles of the same labels must not have the same.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use profpipe_pipeline::pprof::Writer;
use profpipe_pipeline::profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, PPROF_IS_FOLDED,
};
use profpipe_pipeline::profile::{
    AttributeIx, Dictionary, FunctionIx, Index, LocationIx, LocationRef, MappingIx, StackIx, Value,
};

/// The most frames of a stack; the server would cut off the leaf.
const MAX_DEPTH: usize = 1000;
/// The longest text; the server, too, keeps its end.
const MAX_TEXT: usize = 65_535;
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

/// The limits of one profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) samples: usize,
    /// Whether a frame without a name gets one.
    pub(super) names_frames: bool,
}

/// Writes rows as profiles, each within the limits as far as single rows allow. Returns each with
/// the number of its rows.
pub(super) fn write(
    dictionary: &Dictionary,
    header: &Header,
    rows: &[Row<'_>],
    limits: Limits,
) -> Vec<(Vec<u8>, usize)> {
    let mut profiles = Vec::new();
    let mut rest = rows;
    // A row may bring far more than itself: names and lines of all its frames.
    let mut soft = limits.bytes / 8 * 7;
    while !rest.is_empty() {
        let mut writer = ProfileWriter::new(dictionary, limits.names_frames);
        let mut taken = 0;
        for row in rest.iter().take(limits.samples.max(1)) {
            writer.row(*row);
            taken += 1;
            if writer.size() >= soft {
                break;
            }
        }
        let profile = writer.finish(header);
        if profile.len() > limits.bytes && taken > 1 {
            soft /= 2;
            continue;
        }
        profiles.push((profile, taken));
        rest = rest.get(taken..).unwrap_or_default();
        soft = limits.bytes / 8 * 7;
    }
    profiles
}

type Ids<T> = HashMap<T, u64, RandomState>;

struct ProfileWriter<'a> {
    dictionary: &'a Dictionary,
    names_frames: bool,
    /// Samples and tables.
    output: Writer,
    scratch: Writer,
    texts: HashMap<Cow<'a, str>, u64, RandomState>,
    text_bytes: Writer,
    mappings: Ids<MappingIx>,
    functions: Ids<FunctionIx>,
    /// Functions made up here, by name.
    made_up: HashMap<String, u64, RandomState>,
    function_count: u64,
    locations: Ids<LocationIx>,
    location_count: u64,
    truncated: Option<u64>,
}

impl<'a> ProfileWriter<'a> {
    fn new(dictionary: &'a Dictionary, names_frames: bool) -> Self {
        let mut text_bytes = Writer::default();
        text_bytes.bytes(6, b"");
        Self {
            dictionary,
            names_frames,
            output: Writer::default(),
            scratch: Writer::default(),
            texts: HashMap::default(),
            text_bytes,
            mappings: Ids::default(),
            functions: Ids::default(),
            made_up: HashMap::default(),
            function_count: 0,
            locations: Ids::default(),
            location_count: 0,
            truncated: None,
        }
    }

    fn size(&self) -> usize {
        self.output.0.len() + self.text_bytes.0.len()
    }

    fn row(&mut self, row: Row<'_>) {
        let frames = self.dictionary.stacks.get(row.stack);
        let mut ids = Vec::with_capacity(frames.len().min(MAX_DEPTH));
        if frames.len() > MAX_DEPTH {
            // Both ends say more than the middle, which is a recursion.
            let (leaf, root) = (MAX_DEPTH / 2, MAX_DEPTH / 2 - 1);
            let leaf = frames.get(..leaf).unwrap_or_default();
            let root = frames.get(frames.len() - root..).unwrap_or_default();
            ids.extend(leaf.iter().map(|location| self.location(*location)));
            ids.push(self.truncation());
            ids.extend(root.iter().map(|location| self.location(*location)));
        } else {
            ids.extend(frames.iter().map(|location| self.location(*location)));
        }
        let labels: Vec<(u64, u64)> = row
            .labels
            .iter()
            .map(|(name, value)| (self.owned_text(name), self.owned_text(value)))
            .collect();
        let mut sample = std::mem::take(&mut self.scratch);
        sample.packed(1, ids.into_iter());
        sample.packed(2, row.values.iter().map(|value| *value as u64));
        for (name, value) in labels {
            let mut label = Writer::default();
            label.uint(1, name);
            label.uint(2, value);
            sample.bytes(3, &label.0);
        }
        self.flush(2, sample);
    }

    fn flush(&mut self, field: u64, mut message: Writer) {
        self.output.bytes(field, &message.0);
        message.0.clear();
        self.scratch = message;
    }

    fn text(&mut self, text: &'a str) -> u64 {
        let text = tail(text);
        match self.texts.get(text) {
            Some(id) => *id,
            None => self.new_text(Cow::Borrowed(text)),
        }
    }

    fn owned_text(&mut self, text: &str) -> u64 {
        let text = tail(text);
        match self.texts.get(text) {
            Some(id) => *id,
            None => self.new_text(Cow::Owned(text.to_owned())),
        }
    }

    fn new_text(&mut self, text: Cow<'a, str>) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let id = self.texts.len() as u64 + 1;
        self.text_bytes.bytes(6, text.as_bytes());
        self.texts.insert(text, id);
        id
    }

    fn location(&mut self, row: LocationIx) -> u64 {
        if let Some(id) = self.locations.get(&row) {
            return *id;
        }
        let location = self.dictionary.locations.get(row);
        let mapping = self.mapping(location.mapping);
        let mut lines = Writer::default();
        for line in location.lines {
            let mut message = Writer::default();
            message.uint(1, self.function(line.function));
            message.uint(2, line.line as u64);
            message.uint(3, line.column as u64);
            lines.bytes(4, &message.0);
        }
        if location.lines.is_empty() && self.names_frames {
            let mut message = Writer::default();
            message.uint(1, self.made_up(frame_name(self.dictionary, location)));
            lines.bytes(4, &message.0);
        }
        self.location_count += 1;
        let id = self.location_count;
        let is_folded = self.is_set(location.attributes, PPROF_IS_FOLDED);
        let mut message = std::mem::take(&mut self.scratch);
        message.uint(1, id);
        message.uint(2, mapping);
        message.uint(3, location.address);
        message.0.extend_from_slice(&lines.0);
        message.uint(5, is_folded.into());
        self.flush(4, message);
        self.locations.insert(row, id);
        id
    }

    /// The location that stands for frames left out.
    fn truncation(&mut self) -> u64 {
        if let Some(id) = self.truncated {
            return id;
        }
        let mut line = Writer::default();
        line.uint(1, self.made_up(TRUNCATED.to_owned()));
        self.location_count += 1;
        let id = self.location_count;
        let mut message = std::mem::take(&mut self.scratch);
        message.uint(1, id);
        message.bytes(4, &line.0);
        self.flush(4, message);
        self.truncated = Some(id);
        id
    }

    fn function(&mut self, row: FunctionIx) -> u64 {
        if let Some(id) = self.functions.get(&row) {
            return *id;
        }
        let dictionary = self.dictionary;
        let function = dictionary.functions.get(row);
        let text = |row| dictionary.strings.get(row);
        let (name, system_name) = (text(function.name), text(function.system_name));
        let name = if name.is_empty() { system_name } else { name };
        let name = self.text(if name.is_empty() { "[unknown]" } else { name });
        let system_name = self.text(system_name);
        let filename = self.text(text(function.filename));
        let id = self.write_function(name, system_name, filename, function.start_line);
        self.functions.insert(row, id);
        id
    }

    fn made_up(&mut self, name: String) -> u64 {
        if let Some(id) = self.made_up.get(&name) {
            return *id;
        }
        let text = self.owned_text(&name);
        let id = self.write_function(text, 0, 0, 0);
        self.made_up.insert(name, id);
        id
    }

    fn write_function(&mut self, name: u64, system_name: u64, filename: u64, start: i64) -> u64 {
        self.function_count += 1;
        let id = self.function_count;
        let mut message = std::mem::take(&mut self.scratch);
        message.uint(1, id);
        message.uint(2, name);
        message.uint(3, system_name);
        message.uint(4, filename);
        message.uint(5, start as u64);
        self.flush(5, message);
        id
    }

    fn mapping(&mut self, row: MappingIx) -> u64 {
        if row.is_none() {
            return 0;
        }
        if let Some(id) = self.mappings.get(&row) {
            return *id;
        }
        let dictionary = self.dictionary;
        let mapping = dictionary.mappings.get(row);
        let id = self.mappings.len() as u64 + 1;
        let filename = self.text(dictionary.strings.get(mapping.filename));
        let build_id = [BUILD_ID_GNU, BUILD_ID_GO].into_iter().find_map(|name| {
            find(dictionary, mapping.attributes, name)?.as_str().filter(|text| !text.is_empty())
        });
        let build_id = self.text(build_id.unwrap_or_default());
        let flags = [
            PPROF_HAS_FUNCTIONS,
            PPROF_HAS_FILENAMES,
            PPROF_HAS_LINE_NUMBERS,
            PPROF_HAS_INLINE_FRAMES,
        ];
        let mut message = std::mem::take(&mut self.scratch);
        message.uint(1, id);
        message.uint(2, mapping.memory_start);
        message.uint(3, mapping.memory_limit);
        message.uint(4, mapping.file_offset);
        message.uint(5, filename);
        message.uint(6, build_id);
        for (field, name) in (7..).zip(flags) {
            message.uint(field, self.is_set(mapping.attributes, name).into());
        }
        self.flush(3, message);
        self.mappings.insert(row, id);
        id
    }

    fn is_set(&self, attributes: &[AttributeIx], name: &str) -> bool {
        find(self.dictionary, attributes, name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn finish(mut self, header: &Header) -> Vec<u8> {
        let mut types = Writer::default();
        for (kind, unit) in &header.columns {
            let mut message = Writer::default();
            message.uint(1, self.owned_text(kind));
            message.uint(2, self.owned_text(unit));
            types.bytes(1, &message.0);
        }
        let (kind, unit) = &header.period_type;
        if !(kind.is_empty() && unit.is_empty()) {
            let mut message = Writer::default();
            message.uint(1, self.owned_text(kind));
            message.uint(2, self.owned_text(unit));
            types.bytes(11, &message.0);
        }
        types.uint(10, header.duration_nanos);
        types.uint(12, header.period as u64);
        let mut profile = types.0;
        profile.reserve(self.output.0.len() + self.text_bytes.0.len());
        profile.append(&mut self.output.0);
        profile.append(&mut self.text_bytes.0);
        profile
    }
}

/// The time, as the field of a profile that has none yet.
pub(super) fn add_time(profile: &mut Vec<u8>, time_nanos: u64) {
    let mut field = Writer(std::mem::take(profile));
    field.uint(9, time_nanos);
    *profile = field.0;
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

/// The end of a text that is too long, in whole characters.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(MAX_TEXT);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(start..).unwrap_or_default()
}
