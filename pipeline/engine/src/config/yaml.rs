//! YAML text to a tree, bounded: the text may come from anybody.
//!
//! The parser gives events with positions; here they become nodes. Aliases are copied in place and
//! count in full, so that a bomb of aliases meets the limit on nodes. `<<` merges maps as Go's
//! parser does, because Collector configurations use it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::error::ConfigError;
use super::node::{Content, Entry, Mark, Node, Scalar, Step, join, shorten};

/// The longest text that is read.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// The most nodes a tree may have, with aliases expanded.
const MAX_NODES: usize = 100_000;
/// The most bytes of scalars a tree may have, with aliases expanded.
const MAX_SCALAR_BYTES: usize = 16 << 20;
/// The most keys of one map: finding duplicates compares each with each.
const MAX_KEYS: usize = 4096;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// Reads one document; duplicate keys are noted in `errors` and reading goes on with the first.
///
/// # Errors
/// The place where the text is not YAML or exceeds a limit.
pub(crate) fn parse(
    text: &str,
    source: Option<Arc<Path>>,
    errors: &mut Vec<ConfigError>,
) -> Result<Node, ConfigError> {
    let start = Mark { source, line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        let message = format!("longer than {MAX_BYTES} bytes; split it into several files");
        return Err(ConfigError::at(&start, "", message));
    }
    let mut builder = Builder { start, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let fed = match event {
            Ok((event, span)) => builder.feed(event, span),
            Err(error) => {
                let mark = builder.mark_at(error.marker().line(), error.marker().col());
                Err(builder.error(&mark, format!("this is not YAML: {}", error.info())))
            }
        };
        if let Err(error) = fed {
            errors.append(&mut builder.errors);
            return Err(error);
        }
    }
    errors.append(&mut builder.errors);
    Ok(builder.root.unwrap_or_default())
}

#[derive(Default)]
struct Builder {
    start: Mark,
    root: Option<Node>,
    open: Vec<Open>,
    /// Anchored nodes with their size in nodes and scalar bytes.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    bytes: usize,
    documents: usize,
    errors: Vec<ConfigError>,
}

/// A collection whose end has not been seen.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(String, Mark)>,
    /// Maps given by `<<`, which fill in what the map does not say itself.
    merges: Vec<Node>,
    /// The builder's counts when the collection began.
    nodes: usize,
    bytes: usize,
}

impl Builder {
    fn mark_at(&self, line: usize, column: usize) -> Mark {
        Mark {
            source: self.start.source.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn path(&self) -> String {
        let steps: Vec<Step> = self
            .open
            .iter()
            .filter_map(|open| match (&open.node.content, &open.key) {
                (Content::List(items), _) => Some(Step::Index(items.len())),
                (_, Some((key, _))) => Some(Step::Key(shorten(key))),
                _ => None,
            })
            .collect();
        join("", &steps)
    }

    fn error(&self, mark: &Mark, message: impl Into<String>) -> ConfigError {
        ConfigError::at(mark, self.path(), message)
    }

    fn feed(&mut self, event: Event<'_>, span: Span) -> Result<(), ConfigError> {
        let mark = self.mark_at(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second YAML document; put it into a file of its own";
                    return Err(self.error(&mark, message));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref().and_then(|tag| tag.core_suffix().map(str::to_owned));
                let plain = match tag.as_deref() {
                    Some("str") => false,
                    Some(_) => true,
                    None => style == ScalarStyle::Plain,
                };
                self.bytes += text.len();
                // Without escapes and in one line, source and text are the same but for quotes.
                let quote = usize::from(style != ScalarStyle::Plain);
                let length = text.chars().count() + 2 * quote;
                let is_same = span.start.line() == span.end.line()
                    && span.start.col() + length == span.end.col();
                let begins = is_same.then_some(quote as u32);
                let content = Content::Scalar(Scalar { text: text.into_owned(), plain, begins });
                self.place(Node { mark, content, referenced: None }, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(mark, Content::List(vec![]), anchor),
            Event::MappingStart(_, anchor, _) => self.begin(mark, Content::Map(vec![]), anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((node, nodes, bytes)) = self.anchors.get(&anchor) else {
                    return Err(self.error(&mark, "an alias of what it is inside of"));
                };
                let (node, nodes, bytes) = (node.clone(), *nodes, *bytes);
                // Checked before the copy is kept: copies of copies grow exponentially.
                self.bytes += bytes;
                self.place(node, 0, nodes)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, mark: Mark, content: Content, anchor: usize) -> Result<(), ConfigError> {
        self.count(&mark, 1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(&mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(Open { node: Node { content: Content::Map(_), .. }, key: None, .. }) =
            self.open.last()
        {
            return Err(self.error(&mark, "a key must be a word, not a list or a map"));
        }
        self.open.push(Open {
            node: Node { mark, content, referenced: None },
            anchor,
            key: None,
            merges: Vec::new(),
            nodes: self.nodes - 1,
            bytes: self.bytes,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), ConfigError> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Content::Map(entries) = &mut open.node.content {
            for merged in open.merges.drain(..) {
                let Content::Map(defaults) = merged.content else { continue };
                for entry in defaults {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        if open.anchor != 0 {
            let (nodes, bytes) = (self.nodes - open.nodes, self.bytes - open.bytes);
            self.anchors.insert(open.anchor, (open.node.clone(), nodes, bytes));
        }
        self.attach(open.node)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), ConfigError> {
        self.count(&node.mark, nodes)?;
        if anchor != 0 {
            let bytes = match &node.content {
                Content::Scalar(scalar) => scalar.text.len(),
                _ => 0,
            };
            self.anchors.insert(anchor, (node.clone(), 1, bytes));
        }
        self.attach(node)
    }

    fn attach(&mut self, node: Node) -> Result<(), ConfigError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.content, open.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(entries), Some((key, mark))) => {
                let first = entries.iter().find(|entry| entry.key == key);
                if let Some(first) = first {
                    let line = first.mark.line;
                    let message = format!("`{key}` is given twice; the first is in line {line}");
                    open.key = Some((key, mark.clone()));
                    let error = self.error(&mark, message);
                    self.errors.push(error);
                    if let Some(open) = self.open.last_mut() {
                        open.key = None;
                    }
                } else if key == "<<" {
                    return self.merge(node);
                } else if entries.len() >= MAX_KEYS {
                    return Err(self.error(&mark, format!("a map of more than {MAX_KEYS} keys")));
                } else {
                    entries.push(Entry { key, mark, value: node });
                }
            }
            (Content::Map(_), None) => match node.content {
                Content::Scalar(scalar) => open.key = Some((scalar.text, node.mark)),
                _ => {
                    let message = "a key must be a word, not a list or a map";
                    return Err(self.error(&node.mark, message));
                }
            },
            (Content::Scalar(_), _) => {}
        }
        Ok(())
    }

    fn merge(&mut self, node: Node) -> Result<(), ConfigError> {
        let mark = node.mark.clone();
        let maps = match node.content {
            Content::List(items) => items,
            _ => vec![node],
        };
        if !maps.iter().all(|map| matches!(map.content, Content::Map(_))) {
            return Err(self.error(&mark, "`<<` takes a map or a list of maps"));
        }
        if let Some(open) = self.open.last_mut() {
            open.merges.extend(maps);
        }
        Ok(())
    }

    fn count(&mut self, mark: &Mark, nodes: usize) -> Result<(), ConfigError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES || self.bytes > MAX_SCALAR_BYTES {
            return Err(self.error(mark, "too large once its aliases are expanded"));
        }
        Ok(())
    }
}
