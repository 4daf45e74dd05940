#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use profpipe_profile::attribute_names::{
    PPROF_DEFAULT_SAMPLE_TYPE, PPROF_DROP_FRAMES, PPROF_KEEP_FRAMES, PPROF_SAMPLE_TYPE_ORDER,
    PROCESS_EXECUTABLE_NAME, SAMPLES_LOST, STACK_STATE,
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
    // As OTLP has it: the first profile.
    for (wanted, kind) in [
        (None, "samples"),
        (Some("space"), "space"),
        (Some("inuse_space"), "space"),
        (Some("samples/count"), "samples"),
        (Some("0"), "samples"),
    ] {
        assert_eq!(chosen(&plain, wanted).unwrap(), kind);
    }
    assert_eq!(chosen(&build().default_type("space").build(), None).unwrap(), "space");
    assert_eq!(chosen(&build().default_type("gone").build(), None).unwrap(), "samples");
    // In a file of pprof the default is the last, unless it names another.
    let mut order = plain.clone();
    order.resources[0].scopes[0].scope.attributes.push(KeyValue {
        key: PPROF_SAMPLE_TYPE_ORDER.to_owned(),
        value: Value::Array([1, 2, 0].map(Value::Int).to_vec()),
    });
    assert_eq!(chosen(&order, None).unwrap(), "space");
    for wanted in ["wall", "3", "cpu/bytes", ""] {
        let error = chosen(&plain, Some(wanted)).unwrap_err().to_string();
        let expected =
            format!("there is no sample type `{wanted}` in it; it has samples, space, cpu");
        assert_eq!(error, expected);
    }
    assert_eq!(chosen(&Profiles::new(), None), Err(ReportError::Empty));
    // An error is printed, too.
    let hostile = Builder::default().profile(("\u{1b}[2J", "x"), &[], &row).build();
    let error = chosen(&hostile, Some("cpu")).unwrap_err().to_string();
    assert_eq!(error, "there is no sample type `cpu` in it; it has \u{fffd}[2J");
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
        .default_type("cpu")
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
        (90, "minutes", "90minutes"),
        (36, "hours", "36hrs"),
        (3, "GB", "3GB"),
        (1536, "gigabytes", "1.50TB"),
        (1500, "kilobytes", "1.46MiB"),
        (50, "percent", "50percent"),
        (8, "pages", "8pages"),
        (8, "\u{1b}[2J", "8\u{fffd}[2J"),
        (8, "samples", "8"),
    ] {
        assert_eq!(amount(value, unit), text);
    }
    assert_eq!(percent(1, 3), "33.3%");
    assert_eq!(percent(0, 0), "0.0%");
}

/// Scenario: one type in nanoseconds, microseconds, as `ms`, and in a unit that is no time; names of
/// one unit in the singular and in the plural.
/// Guarantees: what can be added is, in the finest unit; what cannot is said to be left out.
#[test]
fn units_of_one_dimension() {
    let row = |cost: i64| [(&["f", "main"][..], "", cost)];
    let profiles = Builder::default()
        .profile(("cpu", "microseconds"), &[], &row(5000))
        .profile(("cpu", "nanoseconds"), &[], &row(3_000_000))
        .profile(("cpu", "ms"), &[], &row(7))
        .profile(("cpu", "cycles"), &[], &row(11))
        .profile(("wall", "seconds"), &[], &row(1))
        .build();
    for wanted in [None, Some("cpu"), Some("cpu/ms")] {
        let top = top(&profiles, wanted, Column::Own).unwrap();
        assert_eq!((top.total, top.unit.as_str(), top.samples), (15_000_000, "nanoseconds", 3));
        assert_eq!(costs(&top)[0], ("f", "", 15_000_000, 15_000_000));
        let collapsed = collapse(&profiles, wanted).unwrap();
        assert_eq!((collapsed.total(), collapsed.unit.as_str()), (15_000_000, "nanoseconds"));
    }
    let choice = Choice::new(&profiles, None).unwrap();
    let left_out = choice.left_out(&profiles);
    assert_eq!(left_out.types, ["cpu in cycles", "wall"]);
    assert_eq!(top(&profiles, Some("cpu/cycles"), Column::Own).unwrap().total, 11);

    for (a, b, total, unit) in [
        (("x", "bytes"), ("x", "KiB"), 1 + 1024, "bytes"),
        (("x", "MB"), ("x", "kilobyte"), 1024 + 1, "kilobyte"),
        (("x", "minutes"), ("x", "seconds"), 61, "seconds"),
        (("x", "object"), ("x", "objects"), 2, "object"),
    ] {
        let profiles = Builder::default().profile(a, &[], &row(1)).profile(b, &[], &row(1));
        let top = top(&profiles.build(), None, Column::Own).unwrap();
        assert_eq!((top.total, top.unit.as_str()), (total, unit));
    }
}

/// Scenario: a difference: values above and below zero, whose sum is small, zero or below zero; one
/// sample that two profiles have with opposite signs.
/// Guarantees: shares are of the sum of absolute values, as in `go tool pprof -top`, and never pass
/// 100 %; that is said; what shrank most is among the first; programs get what shares are of.
#[test]
fn values_below_zero() {
    let of = |rows: &[(&[&str], &str, i64)]| {
        let profiles = Builder::default().profile(("space", "bytes"), &[], rows).build();
        top(&profiles, None, Column::Own).unwrap()
    };
    let one = of(&[(&["f", "main"], "", -20), (&["g", "main"], "", 50)]);
    let table = [
        "space: 30B in 2 samples, 0 lost",
        "some values are below zero: shares are of 70B, the sum of absolute values",
        "self       %  total       %  module  function",
        " 50B   71.4%    50B   71.4%          g",
        "-20B  -28.6%   -20B  -28.6%          f",
        "   0    0.0%    30B   42.9%          main",
    ];
    assert_eq!(one.to_text(9).lines().collect::<Vec<_>>(), table);
    assert!(one.to_json(0).contains(r#""total":30,"absolute_total":70,"samples""#));
    let even = of(&[(&["f"], "", -50), (&["g"], "", 50)]);
    assert_eq!((even.total, even.absolute_total), (0, 100));
    assert!(even.to_text(9).contains("-50.0%"), "{}", even.to_text(9));
    let shrunk = of(&[(&["f"], "", -90), (&["g"], "", 10)]);
    assert_eq!(costs(&shrunk)[0].0, "f");
    let cancelled = of(&[(&["f"], "", -90), (&["f"], "", 90), (&["g"], "", 10)]);
    assert_eq!(cancelled.absolute_total, 10);
    let largest = of(&[(&["f"], "", i64::MAX), (&["g"], "", i64::MAX), (&["h"], "", 0)]);
    assert!(largest.to_text(9).contains("50.0%"), "{}", largest.to_text(9));
    assert!(!largest.has_negative && largest.to_json(0).contains(&format!("{}", i64::MAX)));
    let smallest = of(&[(&["f"], "", i64::MIN), (&["g"], "", 1)]);
    assert!(smallest.to_text(9).contains("-100.0%"), "{}", smallest.to_text(9));
}

/// Scenario: one resource has `samples` beside the type reported, another has only that type, a third
/// only `samples`.
/// Guarantees: samples are counted where the type is, by rows where nothing says how many they were.
#[test]
fn samples_of_several_resources() {
    let row = |cost: i64| [(&["f"][..], "", cost)];
    let mut profiles =
        Builder::default().profile(CPU, &[], &row(70)).profile(SAMPLES, &[], &row(7)).build();
    let both = profiles.resources[0].clone();
    let mut only = |at: usize| {
        let mut resource = both.clone();
        resource.scopes[0].profiles.remove(at);
        profiles.resources.push(resource);
    };
    only(1);
    only(0);
    let top = top(&profiles, Some("cpu"), Column::Own).unwrap();
    assert_eq!((top.total, top.samples), (140, 7 + 1));
    let choice = Choice::new(&profiles, Some("cpu")).unwrap();
    let left_out = LeftOut { types: vec!["samples".into()], resources: vec![2] };
    assert_eq!(choice.left_out(&profiles), left_out);
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
