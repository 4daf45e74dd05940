//! Binaries and debug files that others bring, by build id: kept by an extension, taken in by receivers,
//! used by the processor that names frames.
//!
//! Files are each tenant's own. A build id is what a file says of itself: a tenant that sends a file of its
//! own making under the build id of a library that everybody has would otherwise name everybody's frames.

use std::fs::File;
use std::time::{Duration, SystemTime};

/// Which of a binary's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolFile {
    /// What runs.
    Executable,
    /// Its debug information.
    Debuginfo,
}

impl SymbolFile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Executable, Self::Debuginfo];

    /// As debuginfod calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Debuginfo => "debuginfo",
        }
    }
}

/// What comes of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolOffer {
    /// It is wanted, from whoever offered it and nobody else for a while.
    Wanted,
    /// It is there.
    Present,
    /// Somebody else is at it; it may be offered again after so long, if there is still a need.
    Pending(Duration),
}

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub enum SymbolStorageError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Nobody has offered the file, or it took too long after that.
    #[error(
        "this build id was not offered before, or too long ago; ask first whether it is wanted"
    )]
    NotOffered,
    /// Somebody else sends it now.
    #[error("somebody else sends this file now")]
    Busy,
    /// The file is larger than is taken.
    #[error("the file is larger than max_file_size, {0} bytes")]
    TooLarge(u64),
    /// The file is not what it should be.
    #[error("{0}")]
    Rejected(String),
    /// The disk does not want it, which may pass.
    #[error("cannot keep the file: {0}")]
    Disk(#[from] std::io::Error),
}

/// Keeps files, of each tenant apart; no tenant is one, too. Its methods use the disk and block.
pub trait SymbolStorage: Send + Sync + std::fmt::Debug {
    /// The most bytes of a file.
    fn max_file_size(&self) -> u64;

    /// Whether a file with this build id, in hex, is wanted. What is wanted is wanted once: until it is
    /// there, or its sender is given up, others hear that it is pending.
    ///
    /// # Errors
    /// If the id is not one, or the disk does not answer.
    fn offer(
        &self,
        tenant: Option<&str>,
        build_id: &str,
        file: SymbolFile,
    ) -> Result<SymbolOffer, SymbolStorageError>;

    /// Begins to take in the file of this build id that was offered.
    ///
    /// # Errors
    /// If it was not offered, or is on its way already.
    fn begin(
        &self,
        tenant: Option<&str>,
        build_id: &str,
    ) -> Result<Box<dyn SymbolUpload>, SymbolStorageError>;

    /// Whether a file of this build id is there.
    fn has(&self, tenant: Option<&str>, build_id: &str) -> bool;

    /// A file, open for reading.
    fn find(&self, tenant: Option<&str>, build_id: &str, file: SymbolFile) -> Option<File>;

    /// When a file of this tenant last came or went.
    fn changed_at(&self, tenant: Option<&str>) -> Option<SystemTime>;
}

/// A file that is being written; nothing of it is seen unless it is kept. Dropped, it is forgotten.
pub trait SymbolUpload: Send {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// If they are too many, or the disk does not want them.
    fn write(&mut self, piece: &[u8]) -> Result<(), SymbolStorageError>;

    /// Keeps the file, if it is whole and has the build id that was said.
    ///
    /// # Errors
    /// If it is something else, or the disk does not want it.
    fn keep(self: Box<Self>) -> Result<(), SymbolStorageError>;
}
