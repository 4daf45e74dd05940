//! The parameters of a request's address.

use std::collections::BTreeMap;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use profpipe_store::{Matchers, QueryError, Selection, TypeId};

/// The most parameters of one request.
const MAX_PARAMETERS: usize = 256;

/// Parameters by name; of one that is given several times the first counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(BTreeMap<String, Vec<String>>);

/// A parameter that makes no sense.
pub(crate) fn invalid(name: &str, value: &str, what: &str) -> QueryError {
    let value: String = value.chars().take(100).collect();
    QueryError::Invalid(format!("{name}: `{value}` is not {what}"))
}

impl Parameters {
    /// Reads what stands behind the `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if number == MAX_PARAMETERS {
                return Err(QueryError::Invalid(format!("more than {MAX_PARAMETERS} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| {
                let spaced = text.replace('+', " ");
                let decoded = percent_decode_str(&spaced).decode_utf8().map(String::from);
                decoded.map_err(|_| invalid("a parameter", text, "UTF-8"))
            };
            parameters.entry(decoded(name)?).or_default().push(decoded(value)?);
        }
        Ok(Self(parameters))
    }

    /// A parameter; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A parameter that is there and not empty.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A number, if there is one.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, QueryError> {
        let number =
            self.some(name).map(|text| text.parse().map_err(|_| invalid(name, text, "a number")));
        number.transpose()
    }

    /// Whether a switch is set.
    pub(crate) fn is_set(&self, name: &str) -> Result<bool, QueryError> {
        match self.text(name) {
            "" | "0" | "false" => Ok(false),
            "1" | "true" => Ok(true),
            other => Err(invalid(name, other, "0 or 1")),
        }
    }

    /// The selection that they say.
    pub(crate) fn selection(&self) -> Result<Selection, QueryError> {
        let mut selection = Selection {
            profile_type: self.some("type").map(TypeId::parse).transpose()?,
            matchers: Matchers::parse(self.text("query"))?,
            from: self.number("from")?,
            until: self.number("until")?,
            files: self.files("files")?,
            ..Selection::default()
        };
        selection.focus(self.text("focus"))?;
        selection.hide(self.text("hide"))?;
        for fold in self.text("fold").split(',').filter(|fold| !fold.is_empty()) {
            match fold {
                "recursion" => selection.folds_recursion = true,
                "libraries" => selection.folds_libraries = true,
                other => return Err(invalid("fold", other, "recursion or libraries")),
            }
        }
        if let Some(wait) = self.some("wait") {
            selection.wait(wait);
        }
        Ok(selection)
    }

    /// The other side of a comparison: the same but for what `base_…` says; without any of them everything
    /// of the type.
    pub(crate) fn base_selection(&self) -> Result<Selection, QueryError> {
        Ok(Selection {
            matchers: Matchers::parse(self.text("base_query"))?,
            from: self.number("base_from")?,
            until: self.number("base_until")?,
            files: self.files("base_files")?,
            ..self.selection()?
        })
    }

    /// Numbers of files with commas.
    fn files(&self, name: &str) -> Result<Option<Vec<u32>>, QueryError> {
        let Some(text) = self.some(name) else { return Ok(None) };
        let numbers = text.split(',').map(|one| one.trim().parse());
        let numbers: Result<Vec<u32>, _> = numbers.collect();
        numbers.map(Some).map_err(|_| invalid(name, text, "numbers of files with commas between"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Scenario: query strings, well formed and hostile.
    /// Guarantees: they are decoded as forms are, and what is not a value is an error in one line.
    #[test]
    fn query_strings_are_read() {
        let read = Parameters::parse("a=1&a=2&b=x+y%2Bz&c&=d&%E4%BD=1").map(|_| ());
        assert!(read.is_err());
        let read = Parameters::parse("a=1&a=2&b=x+y%2Bz&c&=d").unwrap();
        assert_eq!((read.text("a"), read.text("b"), read.text("c")), ("1", "x y+z", ""));
        assert_eq!(read.all("a").len(), 2);
        for query in [
            "from=x",
            "until=1e9",
            "type=cpu",
            "query={",
            "focus=(",
            "hide=[",
            "fold=x",
            "files=1,x",
            "files=-1",
            "from=99999999999999999999",
            "query=%7Ba=~%22(%22%7D",
        ] {
            let error = Parameters::parse(query).and_then(|it| it.selection()).unwrap_err();
            assert!(!error.to_string().contains('\n'), "{query}: {error}");
        }
        assert!(Parameters::parse(&"a&".repeat(MAX_PARAMETERS + 1)).is_err());
        let selection =
            Parameters::parse("from=1&until=2&fold=recursion,libraries&files=0,2&wait=lock")
                .and_then(|it| it.selection())
                .unwrap();
        assert_eq!((selection.from, selection.until), (Some(1), Some(2)));
        assert_eq!(selection.files, Some(vec![0, 2]));
        assert!(selection.folds_libraries && selection.matchers.0.len() == 1);
    }
}
