//! What a page is made of.

use std::sync::Arc;

use profpipe_store::Source;

use crate::export::Exports;
use crate::hosts::Hosts;

/// What a page is of.
pub struct Options {
    /// Where tables come from.
    pub source: Arc<dyn Source>,
    /// What only the program can do.
    pub exports: Arc<dyn Exports>,
    /// The first part of every path, which nobody else knows.
    pub token: String,
    /// Whom the server takes requests for.
    pub hosts: Hosts,
    /// What it is called, as `cpu.pb.gz`.
    pub title: String,
    /// The program's version.
    pub version: &'static str,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("title", &self.title).finish_non_exhaustive()
    }
}
