//! A file on its way in: written beside the others, looked at when it is whole, then renamed.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use profpipe_engine::component::{SymbolFile, SymbolStorageError, SymbolUpload};
use profpipe_host::elf::inspect;
use profpipe_host::hex;

use super::lease::Lease;
use super::store::Store;

/// How many bytes come before a lease is renewed again.
const RENEW_BYTES: u64 = 4 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) store: Arc<Store>,
    pub(super) lease: Lease,
    /// The name of the directory of its tenant, and its build id in lower case.
    pub(super) place: (String, String),
    /// Its name until it is kept.
    pub(super) temporary: String,
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) renew_at: u64,
    pub(super) is_kept: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_kept {
            self.store.forget(&self.temporary);
            self.store.count("failed");
        }
        // Whatever came of it, others may offer the file from now on.
        self.lease.end(self.store.pending());
        self.store.release();
    }
}

impl SymbolUpload for Upload {
    fn write(&mut self, piece: &[u8]) -> Result<(), SymbolStorageError> {
        self.bytes += piece.len() as u64;
        let limit = self.store.limit();
        if self.bytes > limit {
            return Err(SymbolStorageError::TooLarge(limit));
        }
        self.file.write_all(piece)?;
        if self.bytes >= self.renew_at {
            self.renew_at = self.bytes + RENEW_BYTES;
            self.lease.renew();
        }
        Ok(())
    }

    fn keep(mut self: Box<Self>) -> Result<(), SymbolStorageError> {
        self.file.sync_data()?;
        let rejected = |what: String| Err(SymbolStorageError::Rejected(what));
        let Some(found) = inspect(&self.file)? else {
            return rejected("not a whole ELF file".to_owned());
        };
        let wanted = &self.place.1;
        match found.build_id.as_deref().map(hex) {
            Some(id) if id == *wanted => {}
            Some(id) => {
                return rejected(format!("the file has the build id {id}, not {wanted}"));
            }
            None => return rejected(format!("the file has no build id; {wanted} was said")),
        }
        let kind = match found.has_code {
            true => SymbolFile::Executable,
            false => SymbolFile::Debuginfo,
        };
        self.store.keep(&self.temporary, (&self.place.0, &self.place.1, kind), self.bytes)?;
        self.is_kept = true;
        self.store.count("kept");
        Ok(())
    }
}
