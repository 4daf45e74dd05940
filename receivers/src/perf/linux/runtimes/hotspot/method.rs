//! HotSpot's methods: what tells one from another, their names and their lines.

use std::ops::Range;

use super::HotSpot;
use super::scopes::Numbers;
use crate::perf::linux::runtimes::function::{Function, Lines, MAX_NAME, clean};
use crate::perf::linux::runtimes::memory::{Memory, read_word};

/// The most bytes of a method's instructions.
const MAX_CODE: u64 = 1 << 16;
/// The most bytes of a method's table of lines.
const MAX_LINES: usize = 32 << 10;
/// The most entries of a table of constants.
const MAX_CONSTANTS: u64 = 1 << 16;
/// The largest of these structures.
const STRUCTURE: usize = 1032;
/// The bytes that are read of text at first.
const TEXT: usize = 128;

/// What is known of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method {
    /// What tells it from another that has its place later.
    pub(crate) cookie: u64,
    /// Where its instructions are; empty if it is native.
    pub(crate) code: Range<u64>,
    /// Its constants, its name among them, and whether lines come after the instructions.
    constants: u64,
    name: u64,
    has_lines: bool,
}

impl HotSpot {
    /// Reads a method; none if it is not one.
    pub(crate) fn read_method(&self, address: u64, memory: &mut dyn Memory) -> Option<Method> {
        let layout = &self.layout.method;
        if address < 4096 || !address.is_multiple_of(8) {
            return None;
        }
        let place = address.checked_add(layout.const_method.at.into())?;
        let constant = read_word(memory, place).filter(|it| *it != 0 && it.is_multiple_of(8))?;
        let mut bytes = [0; STRUCTURE];
        let bytes = bytes.get_mut(..layout.const_length as usize)?;
        if !memory.read(constant, bytes) {
            return None;
        }
        let (constants, name) = (layout.constants.get(bytes), layout.name_index.get(bytes));
        let code_size = layout.code_size.get(bytes);
        let has_lines = layout.flags.get(bytes) & layout.has_lines != 0;
        let mut pool = [0; STRUCTURE];
        let pool = pool.get_mut(..layout.pool_length as usize)?;
        if constants == 0 || code_size > MAX_CODE || !memory.read(constants, pool) {
            return None;
        }
        let entries = layout.pool_entries.get(pool);
        let holder = layout.pool_holder.get(pool);
        if name == 0 || name >= entries || entries > MAX_CONSTANTS || holder == 0 {
            return None;
        }
        let start = constant.checked_add(layout.const_length.into())?;
        let mut cookie = 0_u64;
        for part in [constant, constants, holder, name, code_size] {
            cookie = (cookie.rotate_left(23) ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        let code = start..start.checked_add(code_size)?;
        Some(Method { cookie, code, constants, name, has_lines })
    }

    /// Reads the name, the file and the lines of a method that still has the cookie when all is read.
    pub(super) fn describe_method(
        &self,
        address: u64,
        cookie: u64,
        memory: &mut dyn Memory,
    ) -> Option<Function> {
        let layout = &self.layout.method;
        let method = self.read_method(address, memory).filter(|it| it.cookie == cookie)?;
        let mut pool = [0; STRUCTURE];
        let pool = pool.get_mut(..layout.pool_length as usize)?;
        if !memory.read(method.constants, pool) {
            return None;
        }
        let holder = layout.pool_holder.get(pool);
        let class = read_word(memory, holder.checked_add(layout.class_name.at.into())?)?;
        let class = class_name(&self.text(class, memory)?);
        let name = self.constant(&method, method.name, memory)?;
        let source = layout.source_index.get(pool);
        let is_known = source != 0 && source < layout.pool_entries.get(pool);
        let file = is_known.then(|| self.constant(&method, source, memory)).flatten();
        let file = file.map_or_else(String::new, |file| match class.rsplit_once('/') {
            Some((package, _)) => format!("{package}/{file}"),
            None => file,
        });
        let lines = if method.has_lines { self.lines(&method, memory) } else { Box::default() };
        let function = Function {
            name: clean(&format!("{class}.{name}")),
            file: clean(&file),
            first_line: lines.iter().map(|(_, line)| *line).min().unwrap_or(0),
            lines: Lines::Starts(lines),
        };
        let is_same = self.read_method(address, memory).is_some_and(|it| it.cookie == cookie);
        is_same.then_some(function)
    }

    /// Text among the constants of a method.
    fn constant(&self, method: &Method, at: u64, memory: &mut dyn Memory) -> Option<String> {
        let entries = method.constants.checked_add(self.layout.method.pool_length.into())?;
        let text = read_word(memory, entries.checked_add(8 * at)?)?;
        self.text(text, memory)
    }

    /// The text of a symbol.
    fn text(&self, address: u64, memory: &mut dyn Memory) -> Option<String> {
        let layout = &self.layout.method;
        let length = layout.text_length;
        let mut head = [0; 16];
        let head = head.get_mut(..length.at as usize + usize::from(length.width))?;
        if address == 0 || !memory.read(address, head) {
            return None;
        }
        let length = (length.get(head) as usize).min(4 * MAX_NAME);
        let mut bytes = vec![0; length.max(TEXT)];
        bytes.truncate(length);
        let body = address.checked_add(layout.text_body.at.into())?;
        if !bytes.is_empty() && !memory.read(body, &mut bytes) {
            return None;
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// From which instruction on which line is run.
    fn lines(&self, method: &Method, memory: &mut dyn Memory) -> Box<[(u32, u32)]> {
        let mut bytes = Vec::new();
        // Its end is a mark in it, and nothing says where; it may be near the end of what is mapped.
        let mut piece = [0; 256];
        let mut lines = Vec::new();
        while bytes.len() < MAX_LINES {
            let from = method.code.end.wrapping_add(bytes.len() as u64);
            if memory.read(from, &mut piece) {
                bytes.extend(piece);
            } else {
                let Some(piece) = piece.get_mut(..8) else { break };
                if !memory.read(from, piece) {
                    break;
                }
                bytes.extend(&*piece);
            }
            if let Some(found) = line_starts(&bytes, self.layout.excludes_zero) {
                lines = found;
                break;
            }
        }
        lines.sort_unstable();
        lines.into()
    }
}

/// The table of lines in these bytes; none if they end before it does.
pub(crate) fn line_starts(bytes: &[u8], excludes_zero: bool) -> Option<Vec<(u32, u32)>> {
    let mut numbers = Numbers { bytes, excludes_zero };
    let (mut position, mut line) = (0_i32, 0_i32);
    let mut starts = Vec::new();
    loop {
        match numbers.byte()? {
            0 => return Some(starts),
            0xff => {
                position = position.wrapping_add(numbers.signed()?);
                line = line.wrapping_add(numbers.signed()?);
            }
            both => {
                position = position.wrapping_add(i32::from(both >> 3));
                line = line.wrapping_add(i32::from(both & 7));
            }
        }
        if let (Ok(position), Ok(line)) = (u32::try_from(position), u32::try_from(line)) {
            starts.push((position, line));
        }
    }
}

/// The name of a class as it is shown: what HotSpot adds to tell hidden classes apart is another in every
/// run.
pub(crate) fn class_name(name: &str) -> String {
    let name = name.split_once("+0x").map_or(name, |(name, _)| name);
    match name.split_once("$$Lambda$") {
        Some((outer, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{outer}$$Lambda")
        }
        _ => name.to_owned(),
    }
}
