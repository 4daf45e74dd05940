//! The string table of a file that is being written.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::pprof::wire::Writer;

/// The texts of a file, in order of their first use; number 0 is the empty text.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: Vec<String>,
    numbers: HashMap<String, u64, RandomState>,
    /// A second empty text, for labels whose text is empty: text 0 means that there is none.
    empty_label: Option<u64>,
}

impl Texts {
    /// The number of a text.
    pub(super) fn number(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// The number of the text of a label, never 0.
    pub(super) fn label_number(&mut self, text: &str) -> u64 {
        if !text.is_empty() {
            return self.number(text);
        }
        *self.empty_label.get_or_insert_with(|| {
            self.texts.push(String::new());
            self.texts.len() as u64
        })
    }

    /// Writes the table.
    pub(super) fn write(&self, output: &mut Writer) {
        output.bytes(6, b"");
        for text in &self.texts {
            output.bytes(6, text.as_bytes());
        }
    }
}
