//! The mappings, functions and locations of a file.

use super::ids::Ids;
use super::{Reader, each, malformed, within};
use crate::pprof::DecodeError;
use crate::pprof::wire::{Payload, WireError};
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, PPROF_IS_FOLDED,
};
use profpipe_profile::{Function, FunctionIx, Index, Line, LocationRef, MappingIx, MappingRef};

impl Reader {
    pub(super) fn mappings(&mut self, message: &[u8]) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("mapping");
        each(message, 3, "mapping", |at, mut fields| {
            let wire = within("mapping", at);
            let (mut id, mut row) = (0, MappingRef::default());
            let (mut filename, mut build_id, mut flags) = (0, 0, [false; 4]);
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => row.memory_start = payload.uint().map_err(&wire)?,
                    3 => row.memory_limit = payload.uint().map_err(&wire)?,
                    4 => row.file_offset = payload.uint().map_err(&wire)?,
                    5 => filename = payload.int().map_err(&wire)?,
                    6 => build_id = payload.int().map_err(&wire)?,
                    7 => flags[0] = payload.truth().map_err(&wire)?,
                    8 => flags[1] = payload.truth().map_err(&wire)?,
                    9 => flags[2] = payload.truth().map_err(&wire)?,
                    10 => flags[3] = payload.truth().map_err(&wire)?,
                    _ => {}
                }
            }
            row.filename = self.header.string(filename)?;
            let build_id = self.header.string(build_id)?;
            let mut attributes = Vec::new();
            if !build_id.is_none() {
                let text = self.text(build_id)?;
                let name = if text.contains('/') { BUILD_ID_GO } else { BUILD_ID_GNU };
                attributes.push(self.attribute(name, text.into()));
            }
            let names = [
                PPROF_HAS_FUNCTIONS,
                PPROF_HAS_FILENAMES,
                PPROF_HAS_LINE_NUMBERS,
                PPROF_HAS_INLINE_FRAMES,
            ];
            for (name, _) in names.iter().zip(flags).filter(|(_, flag)| *flag) {
                attributes.push(self.attribute(name, true.into()));
            }
            row.attributes = &attributes;
            // Not interned: the order of a file's mappings, and so their number, has a meaning.
            ids.insert(id, self.dictionary.mappings.push(row).raw())
        })?;
        Ok(ids)
    }

    pub(super) fn functions(&mut self, message: &[u8]) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("function");
        each(message, 5, "function", |at, mut fields| {
            let wire = within("function", at);
            let (mut id, mut name, mut system_name, mut filename, mut start_line) = (0, 0, 0, 0, 0);
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => name = payload.int().map_err(&wire)?,
                    3 => system_name = payload.int().map_err(&wire)?,
                    4 => filename = payload.int().map_err(&wire)?,
                    5 => start_line = payload.int().map_err(&wire)?,
                    _ => {}
                }
            }
            let row = self.dictionary.functions.intern(Function {
                name: self.header.string(name)?,
                system_name: self.header.string(system_name)?,
                filename: self.header.string(filename)?,
                start_line,
            });
            ids.insert(id, row.raw())
        })?;
        Ok(ids)
    }

    pub(super) fn locations(
        &mut self,
        message: &[u8],
        mappings: &Ids,
        functions: &Ids,
    ) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("location");
        let mut lines = Vec::new();
        each(message, 4, "location", |at, mut fields| {
            let wire = within("location", at);
            let (mut id, mut mapping, mut address, mut is_folded) = (0, 0, 0, false);
            lines.clear();
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => mapping = payload.uint().map_err(&wire)?,
                    3 => address = payload.uint().map_err(&wire)?,
                    4 => {
                        let (function, line, column) = line(payload).map_err(&wire)?;
                        let function = functions.get(function).map(FunctionIx::new);
                        let function = function.ok_or_else(|| {
                            malformed(format!("location {at} has a line without a function"))
                        })?;
                        lines.push(Line { function, line, column });
                    }
                    5 => is_folded = payload.truth().map_err(&wire)?,
                    _ => {}
                }
            }
            let folded = is_folded.then(|| self.attribute(PPROF_IS_FOLDED, true.into()));
            let row = self.dictionary.locations.intern(LocationRef {
                mapping: mappings.get(mapping).map_or(MappingIx::NONE, MappingIx::new),
                address,
                lines: &lines,
                attributes: folded.as_slice(),
            });
            ids.insert(id, row.raw())
        })?;
        Ok(ids)
    }
}

fn line(payload: Payload<'_>) -> Result<(u64, i64, i64), WireError> {
    let mut fields = payload.message()?;
    let (mut function, mut line, mut column) = (0, 0, 0);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => function = payload.uint()?,
            2 => line = payload.int()?,
            3 => column = payload.int()?,
            _ => {}
        }
    }
    Ok((function, line, column))
}
