//! Reads a profile with the generated OTLP types, so that the tests share no code with profpipe.

use std::path::Path;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::profiles::v1development::{
    Profile, ProfilesData, ProfilesDictionary,
};
use prost::Message as _;

/// One line of a stack, inlined or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The function's name, or `module+0x…` without one.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: i64,
    pub(crate) module: String,
    pub(crate) kernel: bool,
    /// Inlined into the next frame.
    pub(crate) inlined: bool,
}

/// A sampled stack with its CPU time.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Leaf first.
    pub(crate) frames: Vec<Frame>,
    pub(crate) nanoseconds: i64,
    /// `truncated` or `broken`; complete stacks have none.
    pub(crate) state: Option<String>,
    pub(crate) thread: String,
}

/// All stacks of a file.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) stacks: Vec<Stack>,
    pub(crate) samples: i64,
    pub(crate) lost: i64,
    pub(crate) period: i64,
}

impl Reading {
    /// Reads an OTLP protobuf file.
    pub(crate) fn of(file: &Path) -> Self {
        let bytes = std::fs::read(file).expect("the profile is there");
        let data = ProfilesData::decode(bytes.as_slice()).expect("the profile is OTLP protobuf");
        let dictionary = data.dictionary.as_ref().expect("a dictionary");
        let mut reading = Self { stacks: Vec::new(), samples: 0, lost: 0, period: 0 };
        let profiles = data
            .resource_profiles
            .iter()
            .flat_map(|resource| &resource.scope_profiles)
            .flat_map(|scope| &scope.profiles);
        for profile in profiles {
            match sample_type(profile, dictionary) {
                ("samples", "count") => {
                    reading.samples +=
                        profile.samples.iter().flat_map(|row| &row.values).sum::<i64>();
                }
                ("cpu", "nanoseconds") => reading.add(profile, dictionary),
                other => panic!("a sample type that record does not have: {other:?}"),
            }
        }
        reading
    }

    fn add(&mut self, profile: &Profile, dictionary: &ProfilesDictionary) {
        self.period = profile.period;
        if let Some(Value::IntValue(lost)) =
            attribute(&profile.attribute_indices, "profpipe.samples.lost", dictionary)
        {
            self.lost += lost;
        }
        for row in &profile.samples {
            let stack = &dictionary.stack_table[row.stack_index as usize];
            let text = |key| match attribute(&row.attribute_indices, key, dictionary) {
                Some(Value::StringValue(text)) => Some(text.clone()),
                _ => None,
            };
            self.stacks.push(Stack {
                frames: stack
                    .location_indices
                    .iter()
                    .flat_map(|&location| frames(location, dictionary))
                    .collect(),
                nanoseconds: row.values.iter().sum(),
                state: text("profpipe.stack.state"),
                thread: text("thread.name").unwrap_or_default(),
            });
        }
    }

    /// CPU time of all stacks.
    pub(crate) fn total(&self) -> i64 {
        self.stacks.iter().map(|stack| stack.nanoseconds).sum()
    }

    /// CPU time of the stacks that `chosen` accepts.
    pub(crate) fn time_of(&self, chosen: impl Fn(&Stack) -> bool) -> i64 {
        self.stacks.iter().filter(|stack| chosen(stack)).map(|stack| stack.nanoseconds).sum()
    }

    /// Whether any stack has this function.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.stacks.iter().any(|stack| stack.has(&[name]))
    }

    /// The stacks that cost most, for a failing test's message.
    pub(crate) fn sketch(&self, chosen: impl Fn(&Stack) -> bool) -> String {
        let mut stacks: Vec<_> = self.stacks.iter().filter(|stack| chosen(stack)).collect();
        stacks.sort_by_key(|stack| std::cmp::Reverse(stack.nanoseconds));
        stacks.iter().take(12).map(|stack| stack.sketch()).collect::<Vec<_>>().join("\n")
    }
}

impl Stack {
    /// Whether one of these functions is in the stack.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.frames.iter().any(|frame| names.iter().any(|name| frame.is(name)))
    }

    /// Whether any of it is user code.
    pub(crate) fn has_user_frames(&self) -> bool {
        self.frames.iter().any(|frame| !frame.kernel)
    }

    /// One line: the leaf's end and the root's end of a long stack.
    fn sketch(&self) -> String {
        let short = |frame: &Frame| frame.name.chars().take(60).collect::<String>();
        let mut names: Vec<_> = self.frames.iter().map(short).collect();
        if names.len() > 16 {
            names.splice(10..names.len() - 5, [String::from("…")]);
        }
        let state = self.state.as_deref().unwrap_or("complete");
        let ms = self.nanoseconds / 1_000_000;
        format!("  {ms:6} ms {state:9} [{}] {}", self.thread, names.join(" < "))
    }
}

impl Frame {
    /// A plain name must be the whole name; one with punctuation is looked for within it, because
    /// how arguments and generics are written is the demangler's choice.
    pub(crate) fn is(&self, name: &str) -> bool {
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        // node writes a function as `JS:*name file:line:column` (`*` optimized, `~` interpreted).
        self.name == name
            || (plain
                && self.name.strip_prefix("JS:").is_some_and(|js| {
                    js.trim_start_matches(['*', '~', '^', '+', '\''])
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with(' '))
                }))
            || (!plain && self.name.contains(name))
    }
}

fn sample_type<'a>(profile: &Profile, dictionary: &'a ProfilesDictionary) -> (&'a str, &'a str) {
    let sample_type = profile.sample_type.expect("a sample type");
    let string = |index: i32| dictionary.string_table[index as usize].as_str();
    (string(sample_type.type_strindex), string(sample_type.unit_strindex))
}

fn attribute<'a>(
    indices: &[i32],
    key: &str,
    dictionary: &'a ProfilesDictionary,
) -> Option<&'a Value> {
    indices
        .iter()
        .map(|&index| &dictionary.attribute_table[index as usize])
        .find(|attribute| dictionary.string_table[attribute.key_strindex as usize] == key)
        .and_then(|attribute| attribute.value.as_ref()?.value.as_ref())
}

fn frames(location: i32, dictionary: &ProfilesDictionary) -> Vec<Frame> {
    let location = &dictionary.location_table[location as usize];
    let mapping = &dictionary.mapping_table[location.mapping_index as usize];
    let string = |index: i32| dictionary.string_table[index as usize].clone();
    let module = string(mapping.filename_strindex);
    let frame_type = attribute(&location.attribute_indices, "profile.frame.type", dictionary);
    let kernel = matches!(frame_type, Some(Value::StringValue(text)) if text == "kernel");
    if location.lines.is_empty() {
        let name =
            format!("{}+{:#x}", module.rsplit('/').next().unwrap_or_default(), location.address);
        return vec![Frame { name, file: String::new(), line: 0, module, kernel, inlined: false }];
    }
    let last = location.lines.len() - 1;
    location
        .lines
        .iter()
        .enumerate()
        .map(|(position, line)| {
            let function = &dictionary.function_table[line.function_index as usize];
            Frame {
                name: string(function.name_strindex),
                file: string(function.filename_strindex),
                line: line.line,
                module: module.clone(),
                kernel,
                inlined: position < last,
            }
        })
        .collect()
}
