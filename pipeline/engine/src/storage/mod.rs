//! Where queues are kept, how safely, and those that are open.

mod open_queues;

use std::path::PathBuf;
use std::time::Duration;

use profpipe_queue as queue;

pub(crate) use open_queues::OpenQueue;
pub use open_queues::OpenQueues;

/// Where and how safely queues are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoragePlace {
    /// The directory.
    pub directory: PathBuf,
    /// When a record counts as kept.
    pub durability: Durability,
    /// How much the queues may take together; none is the queue's own default.
    pub max_bytes: Option<u64>,
    /// How old a record may get before it is given up; none keeps it until it is delivered.
    pub max_age: Option<Duration>,
    /// How much space on the disk is left to others; none is the queue's own default.
    pub min_free_bytes: Option<u64>,
    /// How large one file of the queue gets; none is the queue's own default.
    pub segment_bytes: Option<u64>,
}

/// When a record of a queue counts as kept.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the disk has it: it survives a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it survives the end of this process, not of the machine.
    Os,
}

impl From<Durability> for queue::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Fsync => Self::Fsync,
            Durability::Os => Self::Os,
        }
    }
}
