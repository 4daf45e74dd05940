//! Dead letters: records that a destination never takes, kept as files for people.
//!
//! `dead/<destination>/<number>.otlp` is the request, and `.json` beside it says whose it was, why
//! it is here and since when. A record is finished only once its letter is on disk; while it cannot
//! be written, the record stays in the log. Each folder is bounded: the oldest letters make room.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reader::Leased;
use super::writer::Writer;
use super::{Journal, now};
use crate::format::destination_name;
use crate::state::End;
use crate::storage::{Access, Storage, read_all};

/// The folder of dead letters.
pub(crate) const DEAD: &str = "dead";
/// The longest description that is read.
const LETTER_BYTES: u64 = 1 << 20;

/// What is written beside a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The destination that did not take it.
    pub destination: String,
    /// Why.
    pub reason: String,
    /// When it became a dead letter, in nanoseconds since 1970.
    pub dead_time_unix_nano: u64,
    /// When it was accepted, in nanoseconds since 1970.
    pub enqueued_time_unix_nano: u64,
    /// The receiver that it came through.
    pub receiver: String,
    /// Whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How many samples it holds.
    pub samples: u64,
    /// The length of the request in bytes.
    pub bytes: u64,
    /// The CRC-32 of the request.
    pub crc32: u32,
}

/// The folders of dead letters, as far as they have been looked at: sizes by number.
#[derive(Debug, Default)]
pub(crate) struct Folders(BTreeMap<String, BTreeMap<u64, u64>>);

impl Journal {
    /// Writes what has been given up to the dead letters.
    pub(crate) fn bury(&self, writer: &mut Writer) {
        let dying: Vec<_> = {
            let state = self.state();
            let all = state.readers.iter().enumerate().flat_map(|(index, reader)| {
                let dying = reader.open.iter().filter_map(move |(seq, open)| {
                    Some((index, *seq, (open.segment, open.offset), open.dying.clone()?))
                });
                dying.map(|(index, seq, place, why)| {
                    (index, Arc::clone(&reader.id), seq, place, why)
                })
            });
            all.collect()
        };
        for (index, id, seq, place, reason) in dying {
            match self.again(seq, place) {
                Ok(Some(leased)) => {
                    if let Err(error) = self.write_letter(writer, &id, &leased, &reason) {
                        self.trouble(format!("cannot write a dead letter of {id}: {error}"));
                        return;
                    }
                    self.state().finish(index, seq, End::Dead);
                }
                Ok(None) => {
                    self.state().finish(index, seq, End::Lost);
                }
                Err(error) => {
                    self.trouble(format!("cannot read a dead letter of {id}: {error}"));
                    return;
                }
            }
        }
    }

    fn write_letter(
        &self,
        writer: &mut Writer,
        id: &str,
        leased: &Leased,
        reason: &str,
    ) -> io::Result<()> {
        let record = &leased.record;
        let enqueued = leased.enqueued.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let letter = Letter {
            destination: id.to_owned(),
            reason: reason.to_owned(),
            dead_time_unix_nano: now(),
            enqueued_time_unix_nano: u64::try_from(enqueued.as_nanos()).unwrap_or(u64::MAX),
            receiver: record.receiver.to_string(),
            tenant: record.tenant.as_ref().map(ToString::to_string),
            samples: record.samples,
            bytes: record.payload.len() as u64,
            crc32: crc32fast::hash(&record.payload),
        };
        let folder = format!("{DEAD}/{}", destination_name(id));
        let text = serde_json::to_vec_pretty(&letter).map_err(io::Error::other)?;
        let size = (text.len() + record.payload.len()) as u64;
        let sizes = match writer.dead.0.entry(folder.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                self.storage.make_folder(DEAD)?;
                self.storage.make_folder(&folder)?;
                self.storage.sync_folder("")?;
                self.storage.sync_folder(DEAD)?;
                new.insert(sizes(&*self.storage, &folder)?)
            }
        };
        let mut used: u64 = sizes.values().sum();
        while used + size > self.settings.dead_bytes {
            let Some((oldest, bytes)) = sizes.pop_first() else { break };
            remove_letter(&*self.storage, &folder, oldest)?;
            used -= bytes;
            self.state().counts.dropped_letters += 1;
        }
        let seq = leased.seq;
        remove_letter(&*self.storage, &folder, seq)?;
        for (kind, bytes) in [("json", &text[..]), ("otlp", &record.payload[..])] {
            let file = self.storage.create(&letter_name(&folder, seq, kind))?;
            file.write_at(0, &[bytes])?;
            file.sync()?;
        }
        self.storage.sync_folder(&folder)?;
        sizes.insert(seq, size);
        Ok(())
    }
}

fn letter_name(folder: &str, seq: u64, kind: &str) -> String {
    format!("{folder}/{seq:020}.{kind}")
}

/// Removes a letter, if it is there.
pub(crate) fn remove_letter(storage: &dyn Storage, folder: &str, seq: u64) -> io::Result<()> {
    for kind in ["otlp", "json"] {
        match storage.remove(&letter_name(folder, seq, kind)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The numbers of the letters in a folder, and what they take.
pub(crate) fn sizes(storage: &dyn Storage, folder: &str) -> io::Result<BTreeMap<u64, u64>> {
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    for name in storage.list(folder)? {
        let Some((seq, kind)) = name.split_once('.') else { continue };
        if (kind == "otlp" || kind == "json")
            && seq.len() == 20
            && let Ok(seq) = seq.parse()
        {
            let file = storage.open(&format!("{folder}/{name}"), Access::Read)?;
            *sizes.entry(seq).or_default() += file.length()?;
        }
    }
    Ok(sizes)
}

/// The folders of dead letters.
pub(crate) fn folders(storage: &dyn Storage) -> Vec<String> {
    let mut names = storage.list(DEAD).unwrap_or_default();
    names.sort_unstable();
    names.into_iter().map(|name| format!("{DEAD}/{name}")).collect()
}

/// Reads a letter: what is said about it, and the request.
pub(crate) fn read_letter(
    storage: &dyn Storage,
    folder: &str,
    seq: u64,
) -> io::Result<(Letter, Vec<u8>)> {
    let text = storage.open(&letter_name(folder, seq, "json"), Access::Read)?;
    let letter: Letter =
        serde_json::from_slice(&read_all(&*text, LETTER_BYTES)?).map_err(io::Error::other)?;
    let request = storage.open(&letter_name(folder, seq, "otlp"), Access::Read)?;
    let request = read_all(&*request, 1 << 30)?;
    if request.len() as u64 != letter.bytes || crc32fast::hash(&request) != letter.crc32 {
        return Err(io::Error::other("the request is damaged"));
    }
    Ok((letter, request))
}
