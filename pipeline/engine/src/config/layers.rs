//! Layers of a configuration over each other: files in order, the environment, `--set`.
//!
//! `figment` does the layering: maps merge key by key, anything else of a later layer replaces what
//! was there. Its values know neither lines nor raw text, so they are only handles here: what is
//! not a map stands in figment as the number of a node in a table beside it, and a table of paths
//! remembers where keys were written. After merging, the tree is put together again from both.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Empty, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::document::Document;
use super::error::{ConfigError, ConfigErrors};
use super::expand;
use super::node::{Content, Entry, Mark, Node};
use super::yaml;

/// Variables whose name starts so set a value: `PROFPIPE__receivers__perf__frequency=49`.
const PREFIX: &str = "PROFPIPE__";

/// The environment that a configuration sees, for `${env:NAME}` and for overriding values.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        Self(std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The layers of a configuration, from the weakest to the strongest: texts and files in the order
/// they were given, then the environment, then single values.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    texts: Vec<Text>,
    environment: Environment,
    sets: Vec<String>,
}

#[derive(Debug, Clone)]
enum Text {
    File(PathBuf),
    Inline { name: Option<PathBuf>, text: String },
}

impl Layers {
    /// No layer at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.texts.push(Text::File(path.into()));
        self
    }

    /// Adds a text; `name` stands for the file in errors.
    #[must_use]
    pub fn text(mut self, name: Option<&Path>, text: impl Into<String>) -> Self {
        self.texts.push(Text::Inline { name: name.map(Path::to_owned), text: text.into() });
        self
    }

    /// Lets the configuration see an environment; without this it sees none.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Overrides one value, as `receivers::perf::frequency=49`; dots work in place of `::`.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.sets.push(assignment.into());
        self
    }

    /// Reads every layer and puts them over each other. Mistakes that leave the rest readable are
    /// kept in the document, for the plan to report together with its own.
    ///
    /// # Errors
    /// Every file that cannot be read and every place that is not YAML.
    pub fn load(&self) -> Result<Document, ConfigErrors> {
        let mut loading = Loading {
            variables: &self.environment.0,
            layers: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            fatal: Vec::new(),
        };
        for text in &self.texts {
            loading.text(text);
        }
        // Variables in the order of their names, for the same result every time.
        let mut variables: Vec<_> =
            self.environment.0.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            loading.variable(name, value);
        }
        for assignment in &self.sets {
            loading.assignment(assignment);
        }
        let Loading { layers, errors, warnings, fatal, .. } = loading;
        if !fatal.is_empty() {
            return Err(fatal.into_iter().chain(errors).collect::<Vec<_>>().into());
        }
        let root = merge(layers).map_err(|error| ConfigErrors(vec![error]))?;
        Ok(Document { root, errors, warnings })
    }
}

/// Layers on their way in.
struct Loading<'a> {
    variables: &'a HashMap<String, String>,
    layers: Vec<Node>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
    /// Why a whole layer is not there.
    fatal: Vec<ConfigError>,
}

impl Loading<'_> {
    fn text(&mut self, text: &Text) {
        match text.parse(&mut self.errors) {
            Ok(node) => self.expanded(node),
            Err(error) => self.fatal.push(error),
        }
    }

    fn expanded(&mut self, mut node: Node) {
        let lookup = |name: &str| self.variables.get(name).cloned();
        let (errors, warnings) = expand::expand(&mut node, &lookup);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
        self.layers.push(node);
    }

    fn variable(&mut self, name: &str, value: &str) {
        // Names in capitals are the custom of shells; no key of ours has any.
        let path = name[PREFIX.len()..].to_lowercase();
        let keys: Vec<&str> = path.split("__").collect();
        match single(&keys, value, &format!("environment variable {name}")) {
            Ok(node) => self.layers.push(node),
            Err(error) => self.fatal.push(error),
        }
    }

    fn assignment(&mut self, assignment: &str) {
        let Some((path, value)) = assignment.split_once('=') else {
            let mark = Mark { source: Some(Path::new("--set").into()), ..Mark::default() };
            let message = format!("`{assignment}` has no `=`; write path::to::key=value");
            self.fatal.push(ConfigError::at(&mark, "", message));
            return;
        };
        let separator = if path.contains("::") { "::" } else { "." };
        let keys: Vec<&str> = path.trim().split(separator).collect();
        match single(&keys, value, "--set") {
            Ok(node) => self.expanded(node),
            Err(error) => self.fatal.push(error),
        }
    }
}

impl Text {
    fn parse(&self, errors: &mut Vec<ConfigError>) -> Result<Node, ConfigError> {
        let (source, text) = match self {
            Self::Inline { name, text } => (name.as_deref().map(Arc::from), text.clone()),
            Self::File(path) => {
                let source: Arc<Path> = path.as_path().into();
                match read(path) {
                    Ok(text) => (Some(source), text),
                    Err(error) => {
                        let mark = Mark { source: Some(source), ..Mark::default() };
                        let message = format!("cannot read it: {error}");
                        return Err(ConfigError::at(&mark, "", message));
                    }
                }
            }
        };
        let mark = Mark { source: source.clone(), line: 1, column: 1 };
        let node = yaml::parse(&text, source, errors)?;
        match node.content {
            Content::Map(_) => Ok(node),
            _ if node.is_null() => {
                Ok(Node { mark, content: Content::Map(Vec::new()), referenced: None })
            }
            _ => {
                let message = format!("a configuration is a map, not {}", node.describe());
                Err(ConfigError::at(&mark, "", message))
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // One byte more than may be parsed, so that the parser sees that there is too much.
    let mut text = Vec::new();
    File::open(path)?.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    String::from_utf8(text)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// A layer of one value.
fn single(keys: &[&str], value: &str, source: &str) -> Result<Node, ConfigError> {
    let source: Arc<Path> = Path::new(source).into();
    let mark = Mark { source: Some(Arc::clone(&source)), ..Mark::default() };
    let path = keys.join("::");
    if keys.iter().any(|key| key.is_empty()) {
        return Err(ConfigError::at(&mark, path, "an empty key; write path::to::key=value"));
    }
    let mut duplicates = Vec::new();
    let parsed = yaml::parse(value, Some(source), &mut duplicates);
    let parsed = match duplicates.pop() {
        Some(error) => Err(error),
        None => parsed,
    };
    let mut node = parsed.map_err(|error| ConfigError { path, line: 0, ..error })?;
    forget_lines(&mut node, &mark);
    for key in keys.iter().rev() {
        let entry = Entry { key: (*key).to_owned(), mark: mark.clone(), value: node };
        node = Node { mark: mark.clone(), content: Content::Map(vec![entry]), referenced: None };
    }
    Ok(node)
}

/// A line inside a value on the command line tells nobody anything.
fn forget_lines(node: &mut Node, mark: &Mark) {
    node.mark = mark.clone();
    match &mut node.content {
        Content::Map(entries) => {
            for entry in entries {
                entry.mark = mark.clone();
                forget_lines(&mut entry.value, mark);
            }
        }
        Content::List(items) => items.iter_mut().for_each(|item| forget_lines(item, mark)),
        Content::Scalar(_) => {}
    }
}

/// What figment cannot carry: the nodes that are not maps, and where keys and maps were written.
#[derive(Default)]
struct Table {
    nodes: Vec<Node>,
    /// By path: the mark of the key and the mark of its value.
    keys: HashMap<Vec<String>, (Mark, Mark)>,
    /// By path: the text of a variable that looks like a map.
    referenced: HashMap<Vec<String>, Box<str>>,
}

/// A layer as figment wants it.
struct Layer(Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

fn merge(layers: Vec<Node>) -> Result<Node, ConfigError> {
    let mark = layers.first().map(|node| node.mark.clone()).unwrap_or_default();
    let mut table = Table::default();
    let mut figment = Figment::new();
    for layer in layers {
        let dict = into_dict(layer, &mut Vec::new(), &mut table);
        figment = figment.merge(Layer(dict));
    }
    let merged: Value =
        figment.find_value("").map_err(|error| ConfigError::at(&mark, "", error.to_string()))?;
    let mut root = from_value(&merged, &mut Vec::new(), &table);
    root.mark = mark;
    Ok(root)
}

fn into_dict(node: Node, path: &mut Vec<String>, table: &mut Table) -> Dict {
    let Content::Map(entries) = node.content else { return Dict::new() };
    let mut dict = Dict::new();
    for entry in entries {
        path.push(entry.key.clone());
        table.keys.insert(path.clone(), (entry.mark, entry.value.mark.clone()));
        let value = match &entry.value.content {
            // Null over a section resets it to its defaults, as in the Collector.
            Content::Scalar(scalar) if scalar.is_null() && entry.value.referenced.is_none() => {
                Value::Empty(Tag::Default, Empty::None)
            }
            Content::Map(_) => {
                match &entry.value.referenced {
                    Some(text) => table.referenced.insert(path.clone(), text.clone()),
                    None => table.referenced.remove(path),
                };
                Value::Dict(Tag::Default, into_dict(entry.value, path, table))
            }
            _ => {
                table.nodes.push(entry.value);
                Value::Num(Tag::Default, Num::USize(table.nodes.len() - 1))
            }
        };
        dict.insert(entry.key, value);
        path.pop();
    }
    dict
}

fn from_value(value: &Value, path: &mut Vec<String>, table: &Table) -> Node {
    let mark = table.keys.get(path).map(|(_, mark)| mark.clone()).unwrap_or_default();
    match value {
        Value::Dict(_, dict) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(dict.len());
            for (key, value) in dict {
                path.push(key.clone());
                let mark = table.keys.get(path).map(|(mark, _)| mark.clone()).unwrap_or_default();
                entries.push(Entry {
                    key: key.clone(),
                    mark,
                    value: from_value(value, path, table),
                });
                path.pop();
            }
            // Figment sorts by key; people read in the order of the file.
            entries.sort_by_key(|entry| (entry.mark.line, entry.mark.column));
            Node {
                mark,
                content: Content::Map(entries),
                referenced: table.referenced.get(path).cloned(),
            }
        }
        Value::Num(_, Num::USize(at)) => table.nodes.get(*at).cloned().unwrap_or_default(),
        _ => Node { mark, content: Content::default(), referenced: None },
    }
}
