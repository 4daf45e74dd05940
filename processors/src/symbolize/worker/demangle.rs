//! Names as people write them, bounded in depth and length.

use std::fmt::{self, Write as _};

use super::super::protocol::{Language, MAX_NAME, WireFunction};

/// Longer names are not demangled: the time it takes is not linear.
const MAX_MANGLED: usize = 16 << 10;
/// How deep a C++ name may nest.
const MAX_DEPTH: u32 = 96;

/// A function with the name that a binary has for it.
pub(super) fn function(system_name: &[u8], file: &str, is_go: bool) -> WireFunction {
    let raw = String::from_utf8_lossy(system_name);
    let (name, language) = if is_go { (None, Language::Go) } else { demangle(&raw) };
    let (name, system_name) = match name {
        Some(name) => (name, cut(&raw)),
        None => (cut(&raw), String::new()),
    };
    WireFunction { name, system_name, file: cut(file), start_line: 0, language }
}

/// The name for people, if it is another than the one in the binary.
pub(super) fn demangle(raw: &str) -> (Option<String>, Language) {
    if raw.len() > MAX_MANGLED {
        return (None, Language::Native);
    }
    if let Ok(rust) = rustc_demangle::try_demangle(raw) {
        // Without the hash that the compiler appends.
        return (write(format_args!("{rust:#}")), Language::Rust);
    }
    if raw.starts_with("_Z") || raw.starts_with("___Z") {
        let options = cpp_demangle::ParseOptions::default().recursion_limit(MAX_DEPTH);
        let Ok(symbol) =
            cpp_demangle::BorrowedSymbol::with_tail_and_options(raw.as_bytes(), &options)
        else {
            return (None, Language::Native);
        };
        let (symbol, tail) = symbol;
        let options = cpp_demangle::DemangleOptions::new().recursion_limit(MAX_DEPTH);
        let mut text = Bounded::default();
        let done = symbol.structured_demangle(&mut text, &options).is_ok() || text.full;
        let done = done && text.write_str(&String::from_utf8_lossy(tail)).is_ok() || text.full;
        return (done.then_some(text.text), Language::Native);
    }
    (None, Language::Native)
}

/// A text cut to what may travel.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn write(arguments: fmt::Arguments<'_>) -> Option<String> {
    let mut text = Bounded::default();
    let done = text.write_fmt(arguments).is_ok();
    (done || text.full).then_some(text.text)
}

/// A text that stops growing at [`MAX_NAME`].
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > MAX_NAME {
            self.full = true;
            let left = cut_at(part, MAX_NAME - self.text.len());
            self.text.push_str(left);
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

fn cut_at(text: &str, mut end: usize) -> &str {
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
