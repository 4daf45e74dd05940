//! The parts of fetching, each alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use profpipe_host::elf::inspect;

use super::super::build_id::BuildId;
use super::FileKind;
use super::disk::{CacheLookup, Disk, DiskSettings};
use super::tenants::{Allowance, Tenants};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn id(number: u8) -> BuildId {
    BuildId::from_bytes(&[number; 20]).unwrap()
}

/// The smallest ELF file with this build id: a header, a note segment, the note, then padding.
fn elf(build_id: &BuildId, size: usize) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    file.resize(64, 0);
    let mut put = |at: usize, bytes: &[u8]| {
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    put(64, &4_u32.to_le_bytes());
    put(72, &120_u64.to_le_bytes());
    put(96, &36_u64.to_le_bytes());
    put(120, &[4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]);
    put(132, b"GNU\0");
    let bytes: Vec<u8> = (0..20)
        .map(|at| u8::from_str_radix(&build_id.hex()[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    put(136, &bytes);
    file.resize(file.len().max(size), 0);
    file
}

fn open(directory: &Path, max_bytes: u64, now: SystemTime) -> Disk {
    let settings = DiskSettings {
        directory: directory.to_owned(),
        max_bytes,
        max_age: 10 * DAY,
        negative_ttl: DAY,
    };
    Disk::open(settings, now).unwrap()
}

fn put(disk: &Disk, build_id: &BuildId, size: usize, now: SystemTime) {
    let mut file = disk.create().unwrap();
    file.file.write_all(&elf(build_id, size)).unwrap();
    file.keep(build_id, FileKind::Executable, now).unwrap();
}

fn has(disk: &Disk, build_id: &BuildId, now: SystemTime) -> bool {
    matches!(disk.find(build_id, FileKind::Executable, now), CacheLookup::File(..))
}

fn age(directory: &Path, name: &str, by: Duration) {
    let file = File::options().read(true).open(directory.join(name)).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Scenario: files are kept, the cache is opened again, also by another process at the same time.
/// Guarantees: they are there; nobody else may read them; what was begun and dropped is gone.
#[test]
fn files_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let now = SystemTime::now();
    let disk = open(&path, 1 << 20, now);
    assert!(matches!(disk.find(&id(1), FileKind::Executable, now), CacheLookup::None));
    put(&disk, &id(1), 1000, now);
    drop(disk.create().unwrap());
    let other = open(&path, 1 << 20, now);
    put(&other, &id(2), 1000, now);
    for disk in [&disk, &other, &open(&path, 1 << 20, now)] {
        assert!(has(disk, &id(1), now) && has(disk, &id(2), now));
        assert!(matches!(disk.find(&id(1), FileKind::Debuginfo, now), CacheLookup::None));
    }
    assert_eq!(open(&path, 1 << 20, now).bytes(), 2000);
    assert_eq!(list(&path).len(), 2);
    for file in [path.clone(), path.join(format!("{}.executable", id(1)))] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o077, 0);
    }
}

/// Scenario: more files than fit, one of them used again; a file that is still open is deleted.
/// Guarantees: those unused for longest go, the rest fits, and the open one can still be read.
#[test]
fn unused_files_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let disk = open(directory.path(), 10_000, now);
    for number in 1..=9 {
        put(&disk, &id(number), 1000, now);
        let name = format!("{}.executable", id(number));
        age(directory.path(), &name, DAY * u32::from(10 - number));
    }
    assert!(has(&disk, &id(1), now), "used, though the oldest");
    let CacheLookup::File(open_file, _) = disk.find(&id(3), FileKind::Executable, now) else {
        panic!()
    };
    age(directory.path(), &format!("{}.executable", id(3)), 7 * DAY);
    put(&disk, &id(10), 3000, now);
    let there: Vec<_> = (1..=10).filter(|number| has(&disk, &id(*number), now)).collect();
    assert_eq!(there, [1, 5, 6, 7, 8, 9, 10]);
    assert_eq!(disk.bytes(), 9000);
    assert!(id(3).is(&inspect(&open_file).unwrap().unwrap().build_id.unwrap()));
}

/// Scenario: time passes over files, over what was absent, and over what was never finished.
/// Guarantees: each is forgotten after its own time; names that are not ours are left alone.
#[test]
fn entries_expire() {
    let directory = tempfile::tempdir().unwrap();
    let (path, now) = (directory.path(), SystemTime::now());
    let disk = open(path, 1 << 20, now);
    put(&disk, &id(1), 1000, now);
    disk.note_absent(&id(2), FileKind::Executable);
    std::fs::write(path.join("tmp.1.1"), "x").unwrap();
    std::fs::write(path.join("notes.txt"), "x").unwrap();
    let absent = |at| matches!(disk.find(&id(2), FileKind::Executable, at), CacheLookup::Absent);
    assert!(absent(now) && absent(now + DAY / 2));
    disk.sweep(now + Duration::from_secs(1800)).unwrap();
    assert_eq!(list(path).len(), 4);
    disk.sweep(now + DAY / 2).unwrap();
    assert_eq!(list(path).len(), 3, "the unfinished one is gone");
    assert!(!absent(now + DAY * 2));
    assert!(has(&disk, &id(1), now + DAY * 9), "and used, which makes it young");
    assert!(has(&disk, &id(1), now + DAY * 18));
    disk.sweep(now + DAY * 40).unwrap();
    assert_eq!(list(path), ["notes.txt"]);
}

/// Scenario: somebody put other things under our names: another file, a link to the right one, a
/// pipe, a directory, a file that all may write; and a clock that was wrong.
/// Guarantees: none is used, none is waited for, and the next file takes its place.
#[test]
fn nothing_in_the_directory_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (path, now) = (directory.path(), SystemTime::now());
    let disk = open(path, 1 << 20, now);
    let name = path.join(format!("{}.executable", id(1)));
    let good = path.join("good");
    std::fs::write(&good, elf(&id(1), 0)).unwrap();
    let tricks: [&dyn Fn(); 6] = [
        &|| std::fs::write(&name, elf(&id(2), 0)).unwrap(),
        &|| std::fs::write(&name, "").unwrap(),
        &|| symlink(&good, &name).unwrap(),
        &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &name, fifo, mode, 0).unwrap();
        },
        &|| {
            std::fs::write(&name, elf(&id(1), 0)).unwrap();
            std::fs::set_permissions(&name, PermissionsExt::from_mode(0o666)).unwrap();
        },
        &|| {
            std::fs::write(&name, elf(&id(1), 0)).unwrap();
            File::open(&name).unwrap().set_modified(now + DAY).unwrap();
        },
    ];
    for (number, trick) in tricks.iter().enumerate() {
        trick();
        assert!(!has(&disk, &id(1), now), "trick {number}");
        put(&disk, &id(1), 500, now);
        assert!(has(&disk, &id(1), now), "trick {number}");
        std::fs::remove_file(&name).unwrap();
    }
    assert!(good.exists());
}

/// Scenario: a directory that others may write, one that is a link, one that is a file.
/// Guarantees: it is refused.
#[test]
fn other_peoples_directories_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["open", "real"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o777)).unwrap();
    symlink(at("real"), at("link")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    for name in ["open", "link", "file"] {
        let settings =
            DiskSettings { directory: at(name), max_bytes: 1, max_age: DAY, negative_ttl: DAY };
        assert!(Disk::open(settings, SystemTime::now()).is_err(), "{name}");
    }
}

/// Scenario: texts that are no build ids: too short, too long, odd, not hex, paths.
/// Guarantees: none gets through; upper case is the same as lower.
#[test]
fn build_ids_are_hex() {
    let long = "a".repeat(130);
    for text in ["", "abcd", "abcdef012", "../../../../etc/passwd", "abcdefgh", "äöüßäöüß", &long]
    {
        assert_eq!(BuildId::parse(text), None, "{text}");
    }
    assert_eq!(BuildId::parse("ABCDEF01"), BuildId::parse("abcdef01"));
    assert_eq!(BuildId::parse("abcdef01").unwrap().path(".debug"), ".build-id/ab/cdef01.debug");
}

/// Scenario: an ELF file cut anywhere, and with any byte changed.
/// Guarantees: no panic; what is cut inside of its headers or note is not whole.
#[test]
fn broken_files_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let whole = elf(&id(7), 0);
    let look = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        inspect(&File::open(&path).unwrap())
            .unwrap()
            .and_then(|found| BuildId::from_bytes(&found.build_id?))
    };
    assert_eq!(look(&whole), Some(id(7)));
    for cut in 0..whole.len() {
        assert_eq!(look(&whole[..cut]), None, "cut at {cut}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            look(&broken);
        }
    }
    // With sections, each byte of the headers in turn.
    if let Ok(small) = std::fs::read("/bin/true") {
        assert!(look(&small).is_some() && look(&small[..small.len() - 1]).is_none());
        let table = u64::from_le_bytes(small[40..48].try_into().unwrap()) as usize;
        for at in (0..64).chain(table..small.len()) {
            let mut broken = small.clone();
            broken[at] ^= 0xff;
            look(&broken);
        }
    }
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    for cut in [own.len() - 1, own.len() / 2] {
        std::fs::write(&path, &own[..cut]).unwrap();
        assert_eq!(inspect(&File::open(&path).unwrap()).unwrap(), None);
    }
}

/// Scenario: a tenant uses up its files, another its bytes by one large file, a third nothing; then
/// half a minute passes. Guarantees: each is refused by its own doing only, and half comes back.
#[test]
fn allowances_fill_up_again() {
    let now = Instant::now();
    let mut tenants = Tenants::new(Allowance { files: 4, bytes: 1000 });
    let [one, two, three] = ["one", "two", "three"].map(Arc::<str>::from);
    for _ in 0..4 {
        assert!(tenants.admit(&one, now));
    }
    assert!(!tenants.admit(&one, now));
    assert!(tenants.admit(&two, now));
    tenants.charge(&two, 1400, now);
    assert!(!tenants.admit(&two, now));
    assert!(tenants.admit(&three, now));
    let later = now + Duration::from_secs(30);
    assert!(tenants.admit(&one, later) && tenants.admit(&one, later));
    assert!(!tenants.admit(&one, later));
    assert!(tenants.admit(&two, later), "100 of 1000 bytes are there again");
    tenants.charge(&two, 101, later);
    assert!(!tenants.admit(&two, later));
    // However many there are, the table stays small and the known are known.
    for number in 0..10_000 {
        let tenant = Arc::from(format!("t{number}"));
        for _ in 0..4 {
            tenants.admit(&tenant, later);
        }
    }
    assert!(!tenants.admit(&one, later));
}
