//! Protobuf's JSON, as far as these messages need it: 64-bit numbers are texts (and are read as numbers,
//! too), values that are their default are left out (and `null` is read as one), and values of enumerations
//! are names (and are read as numbers, too).

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Whether a value is left out.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a value, or `null` for its default.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A 64-bit number as a text.
pub(super) mod int64 {
    use super::*;

    pub(in crate::pyroscope) fn serialize<S: Serializer>(
        value: &i64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(in crate::pyroscope) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<i64, D::Error> {
        let value = Value::deserialize(from)?;
        number::<D::Error>(&value).map(Option::unwrap_or_default)
    }
}

/// The same where it may not be there.
pub(super) mod optional_int64 {
    use super::*;

    pub(in crate::pyroscope) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        number::<D::Error>(&Value::deserialize(from)?)
    }
}

/// Several.
pub(super) mod int64s {
    use super::*;

    pub(in crate::pyroscope) fn serialize<S: Serializer>(
        values: &[i64],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(i64::to_string))
    }
}

/// Several that have no sign.
pub(super) mod uint64s {
    use super::*;

    pub(in crate::pyroscope) fn serialize<S: Serializer>(
        values: &[u64],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(u64::to_string))
    }
}

/// One that has no sign.
pub(super) fn uint64<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Bytes, in base64.
pub(super) fn base64<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes).serialize(to)
}

fn number<E: Error>(value: &Value) -> Result<Option<i64>, E> {
    let wrong = || E::invalid_value(Unexpected::Other("this value"), &"a whole number of 64 bits");
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| wrong()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(Some(number)),
            (None, Some(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Ok(Some(number as i64))
            }
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// Values of an enumeration by name, whose numbers are their places.
fn choice<'de, D: Deserializer<'de>>(from: D, names: &[&str]) -> Result<i32, D::Error> {
    let value = Value::deserialize(from)?;
    let by_name = |name: &str| names.iter().position(|known| *known == name);
    match &value {
        Value::Null => Ok(0),
        Value::String(name) => by_name(name)
            .map(|at| at as i32)
            .ok_or_else(|| D::Error::custom(format!("a value is not one of {}", names.join(", ")))),
        // Numbers that nobody knows yet are kept: the method says that it does not know them.
        other => Ok(number::<D::Error>(other)?.and_then(|it| i32::try_from(it).ok()).unwrap_or(-1)),
    }
}

/// Names of `querier.v1.ProfileFormat`.
pub(super) fn format<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    let names = [
        "PROFILE_FORMAT_UNSPECIFIED",
        "PROFILE_FORMAT_FLAMEGRAPH",
        "PROFILE_FORMAT_TREE",
        "PROFILE_FORMAT_DOT",
        "PROFILE_FORMAT_PPROF",
    ];
    // A name that is not known is answered as not implemented, on which clients fall back.
    let value = Value::deserialize(from)?;
    match &value {
        Value::String(name) if !names.contains(&name.as_str()) => Ok(-1),
        value => choice(value, &names).map_err(D::Error::custom),
    }
}

/// Names of `types.v1.TimeSeriesAggregationType`.
pub(super) fn aggregation<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    choice(from, &["TIME_SERIES_AGGREGATION_TYPE_SUM", "TIME_SERIES_AGGREGATION_TYPE_AVERAGE"])
}
