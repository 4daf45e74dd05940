#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use super::{Deviations, decode, decode_file, encode};

fn rewritten(text: &str) -> String {
    encode(&decode(text.as_bytes()).unwrap(), None).unwrap()
}

/// Scenario: lines as different tools write them: Windows line ends, tabs, spaces in names, empty
/// lines, no line end at the end, stacks that come twice.
/// Guarantees: all are read; written they are sorted, each stack once.
#[test]
fn tolerant() {
    let text = "main;b 2\r\n\r\nmain;operator new(unsigned long) 3\nmain;a\t1\n  \nmain;b 40";
    assert_eq!(rewritten(text), "main;a 1\nmain;b 42\nmain;operator new(unsigned long) 3\n");
    assert_eq!(rewritten(""), "");
    assert_eq!(rewritten("[no stack] 5"), "[no stack] 5\n");
    assert_eq!(rewritten("a;;b 1"), "a;[unknown];b 1\n");
    // Two names that differ in what the format cannot hold.
    assert_eq!(rewritten("a;b 2;x 1\na;b\r2;x 1"), "a;b 2;x 2\n");
}

/// Scenario: lines without a count.
/// Guarantees: the number of the line and what is wrong, in one short line.
#[test]
fn wrong_lines() {
    let error = |text: &[u8]| decode(text).unwrap_err().to_string();
    assert_eq!(error(b"a;b 1\na;b\n"), "line 2: `a;b` is not `root;caller;leaf COUNT`");
    assert_eq!(error(b"a b c"), "line 1: the count `c` is not a whole number");
    assert_eq!(error(b"a 1.5"), "line 1: the count `1.5` is not a whole number");
    assert_eq!(error(b"# a comment"), "line 1: the count `comment` is not a whole number");
    let long = [b"x".repeat(1000), b" y".to_vec()].concat();
    assert!(error(&b"x".repeat(1000)).len() < 100);
    assert!(error(&long).len() < 100);
}

/// Scenario: a name that is not UTF-8, a byte order mark, a stack whose root begins as comments do.
/// Guarantees: senders are not refused for them, and nothing of what they send is skipped.
#[test]
fn names_as_senders_have_them() {
    let text = b"\xef\xbb\xbfmain;caf\xe9 2\n# main;f 3\n#<Class:0x1>;f 4\n";
    let profiles = decode(text).unwrap();
    let written = encode(&profiles, None).unwrap();
    assert_eq!(written, "#<Class:0x1>;f 4\n#_main;f 3\nmain;caf\u{fffd} 2\n");
}

/// The stacks of a file, and what was not taken as it stands.
fn file(text: &[u8]) -> (String, Deviations) {
    let (profiles, deviations) = decode_file(text).unwrap();
    (encode(&profiles, None).unwrap(), deviations)
}

/// Scenario: files as Austin, speedscope, editors and hands write them: comments, marks of UTF-8 and
/// UTF-16, lines that are no stacks, names that begin as comments do.
/// Guarantees: comments are skipped without a word, other lines with their number and what is wrong
/// with the first; stacks are all there.
#[test]
fn files_of_many_tools() {
    let text = b"# austin: 3.3.0\n# interval: 100\n#\n// by hand 5\n\na;b 3\n#a;b 1\n//x;y 2\n";
    assert_eq!(file(text), ("#a;b 1\n//x;y 2\na;b 3\n".into(), Deviations::default()));
    assert_eq!(file(b"\xef\xbb\xbf# x\r\na;b 3\r\n").0, "a;b 3\n");
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}a;\u{e9} 3\n".encode_utf16().flat_map(unit).collect()
    };
    for text in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
        assert_eq!(file(&text).0, "a;\u{e9} 3\n");
    }
    let (stacks, deviations) = file(b"total samples\na;b 3\n\xff;b 1\nno count\n");
    assert_eq!(stacks, "a;b 3\n\u{fffd};b 1\n");
    assert_eq!(deviations.skipped, 2);
    let first = "the count `samples` is not a number";
    assert_eq!(deviations.first_skipped, Some((1, first.to_owned())));
    // A file without one stack is no file of stacks.
    let error = decode_file(b"# x 1\nno stack\nno count\n").unwrap_err().to_string();
    assert_eq!(error, "line 2: the count `stack` is not a number");
    assert_eq!(file(b"# nothing\n").0, "");
}

/// Scenario: counts with fractions, of one stack and of many, beside whole ones; numbers that are none.
/// Guarantees: each is rounded so that the sum is right to one count; they are counted.
#[test]
fn fractions() {
    let (stacks, deviations) = file(b"a 1.5\na 1.5\nb 2\n");
    assert_eq!((stacks.as_str(), deviations.fractions), ("a 3\nb 2\n", 2));
    let many: String = (0..1000).map(|at| format!("f{at} 0.25\n")).collect();
    let (stacks, _) = file(many.as_bytes());
    let sum: i64 =
        stacks.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 250);
    for number in ["1.2.3", "nan", "inf", "0x10", "1e300", "99999999999999999999", "."] {
        assert!(decode_file(format!("a {number}\n").as_bytes()).is_err(), "{number}");
    }
}

/// Scenario: names with control characters, such as those that steer a terminal, and names that would
/// make a comment of their line, with and without a stack.
/// Guarantees: what is written is safe to print, and read again it is the same.
#[test]
fn written_names_are_safe() {
    for (name, written) in [
        ("\u{1b}[2J", "\u{fffd}[2J"),
        ("a\u{9b}b\u{7f}", "a\u{fffd}b\u{fffd}"),
        ("a\tb\rc", "a b c"),
        ("# x", "#_x"),
        ("//  x", "//_x"),
        ("#", "#_"),
        ("\u{feff}x", "\u{fffd}x"),
    ] {
        let mut profiles = decode(b"placeholder 5").unwrap();
        let dictionary = &mut profiles.dictionary;
        let name = dictionary.strings.intern(name);
        let function = profpipe_profile::Function { name, ..Default::default() };
        let function = dictionary.functions.intern(function);
        let lines = [profpipe_profile::Line { function, line: 0, column: 0 }];
        let location = profpipe_profile::LocationRef { lines: &lines, ..Default::default() };
        let location = dictionary.locations.intern(location);
        let stack = dictionary.stacks.intern(&[location]);
        profiles.resources[0].scopes[0].profiles[0].samples.stacks_mut()[0] = stack;
        let text = encode(&profiles, None).unwrap();
        assert_eq!(text, format!("{written} 5\n"));
        assert_eq!(file(text.as_bytes()).0, text);
    }
}

/// Scenario: names with a semicolon or a line break.
/// Guarantees: the line stays one line with the same frames.
#[test]
fn names_without_separators() {
    let mut profiles = decode(b"a;x 1").unwrap();
    let strings = &mut profiles.dictionary.strings;
    let name = strings.intern("[u8; 4]\n");
    let function = profpipe_profile::Function { name, ..Default::default() };
    let function = profiles.dictionary.functions.intern(function);
    let lines = [profpipe_profile::Line { function, line: 0, column: 0 }];
    let location = profpipe_profile::LocationRef { lines: &lines, ..Default::default() };
    let location = profiles.dictionary.locations.intern(location);
    let stack = profiles.dictionary.stacks.intern(&[location]);
    for of_sample in profiles.resources[0].scopes[0].profiles[0].samples.stacks_mut() {
        *of_sample = stack;
    }
    assert_eq!(encode(&profiles, None).unwrap(), "[u8: 4]  1\n");
}

proptest! {
    /// Scenario: any bytes.
    /// Guarantees: no panic.
    #[test]
    fn random(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        let _ = decode_file(&bytes);
    }

    /// Scenario: any stacks of names without separators.
    /// Guarantees: written and read they keep their costs.
    #[test]
    fn round_trip(
        stacks in prop::collection::btree_map(
            prop::collection::vec("[a-z]( ?[a-z(:]){0,5}", 1..5),
            1..i64::MAX / 100,
            0..20,
        ),
    ) {
        let lines = stacks.iter().map(|(stack, cost)| format!("{} {cost}\n", stack.join(";")));
        let text: String = lines.collect();
        let mut sorted: Vec<_> = rewritten(&text).lines().map(str::to_owned).collect();
        let mut expected: Vec<_> = text.lines().map(str::to_owned).collect();
        sorted.sort();
        expected.sort();
        prop_assert_eq!(sorted, expected);
    }
}
