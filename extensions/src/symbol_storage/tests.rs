//! The storage of symbols: who may send, what is kept, what has to go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use profpipe_engine::component::{SymbolFile, SymbolOffer, SymbolStorage as _, SymbolStorageError};
use profpipe_engine::settings::{self, ByteSize};
use profpipe_engine::telemetry::Metrics;

use super::config::Config;
use super::store::Store;

fn store(directory: &Path, max_bytes: u64) -> Arc<Store> {
    let config = Config {
        directory: directory.join("symbols"),
        max_bytes: ByteSize(max_bytes),
        offer_timeout: settings::Duration::from_secs(60),
        ..Config::default()
    };
    Store::open(config, &Arc::new(Metrics::default()), "symbol_storage").unwrap()
}

/// An ELF file that has nothing but a build id, and zeros of code.
fn binary(id: u8, code: usize) -> (String, Vec<u8>) {
    let id = [id; 20];
    let names = b"\0.note.gnu.build-id\0.text\0.shstrtab\0";
    let mut note = Vec::new();
    for number in [4_u32, 20, 3] {
        note.extend(number.to_le_bytes());
    }
    note.extend(b"GNU\0");
    note.extend(id);
    let (note_at, code_at) = (64, 64 + note.len());
    let names_at = code_at + code;
    let headers_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for (number, bytes) in [(3_u64, 2), (62, 2), (1, 4), (0, 8), (0, 8), (headers_at as u64, 8)] {
        file.extend(&number.to_le_bytes()[..bytes]);
    }
    for (number, bytes) in [(0_u64, 4), (64, 2), (0, 2), (0, 2), (64, 2), (4, 2), (3, 2)] {
        file.extend(&number.to_le_bytes()[..bytes]);
    }
    file.extend(note);
    file.resize(names_at, 0);
    file.extend(names);
    file.resize(headers_at + 64, 0);
    let sections: [(u32, u32, u64, usize, usize); 3] = [
        (1, 7, 2, note_at, code_at - note_at),
        (20, 1, 6, code_at, code),
        (26, 3, 0, names_at, names.len()),
    ];
    for (name, kind, flags, offset, size) in sections {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        // Flags, address, offset, size, link and info, alignment, size of an entry.
        for number in [flags, 0, offset as u64, size as u64, 0, 4, 0] {
            file.extend(number.to_le_bytes());
        }
    }
    (id.iter().map(|byte| format!("{byte:02x}")).collect(), file)
}

fn upload(store: &Store, tenant: Option<&str>, id: &str, content: &[u8]) -> Result<(), String> {
    let of = |error: SymbolStorageError| error.to_string();
    let mut upload = store.begin(tenant, id).map_err(of)?;
    upload.write(content).map_err(of)?;
    upload.keep().map_err(of)
}

fn give(store: &Store, tenant: Option<&str>, id: &str, content: &[u8]) {
    let offered = store.offer(tenant, id, SymbolFile::Executable).unwrap();
    assert_eq!(offered, SymbolOffer::Wanted);
    upload(store, tenant, id, content).unwrap();
}

/// Scenario: a file is offered, sent and looked for, by its tenant, another, and nobody in particular.
/// Guarantees: it is there for its tenant alone, and survives a restart; each tenant has files of its own under
/// one id; names of tenants and ids that are none are errors.
#[test]
fn files_belong_to_tenants() {
    let directory = tempfile::tempdir().unwrap();
    let one = store(directory.path(), 1 << 20);
    let (id, content) = binary(1, 100);
    give(&one, Some("a"), &id.to_uppercase(), &content);
    let has = |store: &Store, tenant| store.find(tenant, &id, SymbolFile::Executable).is_some();
    assert!(has(&one, Some("a")) && one.has(Some("a"), &id));
    assert!(!has(&one, Some("b")) && !has(&one, None) && !has(&one, Some("~")));
    let present = one.offer(Some("a"), &id, SymbolFile::Executable).unwrap();
    assert_eq!(present, SymbolOffer::Present);
    assert!(one.changed_at(Some("a")).is_some() && one.changed_at(Some("b")).is_none());
    give(&one, None, &id, &content);
    drop(one);
    let again = store(directory.path(), 1 << 20);
    assert!(has(&again, Some("a")) && has(&again, None) && !has(&again, Some("b")));
    for (tenant, id) in [(Some("../a"), &*id), (Some(".."), &id), (None, "../../x"), (None, "ab")] {
        let offered = again.offer(tenant, id, SymbolFile::Executable);
        assert!(matches!(offered, Err(SymbolStorageError::Invalid(_))), "{offered:?}");
    }
}

/// Scenario: a sender that was told to send a file is not heard of again; one breaks off.
/// Guarantees: others are not wanted for the time of an offer, then one of them is; after one that broke off the
/// next is wanted at once; what it sent is gone.
#[test]
fn senders_that_are_lost_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (store(directory.path(), 1 << 20), store(directory.path(), 1 << 20));
    let (id, content) = binary(2, 100);
    let offer = |store: &Store| store.offer(None, &id, SymbolFile::Executable).unwrap();
    assert_eq!(offer(&one), SymbolOffer::Wanted);
    assert!(matches!(offer(&other), SymbolOffer::Pending(_)));
    let pending = directory.path().join("symbols/pending");
    let lease = std::fs::read_dir(&pending).unwrap().next().unwrap().unwrap().path();
    let before = SystemTime::now() - Duration::from_secs(61);
    std::fs::File::options().write(true).open(&lease).unwrap().set_modified(before).unwrap();
    assert_eq!(offer(&other), SymbolOffer::Wanted);
    assert!(matches!(offer(&one), SymbolOffer::Pending(_)));
    let mut sending = other.begin(None, &id).unwrap();
    sending.write(&content[..50]).unwrap();
    assert!(matches!(one.begin(None, &id), Err(SymbolStorageError::Busy)));
    assert!(matches!(offer(&one), SymbolOffer::Pending(_)));
    drop(sending);
    assert_eq!(std::fs::read_dir(&pending).unwrap().count(), 0);
    assert!(matches!(one.begin(None, &id), Err(SymbolStorageError::NotOffered)));
    give(&one, None, &id, &content);
}

/// Scenario: more files than there is room for, of a tenant that has many and one that has one, older than all.
/// Guarantees: the room is kept; who has the most loses those unused for longest; the other keeps its file.
#[test]
fn who_has_the_most_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), 100 << 10);
    let (first, content) = binary(100, 20 << 10);
    give(&store, Some("small"), &first, &content);
    let place = |tenant: &str, id: &str| {
        directory.path().join(format!("symbols/files/{tenant}/{id}.executable"))
    };
    let age = |path: &Path, seconds| {
        let at = SystemTime::now() - Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    age(&place("small", &first), 10_000);
    for at in 0..20_u8 {
        let (id, content) = binary(at, 20 << 10);
        give(&store, Some("large"), &id, &content);
        age(&place("large", &id), 1000 - u64::from(at));
    }
    assert!(place("small", &first).exists());
    let large = std::fs::read_dir(directory.path().join("symbols/files/large")).unwrap();
    let large: Vec<_> =
        large.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!((2..=4).contains(&large.len()), "{large:?}");
    assert!(large.iter().any(|name| name.starts_with(&binary(19, 0).0)), "{large:?}");
    assert!(!large.iter().any(|name| name.starts_with(&binary(0, 0).0)), "{large:?}");
}

/// Scenario: files that are empty, cut off, of another id, without one, longer than is taken.
/// Guarantees: each is an error that says what is wrong; nothing of it is there.
#[test]
fn what_is_not_what_was_said_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        directory: directory.path().join("symbols"),
        max_file_size: ByteSize(1 << 16),
        ..Config::default()
    };
    let store = Store::open(config, &Arc::new(Metrics::default()), "x").unwrap();
    let (id, content) = binary(3, 100);
    let (other, _) = binary(4, 100);
    let cases = [
        (&*id, &b""[..], "not a whole ELF file"),
        (&id, &content[..content.len() - 1], "not a whole ELF file"),
        (&other, &content, "not 0404"),
        (&id, &[0; (1 << 16) + 1], "larger than max_file_size"),
    ];
    for (id, content, expected) in cases {
        store.offer(None, id, SymbolFile::Executable).unwrap();
        let error = upload(&store, None, id, content).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!store.has(None, id));
    }
    let pending = std::fs::read_dir(directory.path().join("symbols/pending")).unwrap();
    assert_eq!(pending.count(), 0);
}

/// Scenario: a directory that others may enter, and one in which somebody has put a link in place of a file.
/// Guarantees: the first is not used, and the error says why; the link is not followed.
#[test]
fn only_what_is_ours_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let (id, content) = binary(5, 100);
    let opened = store(directory.path(), 1 << 20);
    give(&opened, None, &id, &content);
    let place = directory.path().join(format!("symbols/files/~/{id}.executable"));
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(&place, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
    assert!(opened.find(None, &id, SymbolFile::Executable).is_none());
    let symbols = directory.path().join("symbols");
    std::fs::set_permissions(&symbols, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = Config { directory: symbols, ..Config::default() };
    let error = Store::open(config, &Arc::new(Metrics::default()), "x").unwrap_err();
    assert!(error.to_string().contains("other users may enter it"), "{error}");
}
