//! Functions of Go by their names, from the table that every Go program has, stripped or not.

use profpipe_host::gopclntab::{Header, Version};

/// The most functions of a program.
const MAX_FUNCTIONS: usize = 1 << 21;

/// The address and size of the functions of a name in a `.gopclntab`, whose program has its code of Go at
/// `text` where the table does not say.
pub(super) fn find(table: &[u8], text: Option<u64>, wanted: &str) -> Vec<(u64, u64)> {
    let Some(header) = Header::parse(table) else { return Vec::new() };
    let is_relative = header.version >= Version::Go118;
    let base = match is_relative {
        true => header.text_start.or(text),
        false => Some(0),
    };
    let Some(base) = base else { return Vec::new() };
    let name = |record: u64| -> Option<&[u8]> {
        let record = header.record(table, record)?;
        let at = usize::try_from(header.field(record, 1)?).ok()?;
        table.get(header.names.checked_add(at)?..)?.split(|byte| *byte == 0).next()
    };
    let mut found = Vec::new();
    for number in 0..header.functions.min(MAX_FUNCTIONS) {
        let Some((start, record)) = header.row(table, number) else { break };
        let Some((end, _)) = header.row(table, number + 1) else { break };
        if end > start && name(record) == Some(wanted.as_bytes()) {
            found.push((base.wrapping_add(start), end - start));
        }
    }
    found
}
