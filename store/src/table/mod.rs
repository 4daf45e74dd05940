//! The table of samples: time, path, weight and labels, over the batch that they came from.
//!
//! It is made once and never changes. The batch is kept whole: what wants addresses, lines or formats
//! ([`crate::export`]) goes back to it. Rows are kept by profile type; a row says which sample of the
//! batch it is of.

mod labels;
mod load;
mod paths;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::OnceLock;

use profpipe_profile::Profiles;

pub use labels::LabelValues;
pub(crate) use labels::{Labels, SERVICE, State, TYPE_LABELS, type_label};
pub(crate) use paths::Paths;

use crate::error::QueryError;

/// A file that was read.
#[derive(Debug)]
pub struct InputFile {
    /// What it is called.
    pub name: String,
    /// How large it is, in bytes.
    pub bytes: u64,
    /// When it was written, in nanoseconds since the Unix epoch: the time of profiles that have none.
    /// 0 if it is not known.
    pub modified_nanos: u64,
    /// What is in it.
    pub profiles: Profiles,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// What it is called.
    pub name: String,
    /// How large it is, in bytes.
    pub bytes: u64,
}

/// The id of a profile type, as Pyroscope writes it: `name:sample type:unit:period type:period unit`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(String);

impl TypeId {
    /// Reads an id; the suffix `:delta` is taken off.
    ///
    /// # Errors
    /// If it is not one.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let parts: Vec<&str> = text.split(':').collect();
        let plain = match parts.as_slice() {
            [_, _, _, _, _] => Some(text),
            [_, _, _, _, _, "delta"] => text.strip_suffix(":delta"),
            _ => None,
        };
        plain.map(|plain| Self(plain.to_owned())).ok_or_else(|| {
            QueryError::Invalid(format!(
                "`{}` is not a profile type; one is name:type:unit:period_type:period_unit",
                text.chars().take(100).collect::<String>()
            ))
        })
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name, sample type, unit, period type and period unit.
    pub fn parts(&self) -> [&str; 5] {
        let mut parts = self.0.split(':');
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

/// What one kind of value is, and how much there is of it.
#[derive(Debug, Clone)]
pub struct ProfileType {
    /// The id.
    pub id: TypeId,
    /// What a sample stands for, if samples of this type were taken and not counted.
    pub(crate) sampling: Sampling,
    /// The sum of all weights.
    pub total: i64,
    /// How many samples there are.
    pub samples: i64,
    /// The weights of samples that were lost, as far as it is known.
    pub lost: i64,
    /// The first and the last time of a sample or of a profile's end, in nanoseconds.
    pub time: Option<(i64, i64)>,
}

impl ProfileType {
    /// The kind of thing counted.
    pub fn kind(&self) -> &str {
        self.id.parts()[1]
    }

    /// The unit of its values.
    pub fn unit(&self) -> &str {
        self.id.parts()[2]
    }
}

/// How the weights of a type came about, which says how far they may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// Everything was counted.
    Exact,
    /// Each sample stands for so much, and weights for more of them where it is known.
    Each(i64),
}

/// The rows of a type, in columns.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The row of [`Labels`].
    pub(crate) labels: Vec<u32>,
    /// The row of [`Paths`].
    pub(crate) paths: Vec<u32>,
    /// In nanoseconds since the Unix epoch; 0 if unknown.
    pub(crate) times: Vec<i64>,
    pub(crate) weights: Vec<i64>,
    /// How many samples a weight is of.
    pub(crate) counts: Vec<u32>,
    /// The position of the profile in the batch.
    pub(crate) profiles: Vec<u32>,
    /// The sample of the profile.
    pub(crate) samples: Vec<u32>,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }
}

/// A function as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) module: String,
    pub(crate) file: String,
    pub(crate) hash: u64,
    pub(crate) is_unnamed: bool,
    /// The function that stands for the library that this one is in, if it is in one.
    pub(crate) library: Option<u32>,
    /// The first function of the same name.
    pub(crate) namesake: u32,
}

/// What is known of a profile of the batch beside its samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// In nanoseconds since the Unix epoch.
    pub(crate) start: i64,
    pub(crate) duration: i64,
    /// Whether its samples have times of their own.
    pub(crate) is_timed: bool,
    /// The weights of samples that were lost.
    pub(crate) lost: i64,
}

/// Samples with their labels, and the batch that they are of.
#[derive(Debug)]
pub struct Table {
    pub(crate) profiles: Profiles,
    pub(crate) files: Vec<FileInfo>,
    pub(crate) functions: Vec<Function>,
    pub(crate) paths: Paths,
    /// Whether a path has a function without a name.
    pub(crate) unnamed_paths: Vec<bool>,
    pub(crate) labels: Labels,
    pub(crate) types: Vec<ProfileType>,
    /// By type.
    pub(crate) rows: Vec<Rows>,
    /// By the position of the profile in the batch.
    pub(crate) intervals: Vec<Interval>,
    default_type: Option<usize>,
    /// Paths in the order of their functions, root first, and leaf first.
    order: [OnceLock<Vec<u32>>; 2],
}

impl Table {
    /// The files that it was made of.
    pub fn files(&self) -> &[FileInfo] {
        &self.files
    }

    /// Every profile type that there is, in the order of the files.
    pub fn types(&self) -> &[ProfileType] {
        &self.types
    }

    /// The type that is shown unless another one is asked for.
    pub fn default_type(&self) -> Option<&ProfileType> {
        self.types.get(self.default_type?)
    }

    /// Whether samples have times of their own.
    pub fn is_timed(&self) -> bool {
        self.intervals.iter().any(|interval| interval.is_timed)
    }

    /// How many different paths there are.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// The batch that it was made of.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The position of a type; of the default one for an empty text.
    pub(crate) fn type_position(&self, wanted: Option<&TypeId>) -> Result<usize, QueryError> {
        let none = || QueryError::NotFound("there is no profile".to_owned());
        let Some(wanted) = wanted else { return self.default_type.ok_or_else(none) };
        self.types.iter().position(|one| one.id == *wanted).ok_or_else(|| {
            let known: Vec<&str> = self.types.iter().take(8).map(|one| one.id.as_str()).collect();
            let known = known.join(", ");
            QueryError::NotFound(format!("there is no type `{}`; there is {known}", wanted.0))
        })
    }

    /// Paths in order, root first or leaf first. It is found once.
    pub(crate) fn order(&self, is_inverted: bool) -> &[u32] {
        let slot = &self.order[usize::from(is_inverted)];
        slot.get_or_init(|| self.paths.sorted(is_inverted))
    }

    pub(crate) fn function(&self, number: u32) -> &Function {
        // Numbers are only ever those of this table.
        &self.functions[number as usize]
    }
}
