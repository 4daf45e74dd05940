//! Files of speedscope, which py-spy, rbspy, dotnet-trace and others write.
//!
//! `https://www.speedscope.app/file-format-schema.json`: frames by number, and profiles that are either
//! stacks with weights or frames that open and close. Each becomes a profile: of the type `wall` in
//! nanoseconds where its unit is one of time, `space` in `bytes`, else `samples` in `count`. Of several
//! profiles, which are threads, the name becomes the attribute `thread.name` of their samples. Weights
//! with fractions are rounded so that their sum is right.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use profpipe_profile::attribute_names::THREAD_NAME;
use profpipe_profile::{LocationIx, Profiles};
use serde::Deserialize;

use crate::draft::{Draft, Rounding, TooManyFrames};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not JSON, or not of this form.
    #[error("speedscope: {0}")]
    Json(#[from] serde_json::Error),
    /// A profile breaks a rule of the format.
    #[error("speedscope: profile {profile}: {problem}")]
    Malformed {
        /// The number of the profile, from 1.
        profile: usize,
        /// What is wrong.
        problem: String,
    },
    /// The stacks have more frames than fit in memory.
    #[error("speedscope: {0}")]
    TooManyFrames(#[from] TooManyFrames),
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    shared: Shared<'a>,
    profiles: Vec<Profile<'a>>,
}

#[derive(Deserialize)]
struct Shared<'a> {
    #[serde(borrow)]
    frames: Vec<Frame<'a>>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    file: Option<Cow<'a, str>>,
    line: Option<f64>,
    col: Option<f64>,
}

/// A profile of either kind: an enum would have to keep all of it until its kind is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    unit: Cow<'a, str>,
    end_value: Option<f64>,
    #[serde(default)]
    samples: Vec<Vec<u32>>,
    #[serde(default)]
    weights: Vec<f64>,
    #[serde(default, borrow)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    frame: u32,
    at: f64,
}

/// Reads a file.
///
/// # Errors
/// If it is not of this format.
pub fn decode(json: &[u8]) -> Result<Profiles, DecodeError> {
    let file: File<'_> = serde_json::from_slice(json)?;
    let mut draft = Draft::new();
    let frames: Vec<LocationIx> = file
        .shared
        .frames
        .iter()
        .map(|frame| {
            let number = |number: Option<f64>| number.unwrap_or_default() as i64;
            let path = frame.file.as_deref().unwrap_or_default();
            draft.frame(&frame.name, path, number(frame.line), number(frame.col))
        })
        .collect();
    let are_threads = file.profiles.len() > 1;
    for (at, profile) in file.profiles.iter().enumerate() {
        let mut reader = Reader { draft: &mut draft, frames: &frames, number: at + 1 };
        let name = (are_threads && !profile.name.is_empty()).then_some(&*profile.name);
        let scale = reader.begin(&profile.unit, name.map(|name| (THREAD_NAME, name)));
        match &*profile.kind {
            "sampled" => reader.sampled(&profile.samples, &profile.weights, scale)?,
            "evented" => reader.evented(&profile.events, profile.end_value, scale)?,
            _ => {
                let what = "it is neither `sampled` nor `evented`".to_owned();
                return Err(reader.malformed(what));
            }
        }
    }
    Ok(draft.finish())
}

struct Reader<'d> {
    draft: &'d mut Draft,
    frames: &'d [LocationIx],
    number: usize,
}

impl Reader<'_> {
    /// Begins a profile. How many of its unit's are one of the file's.
    fn begin(&mut self, unit: &str, attribute: Option<(&str, &str)>) -> f64 {
        let (kind, unit, scale) = match unit {
            "nanoseconds" => ("wall", "nanoseconds", 1.0),
            "microseconds" => ("wall", "nanoseconds", 1e3),
            "milliseconds" => ("wall", "nanoseconds", 1e6),
            "seconds" => ("wall", "nanoseconds", 1e9),
            "bytes" => ("space", "bytes", 1.0),
            _ => ("samples", "count", 1.0),
        };
        self.draft.begin(kind, unit, attribute);
        scale
    }

    fn sampled(
        &mut self,
        samples: &[Vec<u32>],
        weights: &[f64],
        scale: f64,
    ) -> Result<(), DecodeError> {
        if !weights.is_empty() && weights.len() != samples.len() {
            let (samples, weights) = (samples.len(), weights.len());
            return Err(self.malformed(format!("{samples} samples have {weights} weights")));
        }
        let mut rounding = Rounding::default();
        let mut stack = Vec::new();
        let weights = weights.iter().copied().chain(std::iter::repeat(1.0));
        for (sample, weight) in samples.iter().zip(weights) {
            stack.clear();
            for frame in sample.iter().rev() {
                stack.push(self.frame(*frame)?);
            }
            self.draft.sample(&stack, rounding.take(weight * scale))?;
        }
        Ok(())
    }

    fn evented(
        &mut self,
        events: &[Event<'_>],
        end: Option<f64>,
        scale: f64,
    ) -> Result<(), DecodeError> {
        let mut rounding = Rounding::default();
        // The root first, and so in the other direction than samples.
        let mut open: Vec<(u32, LocationIx)> = Vec::new();
        let mut last = events.first().map_or(0.0, |event| event.at);
        for (at, event) in events.iter().enumerate() {
            self.add_span(&open, (event.at - last) * scale, &mut rounding)?;
            last = event.at;
            match &*event.kind {
                "O" => open.push((event.frame, self.frame(event.frame)?)),
                "C" if open.last().is_some_and(|(frame, _)| *frame == event.frame) => {
                    open.pop();
                }
                "C" => {
                    let what = format!("event {} closes a frame that is not the last", at + 1);
                    return Err(self.malformed(what));
                }
                _ => {
                    return Err(
                        self.malformed(format!("event {} neither opens nor closes", at + 1))
                    );
                }
            }
        }
        let rest = end.map_or(0.0, |end| end - last);
        self.add_span(&open, rest * scale, &mut rounding)
    }

    /// Adds what passed while these frames were open.
    fn add_span(
        &mut self,
        open: &[(u32, LocationIx)],
        amount: f64,
        rounding: &mut Rounding,
    ) -> Result<(), DecodeError> {
        if open.is_empty() || amount == 0.0 {
            return Ok(());
        }
        if amount < 0.0 {
            return Err(self.malformed("its events are not in order".to_owned()));
        }
        let stack: Vec<_> = open.iter().rev().map(|(_, location)| *location).collect();
        Ok(self.draft.sample(&stack, rounding.take(amount))?)
    }

    fn frame(&self, number: u32) -> Result<LocationIx, DecodeError> {
        let frame = self.frames.get(number as usize).copied();
        frame.ok_or_else(|| self.malformed(format!("there is no frame {number}")))
    }

    fn malformed(&self, problem: String) -> DecodeError {
        DecodeError::Malformed { profile: self.number, problem }
    }
}
