//! What a batch lacks, and putting it there.
//!
//! Rows keep their numbers: the tables of locations and mappings are built again with the same rows
//! in the same order, so stacks and samples stay as they are. Interning starts afresh by itself.

use std::collections::HashMap;

use profpipe_engine::modules::ModuleId;
use profpipe_profile::attribute_names::{
    FRAME_TYPE, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, SYMBOLS_PROVISIONAL, UNSYMBOLIZED_REASON,
};
use profpipe_profile::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, Line, Locations, MappingIx, Mappings,
    Profiles, StringIx, Value,
};

use super::answer::{Reason, Resolution};
use super::protocol::{Language, WireFunction};

/// The identities of the modules that some location without lines is in, by mapping row.
pub(super) fn unnamed_modules(dictionary: &Dictionary) -> HashMap<MappingIx, Vec<ModuleId>> {
    let mut modules = HashMap::new();
    for location in dictionary.locations.iter().skip(1) {
        if location.lines.is_empty() && !location.mapping.is_none() {
            modules
                .entry(location.mapping)
                .or_insert_with_key(|mapping| ModuleId::of_mapping(dictionary, *mapping));
        }
    }
    modules
}

/// How many locations got a name and how many did not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Named.
    pub(super) named: u64,
    /// Not named, by reason.
    pub(super) unnamed: HashMap<Reason, u64>,
    /// Of the named, those by a symbol table although debug information may say more.
    pub(super) provisional: u64,
}

/// What a location is given.
#[derive(Debug)]
pub(super) struct Given {
    /// The answer.
    pub(super) answer: Resolution,
    /// It is what a symbol table says: debug information may say more later, elsewhere.
    pub(super) is_provisional: bool,
}

/// Gives every location without lines what `answer` says about its mapping and address.
pub(super) fn apply(
    profiles: &mut Profiles,
    mut answer: impl FnMut(MappingIx, u64) -> Given,
) -> Tally {
    let dictionary = &mut profiles.dictionary;
    let mut writer = Writer::new(dictionary);
    let mut tally = Tally::default();
    let mut locations = Locations::default();
    let mut lines = Vec::new();
    let mut attributes = Vec::new();
    let old = std::mem::take(&mut dictionary.locations);
    for location in old.iter().skip(1) {
        if !location.lines.is_empty() {
            locations.push(location);
            continue;
        }
        let Given { answer, is_provisional } = if location.mapping.is_none() {
            Given { answer: Resolution::Unnamed(Reason::NoMapping), is_provisional: false }
        } else {
            answer(location.mapping, location.address)
        };
        lines.clear();
        attributes.clear();
        let own = location.attributes.iter().copied();
        attributes.extend(own.filter(|row| dictionary.attributes.key(*row) != writer.reason));
        match answer {
            Resolution::Unnamed(reason) => {
                *tally.unnamed.entry(reason).or_default() += 1;
                attributes.push(writer.reason(dictionary, reason));
            }
            Resolution::Named(frames) => {
                tally.named += 1;
                if is_provisional {
                    tally.provisional += 1;
                    attributes.push(writer.provisional(dictionary));
                }
                for frame in frames.iter() {
                    lines.push(Line {
                        function: writer.function(dictionary, &frame.function),
                        line: frame.line.into(),
                        column: frame.column.into(),
                    });
                    writer.note(location.mapping, &frame.function, frame.line, frames.len());
                }
                // The code belongs to the function that was really called.
                let language = frames.last().map(|frame| frame.function.language);
                if let Some(refined) = language.and_then(|it| writer.frame_type(dictionary, it)) {
                    attributes.retain(|row| dictionary.attributes.key(*row) != writer.frame_type);
                    attributes.push(refined);
                }
            }
        }
        locations.push(profpipe_profile::LocationRef {
            lines: &lines,
            attributes: &attributes,
            ..location
        });
    }
    dictionary.locations = locations;
    writer.flag_mappings(dictionary);
    tally
}

/// What is known about the lines of a mapping now.
#[derive(Debug, Default, Clone, Copy)]
struct Flags {
    filenames: bool,
    lines: bool,
    inlines: bool,
}

/// Interns what a batch needs once for the batch.
struct Writer {
    reason: StringIx,
    frame_type: StringIx,
    reasons: HashMap<Reason, AttributeIx>,
    functions: HashMap<*const WireFunction, FunctionIx>,
    flags: HashMap<MappingIx, Flags>,
}

impl Writer {
    fn new(dictionary: &mut Dictionary) -> Self {
        Self {
            reason: dictionary.strings.intern(UNSYMBOLIZED_REASON),
            frame_type: dictionary.strings.intern(FRAME_TYPE),
            reasons: HashMap::new(),
            functions: HashMap::new(),
            flags: HashMap::new(),
        }
    }

    fn reason(&mut self, dictionary: &mut Dictionary, reason: Reason) -> AttributeIx {
        *self.reasons.entry(reason).or_insert_with(|| {
            let value = Value::from(reason.text());
            dictionary.attributes.intern(self.reason, value, StringIx::NONE)
        })
    }

    fn provisional(&self, dictionary: &mut Dictionary) -> AttributeIx {
        let key = dictionary.strings.intern(SYMBOLS_PROVISIONAL);
        dictionary.attributes.intern(key, Value::Bool(true), StringIx::NONE)
    }

    fn frame_type(&self, dictionary: &mut Dictionary, language: Language) -> Option<AttributeIx> {
        let value = match language {
            Language::Native => return None,
            Language::Rust => "rust",
            Language::Go => "go",
            Language::Python => "cpython",
            Language::V8 => "v8js",
        };
        Some(dictionary.attributes.intern(self.frame_type, Value::from(value), StringIx::NONE))
    }

    fn function(&mut self, dictionary: &mut Dictionary, function: &WireFunction) -> FunctionIx {
        // The same function is the same allocation, because the cache shares them; where it is not,
        // interning finds it.
        *self.functions.entry(std::ptr::from_ref(function)).or_insert_with(|| {
            let strings = &mut dictionary.strings;
            let name = strings.intern(&function.name);
            let system_name = match function.system_name.as_str() {
                "" => name,
                system_name => strings.intern(system_name),
            };
            let filename = strings.intern(&function.file);
            let start_line = function.start_line.into();
            dictionary.functions.intern(Function { name, system_name, filename, start_line })
        })
    }

    fn note(&mut self, mapping: MappingIx, function: &WireFunction, line: u32, frames: usize) {
        let flags = self.flags.entry(mapping).or_default();
        flags.filenames |= !function.file.is_empty();
        flags.lines |= line != 0;
        flags.inlines |= frames > 1;
    }

    /// Says on the mappings what their locations have now.
    fn flag_mappings(self, dictionary: &mut Dictionary) {
        if self.flags.is_empty() {
            return;
        }
        let mut flag = |name: &str| {
            let key = dictionary.strings.intern(name);
            dictionary.attributes.intern(key, Value::Bool(true), StringIx::NONE)
        };
        let has_functions = flag(PPROF_HAS_FUNCTIONS);
        let has_filenames = flag(PPROF_HAS_FILENAMES);
        let has_lines = flag(PPROF_HAS_LINE_NUMBERS);
        let has_inlines = flag(PPROF_HAS_INLINE_FRAMES);
        let mut mappings = Mappings::default();
        let old = std::mem::take(&mut dictionary.mappings);
        for (at, mapping) in old.iter().enumerate().skip(1) {
            let row = MappingIx::new(at as u32);
            let Some(flags) = self.flags.get(&row) else {
                mappings.push(mapping);
                continue;
            };
            let new: Vec<_> = [
                (true, has_functions),
                (flags.filenames, has_filenames),
                (flags.lines, has_lines),
                (flags.inlines, has_inlines),
            ]
            .into_iter()
            .filter_map(|(set, attribute)| set.then_some(attribute))
            .collect();
            let key = |row: &AttributeIx| dictionary.attributes.key(*row);
            let kept = mapping.attributes.iter().copied();
            let kept = kept.filter(|own| !new.iter().any(|new| key(new) == key(own)));
            let attributes: Vec<_> = kept.chain(new.iter().copied()).collect();
            mappings.push(profpipe_profile::MappingRef { attributes: &attributes, ..mapping });
        }
        dictionary.mappings = mappings;
    }
}

/// About how many bytes a batch takes.
pub(super) fn weigh(profiles: &Profiles) -> usize {
    let tables = &profiles.dictionary;
    let frames: usize = tables.stacks.iter().map(<[_]>::len).sum();
    tables.strings.bytes()
        + tables.strings.len() * 20
        + tables.attributes.len() * 64
        + tables.functions.len() * 36
        + tables.locations.len() * 64
        + (tables.stacks.len() * 6 + frames) * 4
        + profiles.sample_count() * 48
}
