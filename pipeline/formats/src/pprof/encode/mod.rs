//! Tables to the protobuf message.

mod header;
mod rows;
mod texts;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use self::header::Header;
use self::rows::{Row, Rows};
use self::texts::Texts;
use super::attributes::{is_set, text};
use super::labels::{self, Label};
use super::wire::Writer;
use super::{DEFAULT_LIMIT, EncodeError};
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, PPROF_IS_FOLDED, PROCESS_EXECUTABLE_PATH,
};
use profpipe_profile::{
    AttributeIx, Dictionary, FunctionIx, Index, Link, LocationIx, MappingIx, Profiles, Resource,
    StringIx, Value,
};

pub(super) fn encode(profiles: &Profiles) -> Result<Vec<u8>, EncodeError> {
    let rows = Rows::of(profiles)?;
    let mut writer = MessageWriter::new(&profiles.dictionary, Numbers::of(profiles, &rows));
    for (kind, unit) in &rows.columns {
        writer.value_type(1, kind, unit);
    }
    let labels: Vec<_> =
        profiles.resources.iter().map(|one| writer.resource_labels(&one.resource)).collect();
    for (at, row) in rows.rows.iter().enumerate() {
        let of_resource = labels.get(row.resource).map(Vec::as_slice).unwrap_or_default();
        writer.sample(row, rows.values(at), of_resource);
        if writer.output.0.len() > DEFAULT_LIMIT {
            return Err(EncodeError::TooLarge { limit: DEFAULT_LIMIT });
        }
    }
    writer.mappings();
    writer.locations();
    writer.functions();
    writer.header(&Header::of(profiles, &rows));
    Ok(writer.finish())
}

/// The ids in the file of the rows of the dictionary; 0 for a row that the file does not have.
struct Numbers {
    mappings: Vec<u64>,
    /// The mappings in the order of their ids.
    mapping_order: Vec<MappingIx>,
    locations: Vec<u64>,
    functions: Vec<u64>,
}

impl Numbers {
    fn of(profiles: &Profiles, rows: &Rows<'_>) -> Self {
        let dictionary = &profiles.dictionary;
        let mut stacks = vec![false; dictionary.stacks.len()];
        let mut locations = vec![false; dictionary.locations.len()];
        let mut functions = vec![false; dictionary.functions.len()];
        let mark = |table: &mut [bool], at: usize| {
            table.get_mut(at).is_some_and(|used| !std::mem::replace(used, true))
        };
        for row in &rows.rows {
            if mark(&mut stacks, row.stack.at()) {
                for location in dictionary.stacks.get(row.stack) {
                    if mark(&mut locations, location.at()) {
                        for line in dictionary.locations.get(*location).lines {
                            mark(&mut functions, line.function.at());
                        }
                    }
                }
            }
        }
        let mut mapping_order = mapping_order(profiles, rows);
        let mut mappings = vec![0; dictionary.mappings.len()];
        let mut written: HashMap<WrittenMapping<'_>, (u64, &[AttributeIx]), _> =
            HashMap::with_hasher(RandomState::default());
        let mut last = 0;
        mapping_order.retain(|row| {
            let attributes = dictionary.mappings.get(*row).attributes;
            let first = written.entry(WrittenMapping::of(dictionary, *row));
            let (id, others) = *first.or_insert((last + 1, attributes));
            // What tells two mappings apart may be an attribute that pprof has no place for, such as
            // a hash of the file. Two that are alike in all came from a pprof file and stay two.
            let is_new = id > last || others == attributes;
            last += u64::from(is_new);
            if let Some(slot) = mappings.get_mut(row.at()) {
                *slot = if is_new { last } else { id };
            }
            is_new
        });
        let (locations, functions) = (number(&locations), number(&functions));
        Self { mappings, mapping_order, locations, functions }
    }
}

/// What pprof has of a mapping.
#[derive(PartialEq, Eq, Hash)]
struct WrittenMapping<'a> {
    memory: (u64, u64),
    file_offset: u64,
    filename: StringIx,
    build_id: &'a str,
    flags: [bool; 4],
}

impl<'a> WrittenMapping<'a> {
    fn of(dictionary: &'a Dictionary, row: MappingIx) -> Self {
        let mapping = dictionary.mappings.get(row);
        let build_id = match text(dictionary, mapping.attributes, BUILD_ID_GNU) {
            "" => text(dictionary, mapping.attributes, BUILD_ID_GO),
            gnu => gnu,
        };
        let flags = [
            PPROF_HAS_FUNCTIONS,
            PPROF_HAS_FILENAMES,
            PPROF_HAS_LINE_NUMBERS,
            PPROF_HAS_INLINE_FRAMES,
        ];
        Self {
            memory: (mapping.memory_start, mapping.memory_limit),
            file_offset: mapping.file_offset,
            filename: mapping.filename,
            build_id,
            flags: flags.map(|name| is_set(dictionary, mapping.attributes, name)),
        }
    }
}

/// Numbers what is used, from 1.
fn number(used: &[bool]) -> Vec<u64> {
    let mut last = 0;
    let id = |used: &bool| {
        last += u64::from(*used);
        if *used { last } else { 0 }
    };
    used.iter().map(id).collect()
}

/// Every mapping in order, but first the program of the resource with most samples: readers take
/// the first mapping for the program.
fn mapping_order(profiles: &Profiles, rows: &Rows<'_>) -> Vec<MappingIx> {
    let dictionary = &profiles.dictionary;
    let mut order: Vec<_> = (1..dictionary.mappings.len() as u32).map(MappingIx::new).collect();
    let mut counts = vec![0_u64; profiles.resources.len()];
    for row in &rows.rows {
        if let Some(count) = counts.get_mut(row.resource) {
            *count += 1;
        }
    }
    let program = profiles
        .resources
        .iter()
        .zip(counts)
        .filter_map(|(one, count)| {
            let path = one.resource.get(PROCESS_EXECUTABLE_PATH)?.as_str()?;
            Some((count, path))
        })
        .max_by_key(|(count, _)| *count);
    let main = program.and_then(|(_, path)| {
        let name = |row: &MappingIx| dictionary.strings.get(dictionary.mappings.get(*row).filename);
        order.iter().position(|row| name(row) == path)
    });
    if let Some(main) = main.and_then(|at| order.get_mut(..=at)) {
        main.rotate_right(1);
    }
    order
}

struct MessageWriter<'a> {
    dictionary: &'a Dictionary,
    numbers: Numbers,
    output: Writer,
    texts: Texts,
    /// The encoded labels of each attribute row, once needed.
    labels: Vec<Option<Vec<u8>>>,
    /// The message being written; empty between two messages.
    scratch: Writer,
}

impl<'a> MessageWriter<'a> {
    fn new(dictionary: &'a Dictionary, numbers: Numbers) -> Self {
        Self {
            dictionary,
            numbers,
            output: Writer::default(),
            texts: Texts::default(),
            labels: vec![None; dictionary.attributes.len()],
            scratch: Writer::default(),
        }
    }

    /// Ends the message being written.
    fn flush(&mut self, field: u64) {
        self.output.bytes(field, &self.scratch.0);
        self.scratch.0.clear();
    }

    fn value_type(&mut self, field: u64, kind: &str, unit: &str) {
        self.scratch.uint(1, self.texts.number(kind));
        self.scratch.uint(2, self.texts.number(unit));
        self.flush(field);
    }

    /// The labels that stand for an attribute, as fields of a sample.
    fn label_fields(&mut self, key: &str, value: &Value, unit: &str) -> Vec<u8> {
        let mut fields = Writer::default();
        for label in labels::from_value(value, unit) {
            let mut message = Writer::default();
            message.uint(1, self.texts.number(key));
            match label {
                Label::Text(text) => message.uint(2, self.texts.label_number(&text)),
                Label::Number(number, unit) => {
                    message.int(3, number);
                    message.uint(4, self.texts.number(&unit));
                }
            }
            fields.bytes(3, &message.0);
        }
        fields.0
    }

    /// The labels of a resource's attributes, by key.
    fn resource_labels<'r>(&mut self, resource: &'r Resource) -> Vec<(&'r str, Vec<u8>)> {
        let attributes = resource.attributes.iter();
        attributes
            .map(|attribute| {
                let key = attribute.key.as_str();
                (key, self.label_fields(key, &attribute.value, ""))
            })
            .collect()
    }

    fn sample(&mut self, row: &Row<'_>, values: &[i64], of_resource: &[(&str, Vec<u8>)]) {
        let dictionary = self.dictionary;
        let locations = &self.numbers.locations;
        let ids = dictionary.stacks.get(row.stack).iter();
        self.scratch
            .packed(1, ids.map(|location| locations.get(location.at()).copied().unwrap_or(0)));
        self.scratch.packed(2, values.iter().map(|value| *value as u64));
        for attribute in row.attributes {
            self.attribute(*attribute);
        }
        if !row.link.is_none() {
            let Link { trace_id, span_id } = dictionary.links.get(row.link);
            for (key, id) in
                [(labels::TRACE_ID, trace_id.as_slice()), (labels::SPAN_ID, span_id.as_slice())]
            {
                let fields = self.label_fields(key, &Value::Bytes(id.to_vec()), "");
                self.scratch.0.extend(fields);
            }
        }
        let key = |row: &AttributeIx| dictionary.strings.get(dictionary.attributes.key(*row));
        let own: HashSet<&str, RandomState> = row.attributes.iter().map(key).collect();
        for (name, fields) in of_resource {
            if !own.contains(name) {
                self.scratch.0.extend_from_slice(fields);
            }
        }
        self.flush(2);
    }

    fn attribute(&mut self, row: AttributeIx) {
        if self.labels.get(row.at()).is_some_and(Option::is_none) {
            let dictionary = self.dictionary;
            let text = |row| dictionary.strings.get(row);
            let key = text(dictionary.attributes.key(row));
            let unit = text(dictionary.attributes.unit(row));
            let fields = self.label_fields(key, dictionary.attributes.value(row), unit);
            if let Some(slot) = self.labels.get_mut(row.at()) {
                *slot = Some(fields);
            }
        }
        if let Some(Some(fields)) = self.labels.get(row.at()) {
            self.scratch.0.extend_from_slice(fields);
        }
    }

    fn mappings(&mut self) {
        for (id, row) in (1..).zip(std::mem::take(&mut self.numbers.mapping_order)) {
            let mapping = self.dictionary.mappings.get(row);
            let written = WrittenMapping::of(self.dictionary, row);
            self.scratch.uint(1, id);
            self.scratch.uint(2, mapping.memory_start);
            self.scratch.uint(3, mapping.memory_limit);
            self.scratch.uint(4, mapping.file_offset);
            let filename = self.dictionary.strings.get(mapping.filename);
            self.scratch.uint(5, self.texts.number(filename));
            self.scratch.uint(6, self.texts.number(written.build_id));
            for (field, is_set) in (7..).zip(written.flags) {
                self.scratch.uint(field, is_set.into());
            }
            self.flush(3);
        }
    }

    fn locations(&mut self) {
        for (row, id) in (0..).zip(std::mem::take(&mut self.numbers.locations)) {
            if id == 0 {
                continue;
            }
            let location = self.dictionary.locations.get(LocationIx::new(row));
            let id_of = |ids: &[u64], at: usize| ids.get(at).copied().unwrap_or(0);
            self.scratch.uint(1, id);
            self.scratch.uint(2, id_of(&self.numbers.mappings, location.mapping.at()));
            self.scratch.uint(3, location.address);
            for line in location.lines {
                let mut message = Writer::default();
                message.uint(1, id_of(&self.numbers.functions, line.function.at()));
                message.int(2, line.line);
                message.int(3, line.column);
                self.scratch.bytes(4, &message.0);
            }
            let is_folded = is_set(self.dictionary, location.attributes, PPROF_IS_FOLDED);
            self.scratch.uint(5, is_folded.into());
            self.flush(4);
        }
    }

    fn functions(&mut self) {
        for (row, id) in (0..).zip(std::mem::take(&mut self.numbers.functions)) {
            if id == 0 {
                continue;
            }
            let function = self.dictionary.functions.get(FunctionIx::new(row));
            let strings = &self.dictionary.strings;
            self.scratch.uint(1, id);
            self.scratch.uint(2, self.texts.number(strings.get(function.name)));
            self.scratch.uint(3, self.texts.number(strings.get(function.system_name)));
            self.scratch.uint(4, self.texts.number(strings.get(function.filename)));
            self.scratch.int(5, function.start_line);
            self.flush(5);
        }
    }

    fn header(&mut self, header: &Header<'_>) {
        self.output.uint(7, self.texts.number(header.drop_frames));
        self.output.uint(8, self.texts.number(header.keep_frames));
        self.output.uint(9, header.time_nanos);
        self.output.uint(10, header.duration_nanos);
        let (kind, unit) = header.period_type;
        if !(kind.is_empty() && unit.is_empty()) {
            self.value_type(11, kind, unit);
        }
        self.output.int(12, header.period);
        let comments: Vec<_> =
            header.comments.iter().map(|comment| self.texts.number(comment)).collect();
        self.output.packed(13, comments.iter().copied());
        self.output.uint(14, self.texts.number(header.default_sample_type));
        self.output.uint(15, self.texts.number(header.doc_url));
    }

    fn finish(mut self) -> Vec<u8> {
        self.texts.write(&mut self.output);
        self.output.0
    }
}
