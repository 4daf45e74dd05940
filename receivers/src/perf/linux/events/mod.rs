//! The start of a sample's way: perf events, and what is asked of the kernel.
//!
//! Says which events there are ([`chosen`], with what [`tracefs`], [`counters`], [`probe_site`], [`usdt`] and [`go_functions`] know of them) and with which attributes they are opened ([`attr`], as far as the host allows: [`negotiate`]), opens
//! them and keeps them open ([`session`]) with their [`rings`], of whom a [`target`] says, for the [`tasks`] there are as far as
//! [`descriptors`] allow, changes them while they run ([`levers`]; those that are not clocks, as often as
//! [`every`] says; [`counts`] is how many there were), measures what they cost ([`calibrate`]) and finds out what this host allows ([`mod@probe`], [`permission`]). What a host does not allow is
//! left out, and said; a session that was opened samples until it is dropped. What the events write
//! is read in `records`; when levers are moved is decided in `governed`. `unsafe` is in [`sys`]
//! only.

pub(super) mod attr;
pub(super) mod calibrate;
pub(super) mod chosen;
mod counters;
mod counts;
pub(super) mod descriptors;
pub(super) mod every;
mod go_functions;
pub(super) mod levers;
mod negotiate;
pub(super) mod permission;
pub(super) mod probe;
mod probe_site;
pub(super) mod rings;
pub(super) mod session;
pub(super) mod sys;
pub(super) mod target;
pub(super) mod tasks;
mod tracefs;
mod usdt;
