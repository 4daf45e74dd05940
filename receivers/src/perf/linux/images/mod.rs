//! The files whose code runs: opened, identified, with the tables that unwinding needs.
//!
//! A thread of its own opens and reads them ([`loader`]), since they lie on file systems that may
//! be slow; what it has read ([`image`]) is kept in a [`table`] within a budget of bytes. Files
//! belong to others and may be hostile: what is read is bounded ([`sections`], [`go`]), and unwinding
//! tables are checked before they are used ([`cfi`]). What unwinding asks is what is at an address
//! ([`places`]): the rules of its frame ([`frame_table`], [`frame_rules`]) and the code around it
//! ([`code`]). Which process maps a file where is left to `processes`, symbols to the `symbolize`
//! processor.

pub(super) mod bytes;
pub(super) mod cfi;
pub(super) mod code;
pub(super) mod frame_rules;
pub(super) mod frame_table;
pub(super) mod go;
pub(super) mod image;
pub(super) mod loader;
pub(super) mod places;
pub(super) mod sections;
pub(super) mod table;
