//! The query core: one table of samples in memory, and what people ask of it.
//!
//! A [`Source`] gives the [`Table`] that a [`Selection`] needs; files are one ([`Table`] itself), a
//! history is another. [`Table::select`] adds up what a selection has by stack ([`Selected`]), and
//! everything that is shown is computed from that, from the full data: functions, search, sandwich,
//! series. Only trees, which are drawn, are pruned ([`Tree`]).
//!
//! # How
//! Stacks are paths of function numbers, root first, sorted once. A tree is one sweep over them with a
//! stack of open nodes: a node's total is known when it closes, so what is too small to be seen is never
//! made. There is no map of nodes.
//!
//! # Words
//! A *path* is the functions of a stack, root first. A *function* is what has one name and one module; it
//! counts once in a stack, however often it is in there. The *self* weights of all functions and of
//! stacks without any together are the total of the selection.

mod environment;
mod error;
mod export;
mod functions;
pub mod hash;
mod matcher;
mod sandwich;
mod select;
mod series;
mod statistics;
mod table;
mod tree;

pub mod diff;

pub use environment::Difference;
pub use error::QueryError;
pub use functions::{Column, FunctionCost, Functions, Search, term};
pub use matcher::{Matcher, Matchers, Operation};
pub use sandwich::Sandwich;
pub use select::{Loss, Selected, Selection};
pub use series::{By, Points, Row as SeriesRow, Series, SeriesOptions};
pub use table::{FileInfo, InputFile, LabelValues, ProfileType, Table, TypeId};
pub use tree::{Node, Tree, TreeOptions};

use std::sync::Arc;

/// Where tables come from: files that were read, or a history.
pub trait Source: Send + Sync + 'static {
    /// The table that has at least what a selection selects; of `None` what there is to select from.
    ///
    /// # Errors
    /// If it cannot be made.
    fn table(&self, selection: Option<&Selection>) -> Result<Arc<Table>, QueryError>;
}

impl Source for Arc<Table> {
    fn table(&self, _selection: Option<&Selection>) -> Result<Arc<Table>, QueryError> {
        Ok(Self::clone(self))
    }
}
