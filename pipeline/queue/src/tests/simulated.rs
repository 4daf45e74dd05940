//! A file system that loses power.
//!
//! A file has what is on the disk, what the kernel shows, and the writes between the two. A loss of
//! power keeps any subset of those writes, each whole or in pieces of 64 bytes; where a file grew and
//! the data did not come, there are zeros or what another file once held. Folders keep any subset of
//! what was created and removed in them. A sync that fails writes some of it, and what it did not
//! write is never written later: that is what Linux does. Operations fail on demand.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::{Access, Room, Storage, StoredFile};

/// Numbers that only depend on a seed.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What the files of a directory hold.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    disk: Vec<u8>,
    shown: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Entry {
    Create(String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct Folder {
    disk: BTreeMap<String, usize>,
    shown: BTreeMap<String, usize>,
    changes: Vec<Entry>,
}

/// How often operations fail: once in so many times, 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// No space: writes (partly done), allocation, creation.
    pub(super) space: u64,
    /// Syncs.
    pub(super) sync: u64,
    /// Truncation, removal, opening.
    pub(super) other: u64,
}

#[derive(Debug)]
struct State {
    inodes: Vec<Inode>,
    folders: BTreeMap<String, Folder>,
    random: Random,
    faults: Faults,
    read: u64,
}

/// Called before each operation that changes something.
type Hook = Box<dyn FnMut(&Crash<'_>) + Send>;

/// The file system.
pub(super) struct Simulated {
    state: Arc<Mutex<State>>,
    hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulated")
    }
}

/// A moment at which the power may go.
pub(super) struct Crash<'a>(&'a Simulated);

impl Crash<'_> {
    /// What may be on the disk then.
    pub(super) fn image(&self, random: &mut Random) -> Image {
        let state = self.0.state();
        // All, nothing or some of what was not synced.
        let mood = random.below(6);
        let mut image = Image::new();
        for (folder, content) in &state.folders {
            let mut entries = content.disk.clone();
            for change in &content.changes {
                if mood == 0 || (mood != 1 && random.once_in(2)) {
                    apply(&mut entries, change);
                }
            }
            for (name, inode) in entries {
                let bytes = crashed(&state.inodes, inode, mood, random);
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                image.insert(path, bytes);
            }
        }
        image
    }
}

fn apply(entries: &mut BTreeMap<String, usize>, change: &Entry) {
    match change {
        Entry::Create(name, inode) => entries.insert(name.clone(), *inode),
        Entry::Remove(name) => entries.remove(name),
    };
}

fn crashed(inodes: &[Inode], inode: usize, mood: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = inodes[inode].disk.clone();
    for change in &inodes[inode].changes {
        let fate = match mood {
            0 => 0,
            1 => 1,
            _ => random.below(4),
        };
        match (change, fate) {
            (_, 0) => write(&mut bytes, change),
            (Change::Truncate(_), _) => {}
            (_, 1) => {}
            (Change::Write(offset, data), fate) => {
                // The file has grown, but not all of the data has come.
                let end = *offset as usize + data.len();
                let old = &inodes[random.below(inodes.len() as u64) as usize].disk;
                let from = bytes.len();
                if end > from {
                    bytes.resize(end, 0);
                    if fate == 3 {
                        let stale = old.get(from..end.min(old.len())).unwrap_or_default();
                        bytes[from..from + stale.len()].copy_from_slice(stale);
                    }
                }
                for (index, piece) in data.chunks(64).enumerate() {
                    if random.once_in(2) {
                        let at = *offset as usize + index * 64;
                        bytes[at..at + piece.len()].copy_from_slice(piece);
                    }
                }
            }
        }
    }
    bytes
}

fn write(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
        Change::Truncate(length) => bytes.resize(*length as usize, 0),
    }
}

impl Simulated {
    /// A directory with these files, all of it on the disk.
    pub(super) fn new(image: &Image, seed: u64) -> Arc<Self> {
        let mut state = State {
            inodes: Vec::new(),
            folders: BTreeMap::new(),
            random: Random(seed),
            faults: Faults::default(),
            read: 0,
        };
        state.folders.insert(String::new(), Folder::default());
        for (path, bytes) in image {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let inode = state.inodes.len();
            state.inodes.push(Inode {
                disk: bytes.clone(),
                shown: bytes.clone(),
                changes: Vec::new(),
            });
            let mut parent = String::new();
            for part in folder.split('/').filter(|part| !part.is_empty()) {
                parent = if parent.is_empty() { part.into() } else { format!("{parent}/{part}") };
                state.folders.entry(parent.clone()).or_default();
            }
            let folder = state.folders.entry(folder.to_owned()).or_default();
            folder.disk.insert(name.to_owned(), inode);
            folder.shown.insert(name.to_owned(), inode);
        }
        Arc::new(Self { state: Arc::new(Mutex::new(state)), hook: Mutex::default() })
    }

    pub(super) fn set_hook(&self, hook: impl FnMut(&Crash<'_>) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(super) fn crash(&self) -> Crash<'_> {
        Crash(self)
    }

    /// What the kernel shows: what is left when only the process is killed.
    pub(super) fn shown(&self) -> Image {
        let state = self.state();
        let mut image = Image::new();
        for (folder, content) in &state.folders {
            for (name, inode) in &content.shown {
                let path =
                    if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                image.insert(path, state.inodes[*inode].shown.clone());
            }
        }
        image
    }

    /// How many bytes have been read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.state().read
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn before_change(&self) {
        if let Some(hook) = self.hook.lock().unwrap().as_mut() {
            hook(&Crash(self));
        }
    }
}

impl State {
    fn fails(&mut self, times: u64) -> bool {
        times > 0 && self.random.once_in(times)
    }
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn bad_disk() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn split(path: &str) -> (String, String) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    (folder.to_owned(), name.to_owned())
}

impl Storage for Arc<Simulated> {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        let folder = state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.shown.keys().cloned().collect())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn StoredFile>> {
        self.before_change();
        let mut state = self.state();
        let times = state.faults.space;
        if state.fails(times) {
            return Err(no_space());
        }
        let (folder, name) = split(path);
        let inode = state.inodes.len();
        let folder = state.folders.get_mut(&folder).ok_or(io::ErrorKind::NotFound)?;
        if folder.shown.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        folder.shown.insert(name.clone(), inode);
        folder.changes.push(Entry::Create(name, inode));
        state.inodes.push(Inode::default());
        Ok(Arc::new(File { disk: Arc::clone(self), inode }))
    }

    fn open(&self, path: &str, _access: Access) -> io::Result<Arc<dyn StoredFile>> {
        let (folder, name) = split(path);
        let mut state = self.state();
        let times = state.faults.other;
        if state.fails(times) {
            return Err(io::Error::from_raw_os_error(24));
        }
        let found = state.folders.get(&folder).and_then(|folder| folder.shown.get(&name));
        let inode = *found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(File { disk: Arc::clone(self), inode }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.before_change();
        let mut state = self.state();
        let times = state.faults.other;
        if state.fails(times) {
            return Err(bad_disk());
        }
        let (folder, name) = split(path);
        let folder = state.folders.get_mut(&folder).ok_or(io::ErrorKind::NotFound)?;
        folder.shown.remove(&name).ok_or(io::ErrorKind::NotFound)?;
        folder.changes.push(Entry::Remove(name));
        Ok(())
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.state().folders.entry(name.to_owned()).or_default();
        Ok(())
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        self.before_change();
        let mut state = self.state();
        let times = state.faults.sync;
        let fails = state.fails(times);
        let folder = state.folders.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        if fails {
            return Err(bad_disk());
        }
        folder.disk = folder.shown.clone();
        folder.changes.clear();
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        Ok(Room { free: 1 << 40, total: 1 << 40 })
    }

    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn unlock(&self) {}

    fn salt(&self) -> u64 {
        self.state().random.next()
    }
}

#[derive(Debug)]
struct File {
    disk: Arc<Simulated>,
    inode: usize,
}

impl StoredFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].shown.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let rest = state.inodes[self.inode].shown.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        state.read += length as u64;
        Ok(length)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.disk.before_change();
        let mut state = self.disk.state();
        let mut bytes = parts.concat();
        let times = state.faults.space;
        let fails = state.fails(times);
        if fails {
            let length = state.random.below(bytes.len() as u64) as usize;
            bytes.truncate(length);
        }
        let change = Change::Write(offset, bytes);
        let inode = &mut state.inodes[self.inode];
        write(&mut inode.shown, &change);
        inode.changes.push(change);
        if fails { Err(no_space()) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.before_change();
        let mut state = self.disk.state();
        let times = state.faults.other;
        if state.fails(times) {
            return Err(bad_disk());
        }
        let inode = &mut state.inodes[self.inode];
        let change = Change::Truncate(length);
        write(&mut inode.shown, &change);
        inode.changes.push(change);
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let times = state.faults.space;
        if state.fails(times) { Err(no_space()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.before_change();
        let mut state = self.disk.state();
        let times = state.faults.sync;
        if state.fails(times) {
            let mut random = state.random.clone();
            let written = crashed(&state.inodes, self.inode, 2, &mut random);
            state.random = random;
            let inode = &mut state.inodes[self.inode];
            inode.disk = written;
            // Never written later, whatever is synced then.
            inode.changes.clear();
            return Err(bad_disk());
        }
        let inode = &mut state.inodes[self.inode];
        if inode.changes.is_empty() && inode.disk.len() == inode.shown.len() {
            return Ok(());
        }
        for change in std::mem::take(&mut inode.changes) {
            write(&mut inode.disk, &change);
        }
        Ok(())
    }
}
