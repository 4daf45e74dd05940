//! Whether a file is CPython, which version it is, and where it has what is needed.
//!
//! By what it exports and says of itself, never by its name: many programs have CPython in them.

use std::ops::Range;

use profpipe_host::content::Content;

use super::layout::{Layout, Version};
use super::{CPython, debug_offsets};
use crate::perf::linux::runtimes::memory::{Memory, half};
use crate::perf::linux::runtimes::symbols::{Symbol, Symbols};

/// The variable that every version since 3.7 exports.
const RUNTIME: &str = "_PyRuntime";
/// The native loop, and how its parts begin that compilers put elsewhere.
const LOOP: &[u8] = b"_PyEval_EvalFrameDefault";
/// The most parts.
const MAX_PARTS: usize = 16;

/// A file that is CPython, by its own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CPythonFile {
    runtime: Symbol,
    code_type: Symbol,
    text_type: Symbol,
    /// The number of its version, from 3.11 on.
    stated: Option<Symbol>,
    /// The version that it has by what it exports.
    exported: Option<Version>,
    loops: Vec<Symbol>,
}

/// A CPython whose layout is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) Version);

impl CPythonFile {
    /// Looks at a file; none if it is not CPython.
    pub(crate) fn read<C: Content + ?Sized>(content: &C) -> Option<Self> {
        let mut symbols = Symbols::exported(content, RUNTIME)?;
        let runtime = symbols.find(RUNTIME)?;
        let (code_type, text_type) =
            (symbols.find("PyCode_Type")?, symbols.find("PyUnicode_Type")?);
        let stated = symbols.find("Py_Version");
        // What a version exports and the one before did not.
        let exported = [("PyIter_Send", (3, 10)), ("PyFrame_GetCode", (3, 9))];
        let exported = exported.iter().find(|(name, _)| symbols.find(name).is_some());
        let oldest = || symbols.find("PyCode_NewWithPosOnlyArgs").map(|_| (3, 8));
        let exported = exported.map(|(_, version)| *version).or_else(oldest);
        symbols.add_local(content);
        let is_loop = |name: &[u8]| {
            name.strip_prefix(LOOP).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
        };
        let mut loops: Vec<_> =
            symbols.iter().filter(|(name, _)| is_loop(name)).map(|(_, symbol)| symbol).collect();
        loops.sort_unstable_by_key(|symbol| symbol.address);
        loops.dedup();
        loops.truncate(MAX_PARTS);
        Some(Self { runtime, code_type, text_type, stated, exported, loops })
    }

    /// CPython in a process that has the file so far from its own addresses; none if the process
    /// cannot be read.
    pub(crate) fn in_process(
        &self,
        bias: u64,
        memory: &mut dyn Memory,
    ) -> Option<Result<CPython, Unsupported>> {
        let at = |symbol: Symbol| symbol.address.wrapping_add(bias);
        let mut description = [0; debug_offsets::LENGTH];
        if !memory.read(at(self.runtime), &mut description) {
            return None;
        }
        let (version, layout) = match debug_offsets::read(&description) {
            Some(described) => described,
            None => {
                let version = match self.stated {
                    Some(stated) => {
                        let mut bytes = [0; 4];
                        if !memory.read(at(stated), &mut bytes) {
                            return None;
                        }
                        let number = half(&bytes, 0);
                        ((number >> 24) as u8, (number >> 16) as u8)
                    }
                    None => self.exported.unwrap_or((3, 7)),
                };
                (version, Layout::of(version))
            }
        };
        let Some(layout) = layout else { return Some(Err(Unsupported(version))) };
        Some(Ok(CPython {
            layout,
            runtime: at(self.runtime),
            code_type: at(self.code_type),
            text_type: at(self.text_type),
        }))
    }

    /// The addresses of the native loop in such a process.
    pub(crate) fn loops(&self, bias: u64) -> Vec<Range<u64>> {
        self.loops.iter().map(|symbol| symbol.range(bias)).filter(|it| !it.is_empty()).collect()
    }
}
