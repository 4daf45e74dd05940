//! A mistake of older agents for .NET: all functions of their pprof profiles have the id 0.
//!
//! They write a function for each location, in the same order, and their lines name functions by the
//! ids of the locations. Pyroscope reads such files so, and so does this.

use profpipe_formats::pprof::Writer;

use super::push::{Fields, Malformed};

const LOCATION: u64 = 4;
const FUNCTION: u64 = 5;
/// The id of a location and of a function.
const ID: u64 = 1;

/// A profile with ids for its functions; `None` if it has not that mistake.
pub(super) fn with_function_ids(profile: &[u8]) -> Option<Vec<u8>> {
    // What cannot be read has its own message where it is decoded.
    let ids = location_ids(profile).ok().flatten()?;
    let mut repaired = Writer(Vec::with_capacity(profile.len() + ids.len() * 4));
    let mut ids = ids.into_iter();
    let mut fields = Fields::new(profile);
    loop {
        let rest = fields.rest();
        let Some((field, payload)) = fields.next().ok()? else { return Some(repaired.0) };
        if field == FUNCTION {
            let (content, id) = (payload.bytes().ok()?, ids.next()?);
            repaired.message(FUNCTION, |function| {
                function.0.extend_from_slice(content);
                function.uint(ID, id);
            });
        } else {
            let length = rest.len() - fields.rest().len();
            repaired.0.extend_from_slice(rest.get(..length)?);
        }
    }
}

/// The ids of the locations, if there are as many functions and none of these has an id.
fn location_ids(profile: &[u8]) -> Result<Option<Vec<u64>>, Malformed> {
    let (mut ids, mut functions) = (Vec::new(), 0);
    let mut fields = Fields::new(profile);
    while let Some((field, payload)) = fields.next()? {
        if field != LOCATION && field != FUNCTION {
            continue;
        }
        let mut id = 0;
        let mut inner = payload.message()?;
        while let Some((number, payload)) = inner.next()? {
            if number == ID {
                id = payload.number()?;
            }
        }
        match field {
            LOCATION => ids.push(id),
            _ if id == 0 => functions += 1,
            _ => return Ok(None),
        }
    }
    Ok((functions > 0 && functions == ids.len()).then_some(ids))
}
