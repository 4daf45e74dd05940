//! Shares in percent: `1%`, `0.5 %`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A share, written in percent: 0.01 is `1%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a share; write it in percent, like `1%` or `0.5%`");
        let number = text.trim().strip_suffix('%').ok_or_else(bad)?.trim_end();
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent: f64 = number.parse().map_err(|_| bad())?;
        (plain && percent.is_finite()).then_some(Self(percent / 100.0)).ok_or_else(bad)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The share of a written number of percent is not always exact.
        write!(f, "{}%", (self.0 * 1e10).round() / 1e8)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["1%", "0.5%"] })
    }
}

#[cfg(test)]
mod tests {
    use super::Percent;

    /// Scenario: shares as people write them, and what is none.
    /// Guarantees: they are read exactly and printed as they were written; a bare number, which could
    /// mean cores, is refused.
    #[test]
    fn percents_are_read_and_printed() {
        for (text, share) in [("1%", 0.01), ("0.1%", 0.001), ("250%", 2.5), ("0%", 0.0)] {
            assert_eq!(text.parse(), Ok(Percent(share)));
            assert_eq!(Percent(share).to_string(), text);
        }
        assert_eq!("0.5 %".parse(), Ok(Percent(0.005)));
        for wrong in ["1", "0.01", "%", "-1%", "1e2%", "inf%", "one%"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
