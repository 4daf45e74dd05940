//! Label selectors as PromQL has them: `{service_name="api",host=~"db.*"}`.
//!
//! Regular expressions are anchored at both ends, a label that is missing is the empty text, and `{}`
//! selects everything. Names that are not of letters, digits and `_` stand in quotes.

#[cfg(test)]
mod tests;

use regex::{Regex, RegexBuilder};

use crate::error::QueryError;

/// The longest selector, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// The most matchers of one.
const MAX_MATCHERS: usize = 64;
/// What a compiled expression may take, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// How a matcher compares.
#[derive(Debug, Clone)]
pub enum Operation {
    /// `=`
    Equal(String),
    /// `!=`
    NotEqual(String),
    /// `=~`
    Match(Regex),
    /// `!~`
    NotMatch(Regex),
}

/// One condition on a label.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// What its value is compared with.
    pub operation: Operation,
}

impl Matcher {
    /// Whether a value satisfies it; the empty text for a label that is missing.
    pub fn matches(&self, value: &str) -> bool {
        match &self.operation {
            Operation::Equal(text) => value == text,
            Operation::NotEqual(text) => value != text,
            Operation::Match(regex) => regex.is_match(value),
            Operation::NotMatch(regex) => !regex.is_match(value),
        }
    }
}

/// All conditions of a selector, which hold together.
#[derive(Debug, Clone, Default)]
pub struct Matchers(pub Vec<Matcher>);

impl Matchers {
    /// Reads a selector; an empty text selects everything, too.
    ///
    /// # Errors
    /// If it is not one; the message says where.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > MAX_BYTES {
            let message = format!("a label selector has at most {MAX_BYTES} bytes");
            return Err(QueryError::Invalid(message));
        }
        let mut parser = Parser { text, at: 0 };
        parser.selector().map(Self).map_err(|problem| {
            QueryError::Invalid(format!(
                "not a label selector, at byte {}: {problem}; write it as {{name=\"value\"}}",
                parser.at
            ))
        })
    }
}

/// An expression from a request, of bounded size.
///
/// # Errors
/// If it is not a regular expression, or too large.
pub(crate) fn regex(text: &str, what: &str) -> Result<Regex, QueryError> {
    let built = RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        QueryError::Invalid(format!("{what} is not a regular expression: {last}"))
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn selector(&mut self) -> Result<Vec<Matcher>, String> {
        let mut matchers = Vec::new();
        self.skip_space();
        if self.rest().is_empty() {
            return Ok(matchers);
        }
        if !self.take("{") {
            return Err("a `{` is missing".to_owned());
        }
        while !self.take("}") {
            if matchers.len() >= MAX_MATCHERS {
                return Err(format!("more than {MAX_MATCHERS} conditions"));
            }
            matchers.push(self.matcher()?);
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err("a `,` or `}` is missing".to_owned());
            }
        }
        self.skip_space();
        if !self.rest().is_empty() {
            return Err("something stands behind the `}`".to_owned());
        }
        Ok(matchers)
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let name = self.name()?;
        // The longer ones first.
        let operations = ["=~", "!~", "!=", "="];
        let Some(operation) = operations.into_iter().find(|token| self.take(token)) else {
            return Err("one of =, !=, =~ and !~ is missing".to_owned());
        };
        let value = self.quoted()?.ok_or("the value is not in quotes")?;
        let anchored = || {
            let text = format!("^(?s:{value})$");
            regex(&text, &format!("`{value}`")).map_err(|error| error.to_string())
        };
        let operation = match operation {
            "=" => Operation::Equal(value),
            "!=" => Operation::NotEqual(value),
            "=~" => Operation::Match(anchored()?),
            _ => Operation::NotMatch(anchored()?),
        };
        Ok(Matcher { name, operation })
    }

    fn name(&mut self) -> Result<String, String> {
        if let Some(quoted) = self.quoted()? {
            return Ok(quoted);
        }
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let rest = self.rest();
        let end = rest.find(|char| !is_part(char)).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().to_owned();
        if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
            return Err("the name of a label is missing".to_owned());
        }
        self.at += end;
        Ok(name)
    }

    /// A text in quotes, if one comes next.
    fn quoted(&mut self) -> Result<Option<String>, String> {
        self.skip_space();
        let Some(quote) = self.rest().chars().next().filter(|char| "\"'`".contains(*char)) else {
            return Ok(None);
        };
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(char) = self.rest().chars().next() else {
                return Err("a quote is not closed".to_owned());
            };
            self.at += char.len_utf8();
            match char {
                char if char == quote => return Ok(Some(text)),
                '\\' if quote != '`' => text.push(self.escaped()?),
                '\n' if quote != '`' => return Err("a line ends within quotes".to_owned()),
                char => text.push(char),
            }
        }
    }

    /// What a backslash and what follows it stand for, as in Go.
    fn escaped(&mut self) -> Result<char, String> {
        let Some(char) = self.rest().chars().next() else {
            return Err("a quote is not closed".to_owned());
        };
        self.at += char.len_utf8();
        let digits = match char {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'v' => return Ok('\u{b}'),
            '\\' | '"' | '\'' => return Ok(char),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(format!("`\\{char}` is not an escape")),
        };
        let hex = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let char = hex.and_then(char::from_u32).ok_or("an escape is not a character")?;
        self.at += digits;
        Ok(char)
    }
}
