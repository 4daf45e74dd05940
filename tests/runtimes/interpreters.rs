//! The interpreters that this machine has: those on the path, and those of pyenv.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An interpreter.
#[derive(Debug, Clone)]
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    /// Its version and where it is.
    pub(crate) name: String,
}

impl Interpreter {
    /// Whether it lies where every user may go.
    pub(crate) fn is_for_everybody(&self) -> bool {
        let may_go = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 1 != 0)
        };
        self.path.ancestors().all(may_go)
    }
}

/// Every CPython of a version that is supported, oldest first.
pub(crate) fn pythons() -> Vec<Interpreter> {
    let mut candidates: Vec<PathBuf> =
        (8..=13).map(|minor| format!("/usr/bin/python3.{minor}").into()).collect();
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    if let Some(root) = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home) {
        let versions = std::fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        candidates.extend(versions.map(|version| version.path().join("bin/python3")));
    }
    let mut found: Vec<_> = candidates.iter().filter_map(|path| supported(path)).collect();
    found.sort_by_key(|(version, _)| *version);
    found.into_iter().map(|(_, python)| python).collect()
}

fn supported(path: &Path) -> Option<((u32, u32), Interpreter)> {
    let what = "import sys; print(sys.implementation.name, *sys.version_info[:2])";
    let output = Command::new(path).args(["-c", what]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.split_whitespace();
    let (name, major, minor) = (words.next()?, words.next()?, words.next()?);
    let version = (major.parse().ok()?, minor.parse().ok()?);
    let is_supported = name == "cpython" && ((3, 8)..=(3, 13)).contains(&version);
    let name = format!("CPython {major}.{minor} ({})", path.display());
    is_supported.then(|| (version, Interpreter { path: path.into(), name }))
}
