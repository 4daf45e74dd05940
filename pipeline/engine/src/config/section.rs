//! The part of a configuration that belongs to one component.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::Config;
use super::error::{ConfigError, Problems};
use super::node::{Content, Mark, Node};
use super::reader;
use super::yaml;

/// The part of a configuration that belongs to one component.
#[derive(Debug, Clone, Default)]
pub struct Section {
    node: Node,
    path: String,
}

impl Section {
    pub(crate) fn new(node: Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into() }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The raw text of a scalar directly in the section.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match &self.node.get(key)?.content {
            Content::Scalar(scalar) if !scalar.is_null() => Some(scalar.text.clone()),
            _ => None,
        }
    }

    /// True if this key is written directly in the section.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.node.get(key).is_some()
    }

    /// What is written directly in the section.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Two sections for one: that without the keys that are `taken`, and that with only these.
    pub(crate) fn partition(&self, taken: impl Fn(&str) -> bool) -> (Self, Self) {
        let Content::Map(entries) = &self.node.content else {
            let mut empty = self.clone();
            empty.node.content = Content::Map(Vec::new());
            return (self.clone(), empty);
        };
        let (ours, rest) = entries.iter().cloned().partition(|entry| taken(&entry.key));
        let part = |entries| {
            let node = Node {
                mark: self.node.mark.clone(),
                content: Content::Map(entries),
                referenced: None,
            };
            Self { node, path: self.path.clone() }
        };
        (part(rest), part(ours))
    }

    /// Reads the section into a type that has its defaults where there are mistakes; with every
    /// mistake.
    pub(crate) fn read_lossy<C: DeserializeOwned>(&self) -> (Option<C>, Vec<ConfigError>) {
        reader::read_lossy(&self.node, &self.path)
    }

    /// The section that this text is, for tests of components.
    ///
    /// # Errors
    /// If the text is not YAML.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<ConfigError>> {
        let source = Path::new("section.yaml").into();
        let mut errors = Vec::new();
        match yaml::parse(text, Some(source), &mut errors) {
            Ok(node) if errors.is_empty() => Ok(Self { node, path: String::new() }),
            Ok(_) => Err(errors),
            Err(error) => Err(vec![error]),
        }
    }

    /// Reads the section into a component's configuration.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read<C: DeserializeOwned>(&self) -> Result<C, Vec<ConfigError>> {
        reader::read(&self.node, &self.path)
    }

    /// Reads the section into a component's configuration and validates it. Values that make no
    /// sense are found beside values that cannot be read.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read_valid<C: Config>(&self) -> Result<C, Vec<ConfigError>> {
        let (config, mut errors) = reader::read_lossy::<C>(&self.node, &self.path);
        let Some(config) = config else { return Err(errors) };
        let mut problems = Problems::default();
        config.validate(&mut problems);
        if let Err(located) = self.locate(problems) {
            // What could not be read has its default now, which nobody wrote.
            let new = |error: &ConfigError| errors.iter().all(|known| known.path != error.path);
            let located: Vec<ConfigError> = located.into_iter().filter(new).collect();
            errors.extend(located);
        }
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// What a component's configuration advises about a section that can be read.
    pub fn advice<C: Config>(&self) -> Vec<ConfigError> {
        let mut advice = Problems::default();
        if let Ok(config) = self.read::<C>() {
            config.advise(&mut advice);
        }
        self.locate(advice).err().unwrap_or_default()
    }

    /// Turns problems of values into errors with positions; none is `Ok`.
    ///
    /// # Errors
    /// The problems, located.
    pub fn locate(&self, problems: Problems) -> Result<(), Vec<ConfigError>> {
        if problems.found.is_empty() {
            return Ok(());
        }
        let located = problems.found.into_iter().map(|(field, character, message)| {
            let path = match (self.path.as_str(), field.as_str()) {
                ("", field) => field.to_owned(),
                (base, "") => base.to_owned(),
                (base, field) => format!("{base}::{field}"),
            };
            ConfigError::at(&self.place_of(&field, character), path, message)
        });
        Err(located.collect())
    }

    /// Where a character of a field's text was written, as far as that is known.
    fn place_of(&self, field: &str, character: Option<usize>) -> Mark {
        let mut mark = self.mark_of(field).clone();
        let mut node = Some(&self.node);
        for key in field.split("::") {
            node = node.and_then(|node| node.child(key));
        }
        if let (Some(Content::Scalar(scalar)), Some(character)) =
            (node.map(|node| &node.content), character)
            && let (Some(begins), Ok(character)) = (scalar.begins, u32::try_from(character))
            && mark.column > 0
        {
            mark.column = mark.column.saturating_add(begins).saturating_add(character);
        }
        mark
    }

    /// Where a field was written; where it was not, the section that it would be in.
    pub(crate) fn mark_of(&self, field: &str) -> &Mark {
        let mut node = &self.node;
        for key in field.split("::") {
            match node.child(key) {
                Some(child) => node = child,
                None => break,
            }
        }
        &node.mark
    }
}
