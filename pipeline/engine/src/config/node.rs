//! The tree of a configuration: what was written, and where.

use std::path::Path;
use std::sync::Arc;

/// A place in a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The file, or what stands for it: `--set`, `environment`.
    pub(crate) source: Option<Arc<Path>>,
    /// Counted from 1; 0 if unknown.
    pub(crate) line: u32,
    /// Counted from 1; 0 if unknown.
    pub(crate) column: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
    /// What the variable or file held that this stands for, if it is one reference and nothing else:
    /// where a text is wanted it is that, whatever it looks like.
    pub(crate) referenced: Option<Box<str>>,
}

/// What a value is, before anybody wants it as a type.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Scalar(Scalar::null())
    }
}

/// A scalar as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// The text, without quotes.
    pub(crate) text: String,
    /// True if the text may be a number, a truth value or null; false if it was quoted.
    pub(crate) plain: bool,
    /// Where the text begins after the node's mark, if every character of it stands there as it is:
    /// after the quote.
    pub(crate) begins: Option<u32>,
}

impl Scalar {
    pub(crate) fn null() -> Self {
        Self { text: String::new(), plain: true, begins: None }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// A key of a map with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.is_null())
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key of a map, or the item of a list at this position.
    pub(crate) fn child(&self, step: &str) -> Option<&Node> {
        self.get(step).or_else(|| self.items().get(step.parse::<usize>().ok()?))
    }

    /// The children of a map or a list, with the step that leads to each.
    pub(crate) fn child_mut(&mut self, step: &Step) -> Option<&mut Node> {
        match (&mut self.content, step) {
            (Content::Map(entries), Step::Key(key)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Content::List(items), Step::Index(at)) => items.get_mut(*at),
            _ => None,
        }
    }

    /// Takes the value at a path out of the tree; false if there is none.
    pub(crate) fn prune(&mut self, path: &[Step]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let mut node = self;
        for step in parents {
            match node.child_mut(step) {
                Some(child) => node = child,
                None => return false,
            }
        }
        match (&mut node.content, last) {
            (Content::Map(entries), Step::Key(key)) => {
                let before = entries.len();
                entries.retain(|entry| entry.key != *key);
                entries.len() < before
            }
            (Content::List(items), Step::Index(at)) if *at < items.len() => {
                items.remove(*at);
                true
            }
            _ => false,
        }
    }

    /// What the value is, in words, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.content {
            Content::Scalar(scalar) if scalar.is_null() => "nothing".to_owned(),
            Content::Scalar(scalar) => format!("`{}`", shorten(&scalar.text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        }
    }
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The path `steps` below `base`, as users read it: `exporters::file::headers::0`.
pub(crate) fn join(base: &str, steps: &[Step]) -> String {
    let mut path = base.to_owned();
    for step in steps {
        if !path.is_empty() {
            path.push_str("::");
        }
        match step {
            Step::Key(key) => path.push_str(key),
            Step::Index(at) => path.push_str(&at.to_string()),
        }
    }
    path
}

/// A text short enough for a message of one line.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LIMIT && line.len() == text.len() {
        return text.to_owned();
    }
    let start: String = line.chars().take(LIMIT).collect();
    format!("{start}…")
}
