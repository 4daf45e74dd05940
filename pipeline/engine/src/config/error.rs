//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use super::node::Mark;

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if the value came from one; `--set` or `environment` if it came from there.
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

impl ConfigError {
    pub(crate) fn at(mark: &Mark, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: mark.source.as_ref().map(|source| source.to_path_buf()),
            line: mark.line as usize,
            column: mark.column as usize,
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    /// `file:line:column: path: message`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        // One mistake is one line, whatever a value or a parser put into the message.
        for (at, line) in self.message.lines().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Every mistake in a configuration, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<Vec<ConfigError>> for ConfigErrors {
    fn from(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path))
        });
        errors.dedup();
        Self(errors)
    }
}

/// Collects what [`Config::validate`](super::Config::validate) finds wrong.
#[derive(Debug, Default)]
pub struct Problems {
    /// The field, the character in its text, the message.
    pub(super) found: Vec<(String, Option<usize>, String)>,
}

impl Problems {
    /// Reports that the value at `field` (`retention::max_age`, relative to the component) makes no
    /// sense.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.found.push((field.to_owned(), None, message.into()));
    }

    /// As [`Problems::push`], for what begins at this character of the text at `field`, counted from
    /// 0. Where it is known how the text was written, the position is that of the character.
    pub fn push_at(&mut self, field: &str, character: usize, message: impl Into<String>) {
        self.found.push((field.to_owned(), Some(character), message.into()));
    }

    /// What was found: the fields and the messages, in the order in which they were reported.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.found.iter().map(|(field, _, message)| (field.as_str(), message.as_str()))
    }

    /// Reports what was found in the part of the component's section that is called `part`.
    pub fn append(&mut self, part: &str, found: Problems) {
        let found = found.found.into_iter();
        self.found
            .extend(found.map(|(field, at, message)| (format!("{part}::{field}"), at, message)));
    }
}
