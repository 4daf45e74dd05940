//! What users type for the `file_storage` extension.

use std::path::PathBuf;
use std::sync::Arc;

use profpipe_engine::component::{
    self, Durability, Error, Extension, ExtensionConfig, Offer, Setup,
};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The permissions of the directory, unless set: others may not look into it.
pub(super) const PRIVATE: u32 = 0o750;

/// A directory in which queues survive the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory. Only one process may use it.
    pub directory: PathBuf,
    /// Whether the directory is created if it is not there.
    pub create_directory: bool,
    /// The permissions it is created with, in octal.
    pub directory_permissions: String,
    /// When a batch counts as kept: `fsync` when the disk has it, so that it survives a power cut;
    /// `os` when the operating system has it, so that it survives the end of the process only.
    /// `fsync` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// The Collector's word for `durability`: `true` is `fsync`, `false` is `os`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsync: Option<bool>,
    /// How much the queues may take together. When they are full, senders are told to try later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Batches older than this are given up; they are kept until they are delivered unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// How much space on the disk is left to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_bytes: Option<ByteSize>,
    /// How large one file gets before the next is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<ByteSize>,
    /// Accepted for the Collector's sake; nothing waits for a lock here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Accepted for the Collector's sake; files that were delivered are deleted anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
    /// Accepted for the Collector's sake; what is damaged is set aside anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recreate: Option<bool>,
}

/// The Collector's settings for rewriting a file that only grows; there is none here, so none of
/// them has an effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compaction {
    /// Without effect: when it starts.
    pub on_start: Option<bool>,
    /// Without effect: when a queue has drained.
    pub on_rebound: Option<bool>,
    /// Without effect: a directory for the new file.
    pub directory: Option<PathBuf>,
    /// Without effect: how much must have been queued.
    pub rebound_needed_threshold_mib: Option<u64>,
    /// Without effect: how little must be queued.
    pub rebound_trigger_threshold_mib: Option<u64>,
    /// Without effect: how much is moved at a time.
    pub max_transaction_size: Option<u64>,
    /// Without effect: how often to look.
    pub check_interval: Option<Duration>,
    /// Without effect: whether to delete what an earlier one left.
    pub cleanup_on_start: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/profpipe"),
            create_directory: true,
            directory_permissions: format!("{PRIVATE:04o}"),
            durability: None,
            fsync: None,
            max_bytes: None,
            max_age: None,
            min_free_bytes: None,
            segment_bytes: None,
            timeout: None,
            compaction: None,
            recreate: None,
        }
    }
}

impl Config {
    pub(super) fn mode(&self) -> Option<u32> {
        let digits = self.directory_permissions.trim_start_matches("0o");
        u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)
    }

    pub(super) fn durability(&self) -> Durability {
        let of_collector = match self.fsync {
            Some(false) => Durability::Os,
            Some(true) | None => Durability::Fsync,
        };
        self.durability.unwrap_or(of_collector)
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.directory.as_os_str().is_empty() {
            problems.push("directory", "is empty; name one that only profpipe uses");
        }
        if self.mode().is_none_or(|mode| mode & 0o700 != 0o700) {
            let message = "write it in octal with all rights for the owner, such as `0750`";
            problems.push("directory_permissions", message);
        }
        if let (Some(durability), Some(fsync)) = (self.durability, self.fsync)
            && (durability == Durability::Fsync) != fsync
        {
            problems.push("fsync", "contradicts `durability`; write only one of them");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        let without_effect = [
            ("timeout", self.timeout.is_some()),
            ("compaction", self.compaction.is_some()),
            ("recreate", self.recreate.is_some()),
        ];
        for (key, _) in without_effect.iter().filter(|(_, written)| *written) {
            advice.push(key, "accepted, but there is nothing here that it could change");
        }
        if self.fsync == Some(false) {
            advice.push("fsync", "what was acknowledged last may be lost in a power cut");
        }
    }
}

impl ExtensionConfig for Config {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[Offer::Storage])
    }

    fn build(self, _setup: &Setup) -> Result<Arc<dyn Extension>, Error> {
        Ok(Arc::new(super::FileStorage::open(&self)?))
    }
}
