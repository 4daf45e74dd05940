//! References inside scalars: `${env:NAME}`, `${NAME}`, `${env:NAME:-default}`, `${file:PATH}`.
//!
//! The rules are the Collector's. `$$` is a dollar sign; `$NAME` without braces is left alone; the
//! default holds only where the variable is not set; a variable that is not set and has no default
//! is empty, with a warning. A scalar that is one reference and nothing else gets its type like a
//! plain scalar, and may be a whole list or map; where a text is wanted it is the text that the variable
//! or file holds, even if that looks like a number, a list or nothing. Keys are never touched. What a variable holds is
//! not searched for further references: it may be a password with a dollar sign.

use super::error::ConfigError;
use super::node::{Content, Mark, Node, Scalar, Step, join};
use super::yaml;

/// Where the value of a variable comes from.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep defaults may hold further references.
const MAX_DEPTH: usize = 8;
/// The longest text that references may grow a scalar to.
const MAX_BYTES: usize = 1 << 20;

/// Replaces every reference in the tree; gives back what is wrong and what is suspicious.
pub(crate) fn expand(root: &mut Node, lookup: Lookup<'_>) -> (Vec<ConfigError>, Vec<ConfigError>) {
    let mut walk = Walk { lookup, path: Vec::new(), errors: Vec::new(), warnings: Vec::new() };
    walk.node(root);
    (walk.errors, walk.warnings)
}

struct Walk<'a> {
    lookup: Lookup<'a>,
    path: Vec<Step>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Walk<'_> {
    /// Recursion is bounded by the depth of the tree, which the parser bounds.
    fn node(&mut self, node: &mut Node) {
        match &mut node.content {
            Content::Map(entries) => {
                for entry in entries {
                    self.path.push(Step::Key(entry.key.clone()));
                    self.node(&mut entry.value);
                    self.path.pop();
                }
            }
            Content::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(at));
                    self.node(item);
                    self.path.pop();
                }
            }
            Content::Scalar(scalar) if scalar.text.contains('$') => {
                match self.scalar(scalar, &node.mark) {
                    Ok((content, referenced)) => {
                        node.content = content;
                        node.referenced = referenced;
                    }
                    Err(message) => {
                        let path = join("", &self.path);
                        self.errors.push(ConfigError::at(&node.mark, path, message));
                    }
                }
            }
            Content::Scalar(_) => {}
        }
    }

    /// What a scalar is with its references replaced, and the text that it is if it is one reference.
    fn scalar(
        &mut self,
        scalar: &Scalar,
        mark: &Mark,
    ) -> Result<(Content, Option<Box<str>>), String> {
        let whole = scalar.text.starts_with("${")
            && closing(&scalar.text, 0).is_some_and(|end| end + 1 == scalar.text.len());
        let text = self.text(&scalar.text, mark, 0)?;
        if !whole {
            let plain = scalar.plain && !scalar.text.contains("${");
            return Ok((Content::Scalar(Scalar { text, plain, begins: None }), None));
        }
        // Nothing at all is as if it were not written.
        let referenced = (!text.is_empty()).then(|| text.as_str().into());
        if (text.starts_with(['[', '{']) || text.contains('\n'))
            && let Ok(node) = yaml::parse(&text, None, &mut Vec::new())
            && !matches!(node.content, Content::Scalar(_))
        {
            return Ok((relocate(node.content, mark), referenced));
        }
        Ok((Content::Scalar(Scalar { text, plain: true, begins: None }), referenced))
    }

    fn text(&mut self, text: &str, mark: &Mark, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("references nested deeper than {MAX_DEPTH} levels"));
        }
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            done.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(tail) = rest.strip_prefix("$$") {
                done.push('$');
                rest = tail;
            } else if rest.starts_with("${") {
                let end = closing(rest, 0)
                    .ok_or("a `${` without its `}`; write `$$` for a dollar sign")?;
                done.push_str(&self.reference(&rest[2..end], mark, depth)?);
                rest = &rest[end + 1..];
            } else {
                done.push('$');
                rest = &rest[1..];
            }
            if done.len() > MAX_BYTES {
                return Err(format!("longer than {MAX_BYTES} bytes with its references"));
            }
        }
        done.push_str(rest);
        Ok(done)
    }

    fn reference(&mut self, body: &str, mark: &Mark, depth: usize) -> Result<String, String> {
        let (name, default) = match body.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (body, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        if let Some(path) = name.strip_prefix("file:") {
            return file(path);
        }
        if let Some((scheme, _)) = name.split_once(':') {
            return Err(format!(
                "`${{{scheme}:…}}` is not supported; use `${{env:NAME}}` or `${{file:PATH}}`"
            ));
        }
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !well_formed {
            return Err(format!(
                "`{name}` is not the name of a variable; use letters, digits and `_`"
            ));
        }
        match ((self.lookup)(name), default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => self.text(default, mark, depth + 1),
            (None, None) => {
                let message = format!("the variable `{name}` is not set; it counts as empty");
                self.warnings.push(ConfigError::at(mark, join("", &self.path), message));
                Ok(String::new())
            }
        }
    }
}

/// What a file holds, without the line end that editors put after it.
fn file(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    let cannot = |cause: std::io::Error| format!("cannot read the file {path}: {cause}");
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(cannot)?;
    opened.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() > MAX_BYTES {
        return Err(format!("the file {path} is longer than {MAX_BYTES} bytes"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Where the `${` at `start` ends, with references inside it skipped.
fn closing(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'$', Some(b'{')) => {
                depth += 1;
                at += 1;
            }
            (b'}', _) => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// A list or map out of a variable stands where the reference to the variable stands.
fn relocate(mut content: Content, mark: &Mark) -> Content {
    match &mut content {
        Content::Map(entries) => {
            for entry in entries {
                entry.mark = mark.clone();
                relocate_node(&mut entry.value, mark);
            }
        }
        Content::List(items) => items.iter_mut().for_each(|item| relocate_node(item, mark)),
        Content::Scalar(_) => {}
    }
    content
}

fn relocate_node(node: &mut Node, mark: &Mark) {
    node.mark = mark.clone();
    node.content = relocate(std::mem::take(&mut node.content), mark);
}
