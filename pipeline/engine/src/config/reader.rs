//! A part of the tree into a type of its own, with every mistake and not only the first.
//!
//! A type built by serde stops at the first value it cannot take. So a mistake is noted, the value
//! is cut out of a copy of the tree and the type is read again, which then takes its default there
//! and gets to the next mistake; at most [`MAX_ROUNDS`] times. Keys that a struct does not know are
//! noted on the way, whether or not it says `deny_unknown_fields`.
//!
//! Null is "as if it were not there", as in the Collector: a field keeps its default. Where a
//! struct is optional, null means that it is there with its defaults (`grpc:` under `protocols`).

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, Expected, Unexpected};

use super::deserialize::Reader;
use super::error::ConfigError;
use super::node::{Mark, Node, Step, join};
use super::suggest::did_you_mean;

/// How often a type is read again.
const MAX_ROUNDS: usize = 200;

/// Reads `node`, which is at the path `base`, into a type; with it every mistake. Where there are
/// mistakes, the type has its defaults in their place, or is not there if it has none.
pub(crate) fn read_lossy<T: DeserializeOwned>(
    node: &Node,
    base: &str,
) -> (Option<T>, Vec<ConfigError>) {
    let mut node = node.clone();
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut pruned: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let unknown = RefCell::default();
        let reader = Reader { node: &node, trail: &Trail::Root, unknown: &unknown };
        let result = T::deserialize(reader).map_err(|fault| fault.locate(&Trail::Root, &node.mark));
        for (steps, error) in unknown.into_inner() {
            node.prune(&steps);
            errors.push(ConfigError { path: join(base, &as_written(&steps, &pruned)), ..error });
        }
        let fault = match result {
            Ok(value) => return (Some(value), errors),
            Err(fault) => fault,
        };
        let (steps, mark) = fault.place.unwrap_or_default();
        let written = as_written(&steps, &pruned);
        let mut of_field = written.clone();
        of_field.extend(fault.missing.map(|field| Step::Key(field.to_owned())));
        // What was cut out for a mistake is not missing on top of that, nor is what it was in of
        // the wrong shape for it.
        let consequence = pruned.iter().any(|gone| match fault.missing {
            Some(_) => *gone == of_field,
            None => gone.starts_with(&written),
        });
        if !fault.silent && !consequence {
            errors.push(ConfigError::at(&mark, join(base, &of_field), fault.message));
        }
        if !node.prune(&steps) {
            break;
        }
        if !fault.silent {
            pruned.push(written);
        }
    }
    if errors.is_empty() {
        errors.push(ConfigError::at(&node.mark, base, "has more mistakes than can be told apart"));
    }
    (None, errors)
}

/// As [`read_lossy`], for those who have no use for half a value.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn read<T: DeserializeOwned>(node: &Node, base: &str) -> Result<T, Vec<ConfigError>> {
    match read_lossy(node, base) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(errors),
    }
}

/// The path as it was before items were cut out of the lists on it.
fn as_written(steps: &[Step], pruned: &[Vec<Step>]) -> Vec<Step> {
    let mut written: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let Step::Index(at) = step else {
            written.push(step.clone());
            continue;
        };
        let mut gone: Vec<usize> = pruned
            .iter()
            .filter_map(|path| match path.split_last() {
                Some((Step::Index(at), parents)) if *parents == *written => Some(*at),
                _ => None,
            })
            .collect();
        gone.sort_unstable();
        let at = gone.into_iter().fold(*at, |at, gone| if gone <= at { at + 1 } else { at });
        written.push(Step::Index(at));
    }
    written
}

/// The way from the node that is read down to the one at hand, kept on the stack.
pub(super) enum Trail<'p> {
    Root,
    Key(&'p Trail<'p>, &'p str),
    Index(&'p Trail<'p>, usize),
}

impl Trail<'_> {
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = match self {
            Self::Root => return Vec::new(),
            Self::Key(parent, _) | Self::Index(parent, _) => parent.steps(),
        };
        steps.push(match self {
            Self::Key(_, key) => Step::Key((*key).to_owned()),
            Self::Index(_, at) => Step::Index(*at),
            Self::Root => return steps,
        });
        steps
    }
}

/// Why a type cannot take a value.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    /// Where; unknown until it passes a reader on its way up.
    place: Option<(Vec<Step>, Mark)>,
    /// The field that is missing there.
    missing: Option<&'static str>,
    /// True if the value is only null, which is no mistake.
    pub(super) silent: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, missing: None, silent: false }
    }

    pub(super) fn locate(mut self, trail: &Trail<'_>, mark: &Mark) -> Self {
        if self.place.is_none() {
            self.place = Some((trail.steps(), mark.clone()));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" => "a number from 0 to 255".to_owned(),
            "u16" => "a number from 0 to 65535".to_owned(),
            "u32" => "a number from 0 to 4294967295".to_owned(),
            "u64" | "usize" => "a number that is not negative".to_owned(),
            "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a number above 0".to_owned(),
            other => other.to_owned(),
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new("this is required") }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(variant, expected.iter().copied());
        let known: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::new(format!("`{variant}` is not known here; use {}{hint}", known.join(" or ")))
    }
}
