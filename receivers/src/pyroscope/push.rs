//! The request of `push.v1.PusherService/Push`, as protobuf and as JSON.
//!
//! Both are read as a Connect server does: unknown fields are passed over, of a scalar that comes
//! twice the last one counts. What is decoded borrows from the request, and how much there may be
//! of anything is bounded.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;

/// The most series of one request.
const MAX_SERIES: usize = 10_000;
/// The most labels of one series.
const MAX_LABELS: usize = 256;
/// The most profiles of one request.
const MAX_PROFILES: usize = 10_000;

/// Profiles with the same labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Series {
    /// Names and values, as they came.
    pub(super) labels: Vec<(String, String)>,
    /// pprof, compressed or not.
    pub(super) profiles: Vec<Bytes>,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

impl Malformed {
    fn protobuf(what: &str) -> Self {
        Self(format!("not a protobuf push.v1.PushRequest: {what}"))
    }
}

/// Reads a request in protobuf.
///
/// # Errors
/// If it is not one, or holds too much.
pub(super) fn decode(request: &Bytes) -> Result<Vec<Series>, Malformed> {
    let mut all: Vec<Series> = Vec::new();
    let mut profiles = 0;
    let mut fields = Fields(request);
    while let Some((field, payload)) = fields.next()? {
        if field != 1 {
            continue;
        }
        let mut series = Series::default();
        let mut fields = payload.message()?;
        while let Some((field, payload)) = fields.next()? {
            match field {
                1 => {
                    let mut pair = (String::new(), String::new());
                    let mut fields = payload.message()?;
                    while let Some((field, payload)) = fields.next()? {
                        match field {
                            1 => pair.0 = payload.text()?,
                            2 => pair.1 = payload.text()?,
                            _ => {}
                        }
                    }
                    series.labels.push(pair);
                    within(series.labels.len(), MAX_LABELS, "labels in a series")?;
                }
                2 => {
                    let mut profile = Bytes::new();
                    let mut fields = payload.message()?;
                    while let Some((field, payload)) = fields.next()? {
                        if field == 1 {
                            profile = request.slice_ref(payload.bytes()?);
                        }
                    }
                    series.profiles.push(profile);
                    profiles += 1;
                    within(profiles, MAX_PROFILES, "profiles")?;
                }
                _ => {}
            }
        }
        all.push(series);
        within(all.len(), MAX_SERIES, "series")?;
    }
    Ok(all)
}

/// Reads a request in JSON, as protobuf's mapping has it.
///
/// # Errors
/// If it is not one, or holds too much.
pub(super) fn decode_json(request: &[u8]) -> Result<Vec<Series>, Malformed> {
    let request: Json = serde_json::from_slice(request)
        .map_err(|error| Malformed(format!("not a JSON push.v1.PushRequest: {error}")))?;
    let list = request.series.unwrap_or_default();
    within(list.len(), MAX_SERIES, "series")?;
    let mut profiles = 0;
    let mut all = Vec::with_capacity(list.len());
    for one in list {
        let labels = one.labels.unwrap_or_default();
        within(labels.len(), MAX_LABELS, "labels in a series")?;
        let mut series = Series::default();
        for label in labels {
            let (name, value) = (label.name, label.value);
            series.labels.push((name.unwrap_or_default(), value.unwrap_or_default()));
        }
        for sample in one.samples.unwrap_or_default() {
            let profile = base64(&sample.raw_profile.unwrap_or_default())?;
            series.profiles.push(profile.into());
            profiles += 1;
            within(profiles, MAX_PROFILES, "profiles")?;
        }
        all.push(series);
    }
    Ok(all)
}

/// Standard or URL-safe, with or without padding, as protobuf's mapping asks of a reader.
fn base64(text: &str) -> Result<Vec<u8>, Malformed> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet =
        if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT)
        .decode(text)
        .map_err(|error| Malformed(format!("rawProfile is not base64: {error}")))
}

fn within(count: usize, limit: usize, what: &str) -> Result<(), Malformed> {
    if count > limit {
        return Err(Malformed(format!("more than {limit} {what}; send several requests")));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Json {
    series: Option<Vec<JsonSeries>>,
}

#[derive(Deserialize)]
struct JsonSeries {
    labels: Option<Vec<JsonLabel>>,
    samples: Option<Vec<JsonSample>>,
}

#[derive(Deserialize)]
struct JsonLabel {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct JsonSample {
    #[serde(rename = "rawProfile", alias = "raw_profile")]
    raw_profile: Option<String>,
}

/// The content of one field.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub(super) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(Malformed::protobuf("a field has the wrong wire type")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::protobuf("a field has the wrong wire type")),
        }
    }

    pub(super) fn message(self) -> Result<Fields<'a>, Malformed> {
        self.bytes().map(Fields)
    }

    fn text(self) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| Malformed::protobuf("a label is not UTF-8 text"))
    }
}

/// The fields of a message that are still to be read.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let payload = match key & 7 {
            0 => Payload::Number(self.varint()?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = self.varint()?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return Err(Malformed::protobuf("a wire type that is not in use")),
        };
        if key >> 3 == 0 {
            return Err(Malformed::protobuf("a field without a number"));
        }
        Ok(Some((key >> 3, payload)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let cut_off = || Malformed::protobuf("it ends inside a field");
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (group, byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                self.0 = self.0.get(group + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(Malformed::protobuf("a number is cut off or too long"))
    }
}
