//! Which first-level modules of a crate import each other, read from the sources by a parser.
//!
//! A module of the first level is `src/name.rs` or the folder `src/name/` with everything in it. It
//! imports another where a path in it leads there: in a `use`, in code, in what is given to a macro.
//! Names that the root of the crate re-exports lead to the module that they come from. Tests are left
//! out: they may look at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A source file: its path below `src`, and its text.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
}

/// Where a module imports another: file, line and the path that is written there.
type Places = Vec<String>;

/// The imports between first-level modules.
type Imports = BTreeMap<(String, String), Places>;

/// Every circle of first-level modules, with the lines that make it.
pub(crate) fn cycles(sources: &[Source<'_>]) -> Vec<String> {
    let imports = imports(sources);
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        next.entry(from).or_default().insert(to);
    }
    let mut found = BTreeMap::new();
    for start in next.keys() {
        // The shortest way back to where it began.
        let mut paths = vec![vec![*start]];
        let mut seen = BTreeSet::new();
        while let Some(path) = (!paths.is_empty()).then(|| paths.remove(0)) {
            let last = path.last().copied().unwrap_or_default();
            for to in next.get(last).into_iter().flatten() {
                if to == start {
                    let mut members = path.clone();
                    members.sort_unstable();
                    found.entry(members).or_insert_with(|| describe(&path, &imports));
                    paths.clear();
                    break;
                }
                if seen.insert(*to) {
                    paths.push(path.iter().copied().chain([*to]).collect());
                }
            }
        }
    }
    found.into_values().collect()
}

fn describe(path: &[&str], imports: &Imports) -> String {
    let mut text = format!("{} → {}", path.join(" → "), path[0]);
    for (at, from) in path.iter().enumerate() {
        let to = path[(at + 1) % path.len()];
        for place in &imports[&((*from).to_owned(), to.to_owned())] {
            text.push_str(&format!("\n    {place}"));
        }
    }
    text
}

fn imports(sources: &[Source<'_>]) -> Imports {
    let is_root = |path: &str| path == "lib.rs" || path == "main.rs";
    let modules: BTreeSet<String> = sources
        .iter()
        .filter(|source| !is_root(source.path))
        .map(|source| first_level(source.path))
        .collect();
    // What the root re-exports, by name.
    let mut roots: BTreeMap<String, String> = BTreeMap::new();
    for source in sources.iter().filter(|source| is_root(source.path)) {
        let file = syn::parse_file(source.text).unwrap();
        for item in &file.items {
            if let syn::Item::Use(item) = item {
                for path in leaves(&item.tree) {
                    let mut names =
                        path.iter().skip_while(|name| *name == "self" || *name == "crate");
                    if let (Some(module), Some(name)) = (names.next(), path.last())
                        && modules.contains(module)
                    {
                        roots.insert(name.clone(), module.clone());
                    }
                }
            }
        }
    }
    let mut imports = Imports::new();
    for source in sources.iter().filter(|source| !is_root(source.path) && !is_test(source.path)) {
        let file = syn::parse_file(source.text).unwrap();
        let mut reader = Reader {
            file: source.path,
            place: place(source.path),
            modules: &modules,
            roots: &roots,
            imports: &mut imports,
        };
        reader.visit_file(&file);
    }
    imports
}

/// The first-level module of a file.
fn first_level(path: &str) -> String {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// The module that a file is, from the root.
fn place(path: &str) -> Vec<String> {
    let path = Path::new(path).with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// Every path that a `use` brings in.
fn leaves(tree: &syn::UseTree) -> Vec<Vec<String>> {
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree)
            .into_iter()
            .map(|rest| [path.ident.to_string()].into_iter().chain(rest).collect())
            .collect(),
        syn::UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        syn::UseTree::Rename(name) => vec![vec![name.ident.to_string()]],
        syn::UseTree::Glob(_) => vec![vec!["*".to_owned()]],
        syn::UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Reads the imports of one file.
struct Reader<'a> {
    file: &'a str,
    /// The module it is in.
    place: Vec<String>,
    modules: &'a BTreeSet<String>,
    roots: &'a BTreeMap<String, String>,
    imports: &'a mut Imports,
}

impl Reader<'_> {
    /// Notes where a path leads, if that is another first-level module.
    fn note(&mut self, path: &[String], line: usize) {
        let mut at = self.place.clone();
        let mut names = path.iter().peekable();
        match names.peek().map(|name| name.as_str()) {
            Some("crate") => {
                names.next();
                at.clear();
            }
            Some("self") => {
                names.next();
            }
            Some("super") => {
                while names.next_if(|name| *name == "super").is_some() {
                    at.pop();
                }
            }
            // A name of this module, or another crate.
            _ => return,
        }
        // A path that stays below the first level leads into the same module.
        let Some(name) = at.first().or_else(|| names.next()) else { return };
        let from = self.place.first().cloned().unwrap_or_default();
        let to = if self.modules.contains(name) { Some(name) } else { self.roots.get(name) };
        if let Some(to) = to.filter(|to| **to != from) {
            let place = format!("src/{}:{line}: {}", self.file, path.join("::"));
            self.imports.entry((from, to.clone())).or_default().push(place);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    line = if path.is_empty() { ident.span().start().line } else { line };
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.note(&std::mem::take(&mut path), line);
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => {
                            line = ident.span().start().line;
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.note(&path, line);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for path in leaves(&item.tree) {
            self.note(&path, item.span().start().line);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.note(&names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
        });
        if !is_test && item.content.is_some() {
            self.place.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.place.pop();
        }
    }
}
