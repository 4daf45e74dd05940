//! The durable queue: one log for each storage directory, read by any number of destinations.
//!
//! A record is kept from the moment [`Log::append`] returns until every destination that it is for
//! has finished it: at least once for each, the oldest first. Writing happens on a thread of the log's
//! own, in groups that share one sync. [`Destination::next`] leases records to any number of consumers.
//!
//! # On disk
//! ```text
//! LOCK                       held while the log is open
//! seg-<first number>.pq      records; the last one is written to, all others are sealed
//! cur-<destination>.a, .b    how far a destination is: two slots, written in turn
//! dead/<destination>/        <number>.otlp and <number>.json: what a destination never takes
//! quarantine/                copies of what was damaged, up to 64 MiB
//! ```
//! A segment is a header, records and, once it is sealed, a footer that says what is in it. Each record
//! has a CRC for its head, with the lengths, one for what is known about it, and one for its payload,
//! which is computed before the record is handed to the writer and compared after it is read. It names
//! its destinations itself, so losing every cursor loses no record. Damage ends where the next valid head
//! of the same salt begins. The bytes are described in `format/`.
//!
//! # What holds
//! - Q1 What was answered with success is on disk, in a segment that will be found.
//! - Q2 Numbers only rise and are never given out twice, also after a restart: after a crash the numbers
//!   that a segment may have used are skipped, and the newest segment is never removed.
//! - Q3 What is delivered is what was accepted, by the CRC from before the writer.
//! - Q4 A cursor never goes back and never beyond the log; once written it is never forgotten.
//! - Q5 A segment is removed when every cursor on disk is past it; what is dropped first moves cursors.
//! - Q6 Opening always succeeds unless the lock is held or the directory cannot be used; twice is the
//!   same as once; it reads footers, and the records of what a crash left unsealed.
//! - Q7 Segments take the limit and one segment at most; dead letters and quarantine have their own.
//! - Q8 Accepted = delivered + dead + dropped + lost + pending, for each destination.
//! - Q9 Every publication wakes whoever waits.
//! - Q10 A damaged record loses itself only.
//! - Q11 Closing and opening loses and repeats nothing.
//!
//! `tests/model.rs` checks them over a disk that loses power before any of its operations,
//! `tests/damage.rs` with damaged files. What this does not prove: that a disk does what it says.
//!
//! # When something fails
//! | | |
//! |---|---|
//! | the process is killed | what was answered is there; a write half done is cut off at the start; at most the acknowledgements of the last fifth of a second or 1,000 records, and leased records, come again |
//! | power is lost | the same with `durability: fsync`; with `os`, what the kernel had not written is gone |
//! | the disk is full, read-only or bad | [`AppendError::Begin`], [`Write`](AppendError::Write), [`LowSpace`](AppendError::LowSpace): the sender keeps the record; the file is cut back to what is good, or closed there; each append tries anew; reading goes on |
//! | a sync fails | never tried again: its senders are refused, the segment ends where it was good, the next record begins a new one |
//! | the log is full | [`AppendError::Full`], or the oldest segment is dropped and counted, as settings say |
//! | a record is damaged | it is left out, counted as lost, copied to the quarantine |
//! | a header, a footer or a cursor is damaged | nothing is lost: the segment is read whole; the other slot counts, and without it the destination gets again what is there |
//! | a dead letter cannot be written | the record stays until it can |
//! | a file cannot be read for want of descriptors | the reader waits and tries again |
//! | a disk cannot read a segment | its rest is left out until the next start; the file stays |
//! | the clock jumps | age is counted by a clock that does not; while the log is closed by the wall clock |
//! | a segment of a newer version, or not of this log | left alone, counted |
//! | a destination is no longer configured | its records stay until age or size drops them, or `profpipe queue drop` |
//!
//! One destination that is down long enough fills the log for all that share it: separate storage
//! directories keep them apart.

mod cache;
mod disk;
mod error;
mod format;
mod journal;
mod log;
mod record;
mod settings;
mod state;
mod stats;
mod storage;
pub mod tools;
mod walk;

#[cfg(test)]
mod tests;

pub use error::QueueError;
pub use journal::dead::Letter;
pub use log::{Destination, Lease, Log};
pub use record::{AppendError, DestinationId, Pending, Record};
pub use settings::{Durability, LogSettings, WhenFull};
pub use stats::{Losses, Stats};
