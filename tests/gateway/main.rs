//! The real program as a gateway, against what goes wrong around it and in it. What it has
//! acknowledged is delivered or still in its queue, whatever happened; what arrives was sent, and
//! is what was sent.
//!
//! Layout: `payload` is what is sent, a function of a number; `ledger` remembers what was answered
//! and what arrived, and compares; `sender` makes load, `http` carries it; `sink` is a backend that
//! misbehaves on demand; `attack` are senders that do; `process` runs the program; `delivered` reads
//! what the `file` exporter wrote; `traffic` sends in every protocol and dialect, `destination` is a backend
//! of every protocol, `walk_account` reads the accounts that the program gives. The rest are tests: `accounts`, `walk`, `kill`, `backend`, `disk`, `limits`, `tiers`, `restart`.
//!
//! Longer runs, in the environment: `PROFPIPE_KILL_ROUNDS=1000` for [`kill`],
//! `PROFPIPE_ACCOUNT_SEEDS=100` for [`accounts`] and [`walk`]
//! (`PROFPIPE_WALK_SEED=7` for one of them), `PROFPIPE_QUEUE_MIB=1024` for [`restart`], `PROFPIPE_GOODPUT=1` for the paired measurement in
//! [`limits`].
//!
//! Not proved here: what a power cut leaves, for which the log has a simulated file system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measured or skipped"
)]

mod accounts;
mod attack;
mod backend;
mod delivered;
mod destination;
mod disk;
mod http;
mod kill;
mod ledger;
mod limits;
mod payload;
mod process;
mod restart;
mod sender;
mod sink;
mod tiers;
mod traffic;
mod walk;
mod walk_account;
