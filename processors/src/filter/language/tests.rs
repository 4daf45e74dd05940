#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_profile::Value;
use proptest::prelude::*;

use super::{Context, Datum, Environment, Field, Key, Level, Outcome, Path, parse};

/// Attributes of a resource, and nothing else.
struct Attributes(Vec<(&'static str, Value)>);

impl Environment for Attributes {
    fn get(&self, path: &Path) -> Datum<'_> {
        let (Field::ResourceAttributes, [Key::Name(name)]) = (path.field, &*path.keys) else {
            return Datum::Nil;
        };
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or(Datum::Nil, |(_, value)| Datum::of(value))
    }
}

fn ask(text: &str) -> Outcome {
    let attributes = Attributes(vec![
        ("s", Value::from("Shop")),
        ("i", Value::Int(7)),
        ("d", Value::Double(7.0)),
        ("t", Value::Bool(true)),
        ("a", Value::Array(vec![Value::Int(1), Value::from("x")])),
        ("b", Value::Bytes(vec![0xab, 1])),
    ]);
    let text = text.replace("$[", "attributes[");
    let expression =
        parse(&text, Context::Resource).unwrap_or_else(|mistake| panic!("{text}: {mistake:?}"));
    expression.ask(&attributes)
}

/// Scenario: comparisons of every operator with values of every type, equal and unequal ones.
/// Guarantees: OTTL's answers: numbers compare across types, other types are unequal and not ordered,
/// nil equals only nil.
#[test]
fn comparisons() {
    for holds in [
        r#"$["s"] == "Shop""#,
        r#"$["s"] != "shop""#,
        r#"$["s"] < "Shoq""#,
        r#"$["i"] == 7"#,
        r#"$["i"] == 7.0"#,
        r#"$["d"] == 7"#,
        r#"$["i"] >= 7 and $["i"] <= 7.5"#,
        r#"$["i"] > -8"#,
        r#"7 == $["i"]"#,
        r#"$["t"] == true"#,
        r#"$["t"] > false"#,
        r#"$["x"] == nil"#,
        r#"$["s"] != nil"#,
        r#"$["i"] != "7""#,
        r#"$["s"] == $["s"]"#,
        r#"$["d"] < 1e3"#,
        r#""a\"b\\" == "a\"b\\""#,
    ] {
        assert_eq!(ask(holds), Outcome::True, "{holds}");
    }
    for not in [
        r#"$["x"] < 1"#,
        r#"$["x"] <= nil"#,
        r#"$["x"] != nil"#,
        r#"$["i"] < "8""#,
        r#"$["a"] == nil"#,
        r#"$["b"] == "ab01""#,
    ] {
        assert_eq!(ask(not), Outcome::False, "{not}");
    }
}

/// Scenario: every function, with values of the right type and of wrong ones.
/// Guarantees: what OTTL's functions answer; no answer for a value of a wrong type.
#[test]
fn functions() {
    for holds in [
        r#"IsMatch($["s"], "^Sh.p$")"#,
        r#"IsMatch($["i"], "^7$")"#,
        r#"IsMatch($["a"], "x")"#,
        r#"IsMatch($["b"], "^ab01$")"#,
        r#"not IsMatch($["x"], ".*")"#,
        r#"HasPrefix($["s"], "Sh") and HasSuffix($["s"], "op")"#,
        r#"ToLowerCase($["s"]) == "shop" and ToUpperCase($["s"]) == "SHOP""#,
        r#"Len($["s"]) == 4 and Len($["a"]) == 2"#,
        r#"IsString($["s"]) and IsInt($["i"]) and IsDouble($["d"]) and IsBool($["t"])"#,
        r#"not IsString($["x"])"#,
    ] {
        assert_eq!(ask(holds), Outcome::True, "{holds}");
    }
    for fault in
        [r#"ToLowerCase($["i"]) == "7""#, r#"HasPrefix($["x"], "a")"#, r#"Len($["i"]) == 1"#]
    {
        assert_eq!(ask(fault), Outcome::Fault, "{fault}");
    }
}

/// Scenario: `and`, `or`, `not` and parentheses in every mixture; parts without an answer.
/// Guarantees: `not` binds stronger than `and`, that than `or`; from left to right, and what is not
/// needed is not asked.
#[test]
fn logic() {
    for (text, expected) in [
        ("true or true and false", Outcome::True),
        ("(true or true) and false", Outcome::False),
        ("not false and false", Outcome::False),
        ("not (false and false)", Outcome::True),
        ("not not true", Outcome::True),
        (r#"true or Len($["i"]) == 1"#, Outcome::True),
        (r#"false and Len($["i"]) == 1"#, Outcome::False),
        (r#"Len($["i"]) == 1 or true"#, Outcome::Fault),
        (r#"not Len($["i"]) == 1"#, Outcome::Fault),
    ] {
        assert_eq!(ask(text), expected, "{text}");
    }
}

/// Scenario: paths of every level in the contexts in which they may stand.
/// Guarantees: the deepest says what the condition is about.
#[test]
fn levels() {
    for (text, context, level) in [
        (r#"resource.attributes["a"] == 1"#, Context::Inferred, Level::Resource),
        (r#"instrumentation_scope.name == "a""#, Context::Inferred, Level::Scope),
        (
            r#"profile.period > 1 and resource.attributes["a"] == 1"#,
            Context::Inferred,
            Level::Profile,
        ),
        (r#"attributes["a"]["b"][0] == 1"#, Context::Profile, Level::Profile),
        (r#"profilesample.attributes["a"] == 1"#, Context::Inferred, Level::Sample),
        (
            r#"not AnyFrame(frame.line == 3 and mapping.filename == "x")"#,
            Context::Inferred,
            Level::Sample,
        ),
        (
            r#"function.name == "a" or attributes["profile.frame.type"] == "kernel""#,
            Context::Frame,
            Level::Frame,
        ),
        ("true", Context::Sample, Level::Resource),
    ] {
        assert_eq!(parse(text, context).unwrap().level, level, "{text}");
    }
}

/// Scenario: text that is no condition, or one of OTTL that is not supported.
/// Guarantees: a mistake at the character where it begins, that says what could stand there.
#[test]
fn mistakes() {
    for (text, at, says) in [
        ("", 0, "found the end, expected a path"),
        ("true true", 5, "expected `and`, `or` or the end"),
        ("true && true", 5, "write `and`"),
        ("!true", 0, "write `not`"),
        (r#"resource.attributes["a"] = 1"#, 25, "write `==`"),
        (r#"resource.attributes["a"]"#, 0, "compare it"),
        ("resource.attributes == 1", 0, "choose an attribute"),
        (r#"resource.attributes[1] == 1"#, 20, "expected a key in double quotes"),
        (r#"resource.attributes["a" == 1"#, 24, "expected `]`"),
        (
            r#"resource.atributes["a"] == 1"#,
            0,
            "`resource.atributes` is not known here; use resource.attributes",
        ),
        ("profile.period + 1 == 2", 15, "arithmetic"),
        ("profile.period == 1 * 2", 20, "arithmetic"),
        ("profile.period == [1]", 18, "lists"),
        ("profile.period == 'a'", 18, "double quotes"),
        (r#"profile.period == "a"#, 18, "no closing quote"),
        (r#"IsMatch(scope.name, "\d")"#, 21, r"write `\\d`"),
        (r#"IsMatch(scope.name, "(")"#, 20, "regular expression"),
        (r#"IsMatch(scope.name, scope.version)"#, 20, "a text in double quotes"),
        (r#"IsMatch(scope.name)"#, 0, "takes 2 values, not 1"),
        (r#"IsMatch(scope.name, "a{1000}{1000}")"#, 20, "bytes"),
        ("ParseJSON(scope.name) == nil", 0, "there is no function `ParseJSON`; use IsMatch, "),
        (r#"frame.line == 1"#, 0, "write `AnyFrame(frame.line"),
        (r#"AnyFrame(profile.period == 1)"#, 9, "is not of a frame"),
        ("profile.period == 1x", 18, "not a number"),
        ("profile.period == 1 # why", 20, "`#` means nothing here"),
        ("(true", 5, "expected `)`"),
    ] {
        let mistake = parse(text, Context::Inferred).unwrap_err();
        assert_eq!(mistake.at, at, "{text}: {mistake:?}");
        assert!(mistake.message.contains(says), "{text}: {mistake:?}");
    }
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    assert!(parse(&deep, Context::Inferred).unwrap_err().message.contains("parentheses"));
    assert!(parse(&"true or ".repeat(5000), Context::Inferred).is_err());
}

proptest! {
    /// Scenario: any text, and any sequence of words of the language.
    /// Guarantees: reading ends without a panic, and a mistake is within the text.
    #[test]
    fn any_text_can_be_read(
        text in "\\PC{0,60}",
        words in prop::collection::vec(prop::sample::select(vec![
            "and", "or", "not", "(", ")", "true", "nil", "==", "<", "resource.attributes[\"a\"]",
            "sample.value", "1", "-2.5", "\"x\"", "IsMatch(", ",", "AnyFrame(", "frame.line", "Len(", ".", "[",
        ]), 0..20),
    ) {
        for text in [text, words.join(" ")] {
            for context in [Context::Inferred, Context::Frame, Context::Resource] {
                if let Err(mistake) = parse(&text, context) {
                    prop_assert!(mistake.at <= text.chars().count());
                }
            }
        }
    }
}
