//! Managed programs in pieces: tables of lines, walks through memory that lies, names, and layouts
//! against what real interpreters say of themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test fails by panicking and tells on stderr what it could check"
)]

mod cpython;
mod functions;
mod hotspot;
mod layouts;
mod lines;
mod memory;
