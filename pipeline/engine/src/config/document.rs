//! A whole configuration, its layers merged and its references replaced.

use super::error::ConfigError;
use super::node::Node;

/// A whole configuration. The engine makes a plan of it.
#[derive(Debug, Clone)]
pub struct Document {
    pub(crate) root: Node,
    /// Mistakes that did not keep the rest from being read: duplicate keys, bad references.
    pub(crate) errors: Vec<ConfigError>,
    /// What is suspicious but no mistake, such as variables that are not set.
    pub(crate) warnings: Vec<ConfigError>,
}
