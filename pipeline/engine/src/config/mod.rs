//! Reading configurations: the Collector's YAML, with every mistake reported at once and where.
//!
//! A configuration is read in steps, each in its own file: text to a tree whose scalars keep their
//! raw text and position (`yaml`), references to the environment (`expand`), layers over each other
//! (`layers`), and last a part of the tree into a component's own type (`reader`). A scalar gets its
//! type only there, from what the target wants: `0123` read into a string is `0123`.
//!
//! [`Document`] is the whole, [`Section`] the part of one component.

mod component;
mod deserialize;
mod document;
mod error;
mod expand;
mod layers;
mod node;
mod reader;
mod scalar;
mod section;
mod suggest;
mod yaml;

#[cfg(test)]
mod tests;

pub use component::Config;
pub use document::Document;
pub use error::{ConfigError, ConfigErrors, Problems};
pub use layers::{Environment, Layers};
pub use section::Section;

pub(crate) use node::{Content, Entry, Mark, Node};
pub(crate) use reader::read;
pub(crate) use suggest::{did_you_mean, nearest};
