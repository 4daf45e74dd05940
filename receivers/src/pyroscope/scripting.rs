//! Names of functions of scripting languages: Pyroscope shows the file before the name of a function, for
//! agents that say by `spyName` that they profile one.

use profpipe_profile::{Dictionary, Functions};

/// Whether names of functions begin with their file for this agent.
pub(super) fn has_files_in_names(spy: &str) -> bool {
    matches!(spy, "pyspy" | "rbspy" | "scripting")
}

/// How many bytes the names will have that [`put_files_in_names`] makes.
pub(super) fn bytes_of_names(dictionary: &Dictionary, spy: &str) -> u64 {
    let strings = &dictionary.strings;
    let of = |row: &profpipe_profile::Function| {
        let (file, name) = (strings.get(row.filename), strings.get(row.name));
        if stays(file, spy) { 0 } else { (file.len() + name.len() + 1) as u64 }
    };
    dictionary.functions.rows().iter().skip(1).map(of).sum()
}

/// Puts the file of each function before its name, but for py-spy's with an absolute path, as Pyroscope
/// does.
pub(super) fn put_files_in_names(dictionary: &mut Dictionary, spy: &str) {
    let mut functions = Functions::default();
    functions.reserve(dictionary.functions.len());
    for mut row in dictionary.functions.rows().iter().skip(1).copied() {
        let file = dictionary.strings.get(row.filename);
        if !stays(file, spy) {
            let name = format!("{file} {}", dictionary.strings.get(row.name));
            row.name = dictionary.strings.intern(&name);
        }
        functions.push(row);
    }
    dictionary.functions = functions;
}

fn stays(file: &str, spy: &str) -> bool {
    spy == "pyspy" && file.starts_with('/')
}
