//! Which line of its file an instruction of CPython is on.
//!
//! The tables are CPython's own (`Objects/lnotab_notes.txt`, `InternalDocs/code_objects.md` there):
//! pairs of bytes up to 3.10, entries of variable length from 3.11 on.

/// The table of a function, as the process has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LineTable {
    /// How the bytes are to be read.
    pub(crate) form: LineForm,
    /// The bytes.
    pub(crate) bytes: Box<[u8]>,
}

/// The form of a table of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LineForm {
    /// Up to 3.9: steps in bytes of code and in lines.
    #[default]
    Lnotab,
    /// 3.10: the same, each step the length of a range and how its line differs from the one before.
    Linetable,
    /// From 3.11 on: entries of a byte and numbers of variable length.
    Locations,
}

impl LineTable {
    /// The line of an instruction, counted in code units of two bytes; none if the table does not
    /// say.
    pub(crate) fn line(&self, first: u32, position: u32) -> Option<u32> {
        let line = match self.form {
            LineForm::Lnotab => self.by_lnotab(first, position),
            LineForm::Linetable => self.by_linetable(first, position),
            LineForm::Locations => self.by_locations(first, position),
        };
        u32::try_from(line?).ok().filter(|line| *line > 0)
    }

    fn by_lnotab(&self, first: u32, position: u32) -> Option<i64> {
        let wanted = u64::from(position) * 2;
        let (mut at, mut line) = (0_u64, i64::from(first));
        for [code, lines] in self.bytes.as_chunks::<2>().0 {
            at += u64::from(*code);
            if at > wanted {
                break;
            }
            line += i64::from(lines.cast_signed());
        }
        Some(line)
    }

    fn by_linetable(&self, first: u32, position: u32) -> Option<i64> {
        let wanted = u64::from(position) * 2;
        let (mut end, mut line) = (0_u64, i64::from(first));
        for [code, lines] in self.bytes.as_chunks::<2>().0 {
            end += u64::from(*code);
            let difference = lines.cast_signed();
            // The smallest number says that there is no line, and changes none.
            let is_none = difference == i8::MIN;
            if !is_none {
                line += i64::from(difference);
            }
            if wanted < end {
                return (!is_none).then_some(line);
            }
        }
        None
    }

    fn by_locations(&self, first: u32, position: u32) -> Option<i64> {
        let mut rest = &*self.bytes;
        let (mut end, mut line) = (0_u64, i64::from(first));
        while let Some((head, after)) = rest.split_first() {
            rest = after;
            let kind = head >> 3 & 15;
            end += u64::from(head & 7) + 1;
            let mut has_line = true;
            match kind {
                0..=9 => rest = rest.get(1..)?,
                10..=12 => {
                    line += i64::from(kind) - 10;
                    rest = rest.get(2..)?;
                }
                13 => line += signed(&mut rest)?,
                14 => {
                    line += signed(&mut rest)?;
                    for _ in 0..3 {
                        unsigned(&mut rest)?;
                    }
                }
                _ => has_line = false,
            }
            if u64::from(position) < end {
                return has_line.then_some(line);
            }
        }
        None
    }
}

/// A number of six bits a byte, lowest first.
fn unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..60).step_by(6) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The same with the sign in the lowest bit.
fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = unsigned(bytes)?;
    let size = (value >> 1).cast_signed();
    Some(if value & 1 != 0 { -size } else { size })
}
