#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use profpipe_profile::attribute_names::{
    PPROF_DEFAULT_SAMPLE_TYPE, PPROF_DROP_FRAMES, PPROF_KEEP_FRAMES, PROCESS_EXECUTABLE_NAME,
    SAMPLES_LOST, STACK_STATE,
};
use profpipe_profile::{
    AttributeIx, Function, KeyValue, Line, LinkIx, LocationRef, MappingRef, Profile, Profiles,
    ResourceProfiles, SampleRef, ScopeProfiles, StringIx, Value, ValueType,
};

/// A batch under construction: one resource, one scope.
#[derive(Default)]
struct Builder {
    profiles: Profiles,
    scope: ScopeProfiles,
}

impl Builder {
    fn attribute(&mut self, key: &str, value: impl Into<Value>) -> AttributeIx {
        let key = self.profiles.dictionary.strings.intern(key);
        self.profiles.dictionary.attributes.intern(key, value.into(), StringIx::NONE)
    }

    /// A profile of samples. A sample is its frames, leaf first, its state and its cost; a frame is
    /// `module!inlined<caller`, or `module+address` in hex.
    fn profile(
        mut self,
        (kind, unit): (&str, &str),
        attributes: &[(&str, Value)],
        samples: &[(&[&str], &str, i64)],
    ) -> Self {
        let attributes =
            attributes.iter().map(|(key, value)| self.attribute(key, value.clone())).collect();
        let strings = &mut self.profiles.dictionary.strings;
        let sample_type = ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
        let mut profile = Profile { sample_type, attributes, ..Profile::default() };
        for (frames, state, cost) in samples {
            let state: Vec<_> = match *state {
                "" => Vec::new(),
                state => vec![self.attribute(STACK_STATE, state)],
            };
            let locations: Vec<_> = frames.iter().map(|frame| self.location(frame)).collect();
            profile.samples.push(SampleRef {
                stack: self.profiles.dictionary.stacks.intern(&locations),
                attributes: &state,
                link: LinkIx::NONE,
                values: &[*cost],
                timestamps_unix_nano: &[],
            });
        }
        self.scope.profiles.push(profile);
        self
    }

    fn location(&mut self, frame: &str) -> profpipe_profile::LocationIx {
        let dictionary = &mut self.profiles.dictionary;
        let (module, names, address) = match (frame.split_once('!'), frame.split_once('+')) {
            (Some((module, names)), _) => (module, names.split('<').collect(), 1),
            (None, Some((module, address))) => {
                (module, Vec::new(), u64::from_str_radix(address, 16).unwrap())
            }
            (None, None) => ("", vec![frame], 1),
        };
        let mut mapping =
            MappingRef { memory_start: 0x1000, file_offset: 0x200, ..Default::default() };
        mapping.filename = dictionary.strings.intern(module);
        let mapping = dictionary.mappings.intern(mapping);
        let lines: Vec<_> = names
            .into_iter()
            .map(|name| {
                let name = dictionary.strings.intern(name);
                let function = Function { name, ..Function::default() };
                Line { function: dictionary.functions.intern(function), line: 1, column: 0 }
            })
            .collect();
        let mapping = if module.is_empty() { profpipe_profile::MappingIx::NONE } else { mapping };
        let location = LocationRef { mapping, address, lines: &lines, attributes: &[] };
        dictionary.locations.intern(location)
    }

    fn default_type(mut self, kind: &str) -> Self {
        let key = PPROF_DEFAULT_SAMPLE_TYPE.to_owned();
        self.scope.scope.attributes.push(KeyValue { key, value: kind.into() });
        self
    }

    fn build(mut self) -> Profiles {
        let scopes = vec![self.scope];
        self.profiles.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
        self.profiles
    }
}

const CPU: (&str, &str) = ("cpu", "nanoseconds");
const SAMPLES: (&str, &str) = ("samples", "count");

fn costs(top: &Top) -> Vec<(&str, &str, i64, i64)> {
    let functions = top.functions.iter();
    functions.map(|one| (one.name.as_str(), one.module.as_str(), one.own, one.total)).collect()
}

/// Scenario: recursion, inlined functions, one name in two modules, a module by two paths, a frame
/// without a name, a sample without a stack.
/// Guarantees: a recursive call counts once; inlined functions are frames; functions are told apart
/// by name and basename of the module; everything is in the total.
#[test]
fn costs_of_functions() {
    let profiles = Builder::default()
        .profile(
            CPU,
            &[],
            &[
                (&["/bin/app!f", "/bin/app!f", "/bin/app!main"], "", 100),
                (&["/bin/app!inner<f", "/bin/app!main"], "", 10),
                (&["/other/app!f"], "", 5),
                (&["/lib/c.so!f", "/bin/app!main"], "", 3),
                (&["/lib/c.so+1234", "/bin/app!main"], "", 2),
                (&[], "", 1),
            ],
        )
        .build();
    let by_own = top(&profiles, None, Column::Own).unwrap();
    assert_eq!(
        costs(&by_own),
        [
            ("f", "app", 105, 115),
            ("inner", "app", 10, 10),
            ("f", "c.so", 3, 3),
            ("c.so+0x434", "c.so", 2, 2),
            ("main", "app", 0, 115),
        ]
    );
    assert_eq!((by_own.total, by_own.samples, by_own.lost), (121, 6, 0));
    let by_total = top(&profiles, None, Column::Total).unwrap();
    assert_eq!(costs(&by_total)[..2], [("f", "app", 105, 115), ("main", "app", 0, 115)]);
}

/// Scenario: a batch with samples and CPU time, losses, and stacks that are not complete.
/// Guarantees: samples are counted by the samples; each loss once.
#[test]
fn counts() {
    let lost = [(SAMPLES_LOST, Value::Int(4))];
    let rows: [(&[&str], &str, i64); 3] =
        [(&["f"], "", 7), (&["f"], "truncated", 2), (&["f"], "broken", 1)];
    let profiles =
        Builder::default().profile(SAMPLES, &lost, &rows).profile(CPU, &lost, &rows).build();
    for kind in ["samples", "cpu"] {
        let top = top(&profiles, Some(kind), Column::Own).unwrap();
        assert_eq!((top.samples, top.lost), (10, 4));
        assert_eq!(
            top.stacks,
            StackCounts { complete: 7, truncated: 2, broken: 1, ..StackCounts::default() }
        );
    }
}

/// Scenario: which type is reported: nothing wanted, by name, by unit, by position, the old names
/// of Go's heap, one that is not there, none at all.
/// Guarantees: as google/pprof chooses; the error lists what there is.
#[test]
fn choice_of_type() {
    let space = ("space", "bytes");
    let row: [(&[&str], &str, i64); 1] = [(&["f"], "", 1)];
    let build = || {
        Builder::default().profile(SAMPLES, &[], &row).profile(space, &[], &row).profile(
            CPU,
            &[],
            &row,
        )
    };
    let chosen = |profiles: &Profiles, wanted| {
        top(profiles, wanted, Column::Own).map(|top| top.profile_type)
    };
    let plain = build().build();
    for (wanted, kind) in [
        (None, "cpu"),
        (Some("space"), "space"),
        (Some("inuse_space"), "space"),
        (Some("samples/count"), "samples"),
        (Some("0"), "samples"),
    ] {
        assert_eq!(chosen(&plain, wanted).unwrap(), kind);
    }
    assert_eq!(chosen(&build().default_type("samples").build(), None).unwrap(), "samples");
    assert_eq!(chosen(&build().default_type("gone").build(), None).unwrap(), "cpu");
    for wanted in ["wall", "3", "cpu/bytes", ""] {
        let error = chosen(&plain, Some(wanted)).unwrap_err().to_string();
        let expected =
            format!("there is no sample type `{wanted}` in it; it has samples, space, cpu");
        assert_eq!(error, expected);
    }
    assert_eq!(chosen(&Profiles::new(), None), Err(ReportError::Empty));
}

/// Scenario: a profile names frames to leave out and exceptions; the expected stacks were computed
/// with google/pprof's `Profile.RemoveUninteresting`.
/// Guarantees: the same frames are left out.
#[test]
fn frames_left_out() {
    let drop = [
        (PPROF_DROP_FRAMES, Value::from(r"malloc.*|new|\(anonymous namespace\)::g")),
        (PPROF_KEEP_FRAMES, Value::from("malloc_user")),
    ];
    let folded = |stack: &[&str]| {
        let profiles = Builder::default().profile(CPU, &drop, &[(stack, "", 1)]).build();
        crate::folded::encode(&profiles, None).unwrap()
    };
    for (stack, expected) in [
        // The match and what it calls go.
        (&["leaf", "malloc(unsigned long)", "user", "main"][..], "main;user 1\n"),
        (&["leaf", "malloc_user", "main"], "main;malloc_user;leaf 1\n"),
        (&["g", "xmalloc", "main"], "main;xmalloc;g 1\n"),
        (&["leaf", "(anonymous namespace)::g(int)", "main"], "main 1\n"),
        // Nothing above it is the user's: it stays.
        (&["leaf", "malloc"], "malloc;leaf 1\n"),
        (&["leaf", "malloc", "user", "malloc"], "malloc;user 1\n"),
        // In an inlined function: its caller stays, what it calls goes.
        (&["leaf", "m!x<new<user", "main"], "main;user 1\n"),
        (&["leaf", "m!x<new<user", "new"], "new;user;leaf 1\n"),
        (&["m!x<new<user", "new", "m!x<new<user"], "user;new;user 1\n"),
    ] {
        assert_eq!(folded(stack), expected, "{stack:?}");
    }
    let wrong = [(PPROF_DROP_FRAMES, Value::from("("))];
    let profiles = Builder::default().profile(CPU, &wrong, &[(&["f", "main"], "", 1)]).build();
    assert_eq!(crate::folded::encode(&profiles, None).unwrap(), "main;f 1\n");
}

/// Scenario: the table and the JSON of a small profile, with a name that would move the cursor.
/// Guarantees: exactly these bytes.
#[test]
fn golden() {
    let lost = [(SAMPLES_LOST, Value::Int(3))];
    let rows = |weight: i64| {
        [
            (&["/bin/app!hot", "/bin/app!main"][..], "", 75 * weight),
            (&["/usr/lib/libc.so.6+1f00", "/bin/app!main"], "truncated", 20 * weight),
            (&["\u{1b}[2J\"quoted\"", "/bin/app!main"], "", 5 * weight),
        ]
    };
    let profiles = Builder::default()
        .profile(SAMPLES, &lost, &rows(1))
        .profile(CPU, &lost, &rows(12_345_678))
        .build();
    let top = top(&profiles, None, Column::Own).unwrap();
    let table = [
        "cpu: 1.23s in 100 samples, 3 lost",
        "stacks: 80.0% complete, 20.0% truncated, 0.0% broken",
        "  self      %   total      %  module     function",
        " 926ms  75.0%   926ms  75.0%  app        hot",
        " 247ms  20.0%   247ms  20.0%  libc.so.6  libc.so.6+0x1100",
        "61.7ms   5.0%  61.7ms   5.0%             \u{fffd}[2J\"quoted\"",
    ];
    assert_eq!(top.to_text(3).lines().collect::<Vec<_>>(), table);
    assert_eq!(
        top.to_json(1),
        "{\"profile_type\":\"cpu\",\"unit\":\"nanoseconds\",\"total\":1234567800,\"samples\":100,\
         \"lost\":3,\"functions\":[{\"name\":\"hot\",\"module\":\"app\",\"self\":925925850,\
         \"total\":925925850}]}"
    );
}

/// Scenario: amounts around the borders of units.
/// Guarantees: as people write them.
#[test]
fn human_units() {
    for (value, unit, text) in [
        (0, "nanoseconds", "0"),
        (999, "nanoseconds", "999ns"),
        (1_230_000_000, "nanoseconds", "1.23s"),
        (-1_500_000, "nanoseconds", "-1.50ms"),
        (90, "seconds", "1.50min"),
        (12_900_000, "bytes", "12.3MiB"),
        (1024, "bytes", "1KiB"),
        (i64::MAX, "bytes", "8388608TiB"),
        (1_234_567, "count", "1234567"),
        (7, "", "7"),
    ] {
        assert_eq!(amount(value, unit), text);
    }
    assert_eq!(percent(1, 3), "33.3%");
    assert_eq!(percent(0, 0), "0.0%");
}

/// Scenario: the stacks of one process, of two processes, and of two in a file, which knows of
/// processes by labels only.
/// Guarantees: the name of the process is the root where there are several.
#[test]
fn stacks_by_process() {
    let rows: [(&[&str], &str, i64); 2] = [(&["f", "main"], "", 1), (&[], "", 2)];
    let mut profiles = Builder::default().profile(CPU, &[], &rows).build();
    let stacks =
        |profiles: &Profiles| crate::folded::write(&collapse_by_process(profiles, None).unwrap());
    profiles.resources[0].resource.set(PROCESS_EXECUTABLE_NAME, "one");
    assert_eq!(stacks(&profiles), "[no stack] 2\nmain;f 1\n");
    profiles.resources.push(profiles.resources[0].clone());
    profiles.resources[1].resource.set(PROCESS_EXECUTABLE_NAME, "two");
    let expected = "one 2\none;main;f 1\ntwo 2\ntwo;main;f 1\n";
    assert_eq!(stacks(&profiles), expected);
    let file = crate::pprof::decode(&crate::pprof::encode(&profiles).unwrap()).unwrap();
    assert_eq!(stacks(&file), expected);
    assert_eq!(crate::folded::encode(&file, None).unwrap(), "[no stack] 4\nmain;f 2\n");
}

/// Scenario: one location with 100,000 inlined functions, 100,000 times in one stack.
/// Guarantees: an error, soon.
#[test]
fn stacks_that_unfold_without_end() {
    let names = vec!["f"; 100_000].join("<");
    let frame = format!("m!{names}");
    let stack = vec![frame.as_str()];
    let mut profiles = Builder::default().profile(CPU, &[], &[(&stack, "", 1)]).build();
    let location = profiles.dictionary.stacks.iter().nth(1).unwrap()[0];
    let stack = profiles.dictionary.stacks.intern(&vec![location; 100_000]);
    profiles.resources[0].scopes[0].profiles[0].samples.stacks_mut()[0] = stack;
    assert_eq!(collapse(&profiles, None), Err(ReportError::TooLarge));
}
