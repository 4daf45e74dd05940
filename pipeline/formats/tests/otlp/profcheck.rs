//! The rules of the profiling SIG's `profcheck`, with all of its options on, and those of the
//! specification that it leaves out.

use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, Link, Location, Mapping, Profile, ProfilesDictionary, Stack,
};
use prost::Message;

/// Which of the optional rules are to hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// No string and no mapping is there twice.
    pub(crate) no_duplicates: bool,
    /// Every row is referred to.
    pub(crate) no_orphans: bool,
}

/// The rules that a request in protobuf breaks.
pub(crate) fn profcheck(request: &[u8], options: Options) -> Vec<String> {
    let request = match ExportProfilesServiceRequest::decode(request) {
        Ok(request) => request,
        Err(error) => return vec![error.to_string()],
    };
    let Some(tables) = request.dictionary else { return vec!["no dictionary".into()] };
    let mut check = Check { used: Used::new(&tables), tables: &tables, broken: Vec::new() };
    check.dictionary();
    check.require(!request.resource_profiles.is_empty(), || "no resource profiles".into());
    for resource in &request.resource_profiles {
        check.require(!resource.scope_profiles.is_empty(), || "a resource without scopes".into());
        check.require(resource.resource.is_some(), || "no resource".into());
        check.inline(resource.resource.iter().flat_map(|resource| &resource.attributes));
        for scope in &resource.scope_profiles {
            check.require(!scope.profiles.is_empty(), || "a scope without profiles".into());
            check.require(scope.scope.is_some(), || "no scope".into());
            check.inline(scope.scope.iter().flat_map(|scope| &scope.attributes));
            for profile in &scope.profiles {
                check.profile(profile);
            }
        }
    }
    if options.no_duplicates {
        let strings: HashSet<_> = tables.string_table.iter().collect();
        let unique = strings.len() == tables.string_table.len();
        check.require(unique, || "a string is there twice".into());
        let mappings: HashSet<_> = tables.mapping_table.iter().collect();
        let unique = mappings.len() == tables.mapping_table.len();
        check.require(unique, || "a mapping is there twice".into());
    }
    if options.no_orphans {
        check.orphans();
    }
    check.broken
}

/// The rows that something refers to, by table.
struct Used {
    strings: Vec<bool>,
    attributes: Vec<bool>,
    mappings: Vec<bool>,
    functions: Vec<bool>,
    locations: Vec<bool>,
    links: Vec<bool>,
    stacks: Vec<bool>,
}

impl Used {
    fn new(tables: &ProfilesDictionary) -> Self {
        Self {
            strings: vec![false; tables.string_table.len()],
            attributes: vec![false; tables.attribute_table.len()],
            mappings: vec![false; tables.mapping_table.len()],
            functions: vec![false; tables.function_table.len()],
            locations: vec![false; tables.location_table.len()],
            links: vec![false; tables.link_table.len()],
            stacks: vec![false; tables.stack_table.len()],
        }
    }
}

struct Check<'a> {
    tables: &'a ProfilesDictionary,
    used: Used,
    broken: Vec<String>,
}

fn refer(used: &mut [bool], broken: &mut Vec<String>, what: &str, row: i32) {
    match usize::try_from(row).ok().and_then(|row| used.get_mut(row)) {
        Some(used) => *used = true,
        None => broken.push(format!("{what} {row} is out of range")),
    }
}

impl Check<'_> {
    fn require(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(rule());
        }
    }

    fn string(&mut self, what: &str, row: i32) {
        refer(&mut self.used.strings, &mut self.broken, what, row);
    }

    fn attributes(&mut self, what: &str, rows: &[i32]) {
        let mut keys = HashSet::new();
        for row in rows {
            refer(&mut self.used.attributes, &mut self.broken, what, *row);
            if let Some(attribute) = self.tables.attribute_table.get(*row as usize) {
                let unique = keys.insert(attribute.key_strindex);
                self.require(unique, || format!("{what}: a key is there twice"));
            }
        }
    }

    /// Attributes are written inline and with a value.
    fn inline<'k>(&mut self, attributes: impl Iterator<Item = &'k KeyValue>) {
        for pair in attributes {
            self.require(pair.key_strindex == 0, || "a reference as a key".into());
            self.value(pair.value.as_ref());
        }
    }

    fn value(&mut self, value: Option<&AnyValue>) {
        let Some(value) = value else {
            self.broken.push("an attribute without a value".into());
            return;
        };
        match &value.value {
            Some(Value::StringValueStrindex(_)) => self.broken.push("a reference".into()),
            Some(Value::ArrayValue(array)) => {
                array.values.iter().for_each(|value| self.value(Some(value)));
            }
            Some(Value::KvlistValue(list)) => self.inline(list.values.iter()),
            _ => {}
        }
    }

    fn dictionary(&mut self) {
        let tables = self.tables;
        fn zero<T: Default + PartialEq>(table: &[T]) -> bool {
            table.first() == Some(&T::default())
        }
        self.require(zero::<Mapping>(&tables.mapping_table), || "mapping_table[0]".into());
        self.require(zero::<Location>(&tables.location_table), || "location_table[0]".into());
        self.require(zero::<Function>(&tables.function_table), || "function_table[0]".into());
        self.require(zero::<Link>(&tables.link_table), || "link_table[0]".into());
        self.require(zero::<Stack>(&tables.stack_table), || "stack_table[0]".into());
        self.require(zero::<String>(&tables.string_table), || "string_table[0]".into());
        self.require(
            tables.attribute_table.first().is_some_and(|row| {
                let empty = row.value.as_ref().is_none_or(|value| value.value.is_none());
                row.key_strindex == 0 && row.unit_strindex == 0 && empty
            }),
            || "attribute_table[0]".into(),
        );
        for (at, row) in tables.mapping_table.iter().enumerate() {
            self.string("mapping filename", row.filename_strindex);
            self.attributes("mapping attribute", &row.attribute_indices);
            let range = (row.memory_start, row.memory_limit);
            self.require(range == (0, 0) || range.0 < range.1, || format!("mapping {at}: range"));
        }
        for row in &tables.location_table {
            refer(&mut self.used.mappings, &mut self.broken, "mapping", row.mapping_index);
            self.attributes("location attribute", &row.attribute_indices);
            for line in &row.lines {
                refer(&mut self.used.functions, &mut self.broken, "function", line.function_index);
                self.require(line.line >= 0 && line.column >= 0, || "a negative line".into());
            }
        }
        for row in &tables.function_table {
            self.string("function name", row.name_strindex);
            self.string("function system name", row.system_name_strindex);
            self.string("function filename", row.filename_strindex);
            self.require(row.start_line >= 0, || "a negative start line".into());
        }
        for row in tables.link_table.iter().skip(1) {
            let lengths = (row.trace_id.len(), row.span_id.len());
            self.require(lengths == (16, 8), || "ids of a link".into());
        }
        for (at, row) in tables.attribute_table.iter().enumerate() {
            self.string("attribute key", row.key_strindex);
            self.string("attribute unit", row.unit_strindex);
            if at > 0 {
                self.value(row.value.as_ref());
            }
        }
        for row in &tables.stack_table {
            for location in &row.location_indices {
                refer(&mut self.used.locations, &mut self.broken, "location", *location);
            }
        }
    }

    fn profile(&mut self, profile: &Profile) {
        for types in [&profile.sample_type, &profile.period_type] {
            let Some(types) = types else {
                self.broken.push("no sample type or period type".into());
                continue;
            };
            self.string("type", types.type_strindex);
            self.string("unit", types.unit_strindex);
        }
        self.attributes("profile attribute", &profile.attribute_indices);
        let end = profile.time_unix_nano.saturating_add(profile.duration_nano);
        let mut shapes = HashSet::new();
        for sample in &profile.samples {
            refer(&mut self.used.stacks, &mut self.broken, "stack", sample.stack_index);
            refer(&mut self.used.links, &mut self.broken, "link", sample.link_index);
            self.attributes("sample attribute", &sample.attribute_indices);
            let (values, times) = (sample.values.len(), sample.timestamps_unix_nano.len());
            self.require(values + times > 0, || "a sample without value and timestamp".into());
            self.require(values == 0 || times == 0 || values == times, || {
                format!("{values} values for {times} timestamps")
            });
            self.require(times > 0 || values == 1, || format!("{values} values, no timestamp"));
            shapes.insert((values > 0, times > 0));
            for time in &sample.timestamps_unix_nano {
                self.require((profile.time_unix_nano..end).contains(time), || {
                    "a timestamp outside of its profile".into()
                });
            }
        }
        self.require(shapes.len() <= 1, || "samples of several shapes".into());
        let id = &profile.profile_id;
        let valid = id.is_empty() || id.len() == 16 && id.iter().any(|byte| *byte != 0);
        self.require(valid, || "a profile id".into());
    }

    fn orphans(&mut self) {
        let used = &self.used;
        for (table, rows) in [
            ("string", &used.strings),
            ("attribute", &used.attributes),
            ("mapping", &used.mappings),
            ("function", &used.functions),
            ("location", &used.locations),
            ("link", &used.links),
            ("stack", &used.stacks),
        ] {
            for (row, used) in rows.iter().enumerate().skip(1) {
                if !used {
                    self.broken.push(format!("nothing refers to {table} {row}"));
                }
            }
        }
    }
}
