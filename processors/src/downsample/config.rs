//! What users type for the `downsample` processor.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use crate::downsample::algorithm::{self, Options};
use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Keeps a fraction of the stacks, with exact totals and unbiased functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many stacks are kept: a share, such as `10%`, of those of a batch that may be sampled,
    /// or a number for each profile.
    pub keep: Keep,
    /// Profiles of at most so many stacks stay as they are. Below some 2000 there is little to
    /// save, and answers change.
    pub floor: usize,
    /// On how many functions and call tree nodes above 1 % the choice is balanced at most; these
    /// are then exact. With 0 stacks are chosen by even steps in depth-first order.
    pub balance: usize,
    /// Adjusts values so that functions and nodes above 1 % are exact. Others are then unbiased only where
    /// many stacks are kept.
    pub calibrate: bool,
    /// Whether profiles of the same kind in a batch become one, and small profiles of a service
    /// are sampled together. Without it each profile is sampled by itself.
    pub unite: bool,
}

impl Default for Config {
    fn default() -> Self {
        let Options { floor, balance, calibrate, unite, .. } = Options::default();
        Self { keep: Keep::default(), floor, balance, calibrate, unite }
    }
}

impl Config {
    pub(super) fn options(&self) -> Options {
        let keep = match self.keep {
            Keep::Percent(percent) => algorithm::Keep::Share(percent / 100.0),
            Keep::Stacks(count) => algorithm::Keep::Stacks(count),
        };
        let Self { floor, balance, calibrate, unite, .. } = *self;
        Options { keep, floor, balance, calibrate, unite }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.balance > 512 {
            problems.push("balance", "must be at most 512");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if self.calibrate && self.balance < 2 {
            advice.push("calibrate", "has no effect where `balance` is 0 or 1");
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        // Randomly seeded by the standard library.
        let seed = RandomState::new().hash_one(&setup.id);
        Ok(Box::new(super::Downsample::new(self.options(), seed, setup)))
    }
}

/// How many stacks are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// So many of a hundred.
    Percent(f64),
    /// So many of each profile.
    Stacks(usize),
}

impl Default for Keep {
    fn default() -> Self {
        Self::Percent(10.0)
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not an amount; write it like `10%`, or `500` stacks");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim_end().parse().map_err(|_| bad())?;
            let fits = percent > 0.0 && percent <= 100.0;
            return fits.then_some(Self::Percent(percent)).ok_or_else(bad);
        }
        let count: usize = text.parse().map_err(|_| bad())?;
        (count > 0).then_some(Self::Stacks(count)).ok_or_else(bad)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Stacks(count) => write!(f, "{count}"),
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Percent(_) => serializer.collect_str(self),
            Self::Stacks(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Keep;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as `10%` or a number of stacks")
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Keep, E> {
                count.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Keep, E> {
                count.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Keep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Keep".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["10%", 500] })
    }
}
