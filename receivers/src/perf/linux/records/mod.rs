//! What the kernel writes: rings of records.
//!
//! Shares a ring's memory with the kernel ([`ring`]), hands out the records of all rings in the
//! order of time ([`merge`]) and reads them without copying ([`record`], with the registers of
//! [`arch`]). A malformed record is an error and never a panic, and is never read beyond its end.
//! What a record means for a process is left to `processes`. `unsafe` is in [`ring`] only.

pub(super) mod arch;
pub(super) mod block;
pub(super) mod merge;
pub(super) mod record;
pub(super) mod ring;
