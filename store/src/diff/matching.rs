//! Which functions of two builds are the same one: those of one module, whatever its version, and of one
//! name, whatever compilers and linkers add to it.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::table::Table;

/// What stands for all functions of a module that have no name: addresses of two builds are not the same.
const UNNAMED: &str = "[no name]";
/// What compilers add to the names of parts of a function, or of versions of it.
const SUFFIXES: [&str; 8] =
    [".llvm.", ".constprop.", ".isra.", ".part.", ".lto_priv.", ".cold", ".specialized.", ".warm"];

/// For every function of the table the first one that is the same.
pub(super) fn representatives(table: &Table) -> Vec<u32> {
    let mut known: HashMap<(Cow<'_, str>, &str), u32, RandomState> = HashMap::default();
    let mut of = Vec::with_capacity(table.functions.len());
    for (number, function) in (0_u32..).zip(&table.functions) {
        let name = match function.is_unnamed {
            true => Cow::Borrowed(UNNAMED),
            false => name(&function.name),
        };
        of.push(*known.entry((name, module(&function.module))).or_insert(number));
    }
    of
}

impl Table {
    /// What a function of a compared tree is called in the rows of the comparison, and its module.
    pub fn compared_name(&self, function: u32) -> (Cow<'_, str>, &str) {
        (shown(self, function), &self.function(function).module)
    }
}

/// What a function is called in a comparison.
pub(super) fn shown(table: &Table, function: u32) -> Cow<'_, str> {
    let function = table.function(function);
    match function.is_unnamed {
        true => Cow::Borrowed(UNNAMED),
        false => name(&function.name),
    }
}

/// A name without what differs between builds.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    let mut end = name.len();
    for suffix in SUFFIXES {
        if let Some(at) = name.get(..end).and_then(|name| name.find(suffix)).filter(|at| *at > 0) {
            end = at;
        }
    }
    let name = name.get(..end).unwrap_or(name);
    let is_hash = |text: &str| {
        text.len() == 17
            && text.starts_with('h')
            && text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit())
    };
    match name.rsplit_once("::") {
        Some((plain, hash)) if is_hash(hash) => Cow::Borrowed(plain),
        _ => Cow::Borrowed(name),
    }
}

/// A module without its version: `libc.so.6` and `libc-2.31.so` are `libc`, `app-1.4.2` is `app`.
pub(crate) fn module(module: &str) -> &str {
    let module = module.find(".so").map_or(module, |at| module.get(..at).unwrap_or(module));
    let is_version = |text: &str| {
        let text = text.strip_prefix('v').unwrap_or(text);
        text.starts_with(|char: char| char.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && text.contains('.')
    };
    match module.rsplit_once(['-', '_']) {
        Some((plain, version)) if !plain.is_empty() && is_version(version) => plain,
        _ => module,
    }
}
