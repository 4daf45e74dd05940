//! Names of the running kernel and its modules, from `/proc/kallsyms`.
//!
//! The kernel prints zeros instead of addresses to whoever may not see them (`kptr_restrict`,
//! `CAP_SYSLOG`); then there are no names and the reason says so. Modules come and go: an address
//! without a symbol has the list read again, at most once a minute.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::overhead::Work;

use super::answer::{Frame, Reason, Resolution, ResolvedAddress};
use super::protocol::WireFunction;

/// How often the list may be read.
const REFRESH: Duration = Duration::from_secs(60);
/// The longest list that is read; a kernel with every debug option has about 20 MB.
const MAX_LIST: u64 = 256 << 20;
/// No function is longer: beyond, a symbol without a successor says nothing.
const MAX_FUNCTION: u64 = 4 << 20;

/// The symbols of the running kernel, read when first needed.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    symbols: Option<Symbols>,
    read_at: Option<Instant>,
}

impl Kernel {
    /// The answers for addresses in the kernel.
    pub(super) fn resolve(
        &mut self,
        addresses: &[u64],
        now: Instant,
        work: &mut Work,
    ) -> Vec<ResolvedAddress> {
        self.refresh(now, false, work);
        let unknown =
            |symbols: &Symbols| addresses.iter().any(|address| symbols.find(*address).is_none());
        if self.symbols.as_ref().is_some_and(unknown) {
            self.refresh(now, true, work);
        }
        let answers = addresses.iter().map(|address| {
            let reason = match &self.symbols {
                None => Reason::NotFound,
                Some(symbols) if symbols.hidden => Reason::KernelHidden,
                Some(symbols) => match symbols.find(*address) {
                    Some(symbol) => return symbol.known(*address),
                    None => Reason::NoSymbol,
                },
            };
            ResolvedAddress::only(*address, Resolution::Unnamed(reason))
        });
        answers.collect()
    }

    fn refresh(&mut self, now: Instant, again: bool, work: &mut Work) {
        let due = match self.read_at {
            None => true,
            Some(read_at) => again && now.saturating_duration_since(read_at) >= REFRESH,
        };
        if !due {
            return;
        }
        self.read_at = Some(now);
        let list = std::fs::File::open("/proc/kallsyms");
        // The kernel hands out a page at a time, whatever the buffer: a larger one saves nothing.
        let read = list.and_then(|list| {
            Symbols::read(BufReader::new(list.take(MAX_LIST)), &mut || work.breathe())
        });
        if let Ok(symbols) = read {
            self.symbols = Some(symbols);
        }
    }
}

/// The symbols by address.
#[derive(Debug)]
pub(crate) struct Symbols {
    /// (address, where the line's name starts and ends in `names`, true for code), ascending.
    rows: Vec<(u64, u32, u32, bool)>,
    names: String,
    hidden: bool,
}

/// A symbol of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbol<'a> {
    /// The function.
    pub(super) name: &'a str,
    /// The module with its brackets, empty for the kernel itself.
    pub(super) module: &'a str,
    /// The addresses that are in it.
    pub(super) range: Range<u64>,
}

impl Symbol<'_> {
    fn known(&self, address: u64) -> ResolvedAddress {
        let system_name = match self.module {
            "" => String::new(),
            module => format!("{} {module}", self.name),
        };
        let function = WireFunction { name: self.name.to_owned(), system_name, ..<_>::default() };
        let frame = Frame { function: Arc::new(function), line: 0, column: 0 };
        ResolvedAddress {
            address,
            same: self.range.clone(),
            answer: Resolution::Named([frame].into()),
        }
    }
}

impl Symbols {
    /// Reads the text of `/proc/kallsyms`: `address type name[\tmodule]` in each line. Line by
    /// line, because all of it is megabytes that are not needed twice.
    ///
    /// # Errors
    /// If it cannot be read to its end.
    pub(crate) fn read(mut list: impl BufRead, breathe: &mut dyn FnMut()) -> io::Result<Self> {
        let mut symbols = Self { rows: Vec::new(), names: String::new(), hidden: false };
        let mut line = Vec::new();
        let mut lines = 0_u64;
        while list.read_until(b'\n', &mut line)? > 0 {
            symbols.add(line.trim_ascii_end());
            line.clear();
            lines += 1;
            if lines.is_multiple_of(1024) {
                breathe();
            }
        }
        symbols.hidden = symbols.rows.iter().all(|row| row.0 == 0);
        // Code before data, and the first line of several: the order of the file is the kernel's.
        symbols.rows.sort_by_key(|row| (row.0, !row.3));
        symbols.rows.dedup_by_key(|row| row.0);
        symbols.rows.shrink_to_fit();
        symbols.names.shrink_to_fit();
        Ok(symbols)
    }

    /// Adds a line of the list; one that makes no sense is left out.
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let digits = line.iter().position(|byte| *byte == b' ').filter(|digits| *digits > 0)?;
        let (address, rest) = line.split_at_checked(digits)?;
        let [b' ', kind, b' ', name @ ..] = rest else { return None };
        let address = address.iter().try_fold(0_u64, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value.checked_mul(16)? | u64::from(digit))
        })?;
        // Data ends the function before it, and is kept only for that.
        let is_code = matches!(kind, b't' | b'T' | b'w' | b'W');
        let start = u32::try_from(self.names.len()).ok()?;
        if is_code {
            self.names.push_str(std::str::from_utf8(name).ok()?);
        }
        self.rows.push((address, start, u32::try_from(self.names.len()).ok()?, is_code));
        Some(())
    }

    /// The functions of the kernel itself, not of its modules: where each begins, where it ends, its name. None
    /// where addresses are hidden.
    pub(crate) fn of_kernel(&self) -> impl Iterator<Item = (u64, u64, &str)> {
        let rows = if self.hidden { &[][..] } else { &self.rows };
        rows.iter().enumerate().filter_map(move |(at, (start, from, to, is_code))| {
            let name = self.names.get(*from as usize..*to as usize).filter(|_| *is_code)?;
            let next = rows.get(at + 1).map_or(u64::MAX, |row| row.0);
            let end = next.min(start.saturating_add(MAX_FUNCTION));
            (*start > 0 && !name.contains('\t')).then_some((*start, end, name))
        })
    }

    /// The symbol that an address is in.
    pub(super) fn find(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.rows.partition_point(|row| row.0 <= address);
        let (start, from, to, is_code) = *self.rows.get(after.checked_sub(1)?)?;
        if !is_code || address - start >= MAX_FUNCTION {
            return None;
        }
        let line = self.names.get(from as usize..to as usize)?;
        let (name, module) = line.split_once('\t').unwrap_or((line, ""));
        let next = self.rows.get(after).map_or(u64::MAX, |row| row.0);
        let range = start..next.min(start.saturating_add(MAX_FUNCTION));
        Some(Symbol { name, module, range })
    }
}
