//! A profile and its samples.

use super::lists::Lists;
use super::{AttributeIx, LinkIx, StackIx, StringIx};

/// What a value counts and in which unit, e.g. `cpu` in `nanoseconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ValueType {
    /// The kind of thing counted.
    pub kind: StringIx,
    /// Its unit.
    pub unit: StringIx,
}

/// Samples of one type, taken in one interval.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// What the samples' values are.
    pub sample_type: ValueType,
    /// The samples.
    pub samples: Samples,
    /// The start of the interval, in nanoseconds since the Unix epoch; 0 if unknown.
    pub time_unix_nano: u64,
    /// The length of the interval in nanoseconds; 0 if unknown.
    pub duration_nano: u64,
    /// What `period` is counted in.
    pub period_type: ValueType,
    /// The number of events between two samples.
    pub period: i64,
    /// An id, unique among profiles; all zero if there is none.
    pub profile_id: [u8; 16],
    /// Attributes that were lost on the way here.
    pub dropped_attributes_count: u32,
    /// The format of `original_payload`, e.g. `pprof`; empty if there is none.
    pub original_payload_format: String,
    /// The profile as its producer wrote it.
    pub original_payload: bytes::Bytes,
    /// Attributes of the profile as a whole.
    pub attributes: Vec<AttributeIx>,
}

/// One sample, borrowed from [`Samples`] or about to be put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SampleRef<'a> {
    /// Where the program was.
    pub stack: StackIx,
    /// Labels: thread, state, anything the producer knows.
    pub attributes: &'a [AttributeIx],
    /// The trace span that was active.
    pub link: LinkIx,
    /// The weights. Without timestamps there is one, the sum; with timestamps one for each, or
    /// none at all, which means 1 for each timestamp.
    pub values: &'a [i64],
    /// When each event happened, in nanoseconds since the Unix epoch; may be empty.
    pub timestamps_unix_nano: &'a [u64],
}

impl SampleRef<'_> {
    /// The total weight: the sum of the values, or the number of timestamps where there are none.
    pub fn weight(&self) -> i64 {
        if self.values.is_empty() {
            return self.timestamps_unix_nano.len() as i64;
        }
        self.values.iter().fold(0, |sum, value| sum.saturating_add(*value))
    }
}

/// The samples of a profile, in columns.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// The stack of each sample. All columns have as many rows; whoever changes them keeps indices in
    /// range.
    pub stacks: Vec<StackIx>,
    /// The trace span that was active.
    pub links: Vec<LinkIx>,
    /// Labels.
    pub attributes: Lists<AttributeIx>,
    /// Weights; see [`SampleRef::values`].
    pub values: Lists<i64>,
    /// When each event happened, in nanoseconds since the Unix epoch.
    pub timestamps: Lists<u64>,
}

impl Samples {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The sample `at`.
    pub fn get(&self, at: usize) -> SampleRef<'_> {
        SampleRef {
            stack: self.stacks[at],
            attributes: self.attributes.get(at),
            link: self.links[at],
            values: self.values.get(at),
            timestamps_unix_nano: self.timestamps.get(at),
        }
    }

    /// Every sample in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SampleRef<'_>> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Appends a sample.
    pub fn push(&mut self, sample: SampleRef<'_>) {
        self.stacks.push(sample.stack);
        self.links.push(sample.link);
        self.attributes.push(sample.attributes.iter().copied());
        self.values.push(sample.values.iter().copied());
        self.timestamps.push(sample.timestamps_unix_nano.iter().copied());
    }

    /// Makes room for `count` more samples.
    pub fn reserve(&mut self, count: usize) {
        self.stacks.reserve(count);
        self.links.reserve(count);
        self.attributes.reserve(count, count);
        self.values.reserve(count, count);
        self.timestamps.reserve(count, 0);
    }

    /// The stack of every sample, for replacing them in place.
    pub fn stacks_mut(&mut self) -> &mut [StackIx] {
        &mut self.stacks
    }
}
