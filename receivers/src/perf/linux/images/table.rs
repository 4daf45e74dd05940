//! The images that are known, each once, whoever maps it.
//!
//! Asks the loader for what is not there, and forgets what is not mapped any more. The tables of rules are what
//! takes memory; those unused for longest are dropped when they exceed a budget and read again when
//! needed.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gimli::UnwindContext;
use hashbrown::{HashMap, HashSet};

use super::image::{FileKey, Image, ImageIx, Rules, Tables};
use super::loader::{FileMapping, LoadRequest, LoadResponse, Loader};
use super::places::{At, Place, Places};
use crate::perf::linux::handoff::shrink;
use profpipe_host::content::Content;

/// The bytes of unwinding tables held in memory.
pub(crate) const BUDGET: usize = 24 << 20;
/// The most files known at a time.
const MAX_IMAGES: usize = 8192;
/// The most files kept that no process maps: programs that are run again and again are not read
/// again each time.
pub(crate) const MAX_UNMAPPED: usize = 64;
/// How many sweeps such a file is kept without being asked for.
const UNMAPPED_SWEEPS: u64 = 6;

/// Every known image.
pub(crate) struct Images {
    loader: Loader,
    /// Files that the loader was asked for.
    coming: HashSet<FileKey>,
    /// Numbers are not used again, so that an old mapping never shows another file.
    images: HashMap<ImageIx, Image>,
    last: ImageIx,
    by_key: HashMap<FileKey, ImageIx>,
    bytes: usize,
    clock: u64,
    sweeps: u64,
    /// How many tables were read.
    pub(crate) loads: u64,
    /// Answers of the loader so far.
    responses: u64,
    places: Places,
    /// Room to read entries into, and to run them in.
    buffer: Vec<u8>,
    context: UnwindContext<usize>,
}

impl Images {
    /// No images yet; they will be read by `loader`.
    pub(crate) fn new(loader: Loader) -> Self {
        Self {
            loader,
            coming: HashSet::new(),
            images: HashMap::new(),
            last: 0,
            by_key: HashMap::new(),
            bytes: 0,
            clock: 0,
            sweeps: 0,
            loads: 0,
            responses: 0,
            places: Places::new(),
            buffer: Vec::new(),
            context: UnwindContext::new(),
        }
    }

    /// How many responses of the loader have come: what waits for one is as it was if there is no
    /// new one.
    pub(crate) fn responses(&mut self) -> u64 {
        self.take_responses();
        self.responses
    }

    /// The image of a mapped file, opened and read if it is new. None if it cannot be opened, or
    /// not soon.
    pub(crate) fn find(&mut self, key: &FileKey, place: FileMapping) -> Option<ImageIx> {
        self.take_responses();
        if let Some(known) = self.by_key.get(key) {
            let image = self.images.get_mut(known);
            // A file that was overwritten has the number of the one before.
            let is_number = matches!(key, FileKey::Inode { .. });
            if !(is_number && image.as_ref().is_some_and(|image| image.has_changed())) {
                if let Some(image) = image {
                    image.asked = self.sweeps;
                }
                return Some(*known);
            }
            self.by_key.remove(key);
        }
        if self.images.len() >= MAX_IMAGES {
            return None;
        }
        if !self.coming.contains(key) && self.loader.ask(LoadRequest::Open(key.clone(), place)) {
            self.coming.insert(key.clone());
        }
        while self.coming.contains(key) {
            let response = self.loader.wait()?;
            self.take(response);
        }
        self.by_key.get(key).copied()
    }

    /// True if the image of this key is still being opened.
    pub(crate) fn is_coming(&self, key: &FileKey) -> bool {
        self.coming.contains(key)
    }

    /// The bytes of unwinding tables, and how many images have any.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.bytes, self.images.values().filter(|image| image.bytes > 0).count())
    }

    /// The number of images.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// True if no image is being opened.
    pub(crate) fn is_settled(&mut self) -> bool {
        self.take_responses();
        self.coming.is_empty()
    }

    fn take_responses(&mut self) {
        while let Some(response) = self.loader.poll() {
            self.take(response);
        }
    }

    fn take(&mut self, response: LoadResponse) {
        self.responses += 1;
        match response {
            LoadResponse::Opened(key, image) => {
                self.coming.remove(&key);
                // A file that is gone already may be opened through another process later.
                if let Some(image) = image {
                    self.add(key, *image);
                }
            }
            LoadResponse::Rules(at, tables) => {
                self.loads += 1;
                let Some(image) = self.images.get_mut(&at) else { return };
                if !matches!(image.rules, Rules::Coming) {
                    return;
                }
                image.set_rules(*tables);
                self.bytes += image.bytes;
                if self.bytes > BUDGET {
                    self.evict(at);
                }
            }
        }
    }

    fn add(&mut self, key: FileKey, mut image: Image) {
        image.asked = self.sweeps;
        let gnu = image.identity.build_id.clone();
        let number = image
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(|metadata| inode_key(&metadata));
        let at = self.last;
        self.last = self.last.wrapping_add(1);
        self.images.insert(at, image);
        self.by_key.insert(key, at);
        // The same file is known by build id in one record and by number in another.
        let build = gnu.and_then(|hex| unhex(&hex)).map(FileKey::Build);
        if let Some(build) = build {
            self.by_key.entry(build).or_insert(at);
        }
        // The number is of what the file is now.
        self.by_key.extend(number.map(|number| (number, at)));
    }

    /// An image.
    pub(crate) fn get(&self, at: ImageIx) -> Option<&Image> {
        self.images.get(&at)
    }

    /// What there is to unwind an image with, read when first asked for and again if it was
    /// dropped. None if there is nothing, or not yet: see [`Images::is_unready`].
    pub(crate) fn tables(&mut self, at: ImageIx) -> Option<&mut Tables> {
        match self.rules(at)? {
            Rules::Ready(tables) => Some(tables),
            _ => None,
        }
    }

    /// True if the rules of an image are still being read, which this may begin.
    pub(crate) fn is_unready(&mut self, at: ImageIx) -> bool {
        matches!(self.rules(at), Some(Rules::Coming))
    }

    /// What is at an address of a file; nothing is known yet while its tables are read, which this
    /// may begin.
    pub(crate) fn place(&mut self, at: At) -> Option<Arc<Place>> {
        if let Some(place) = self.places.get(at) {
            return Some(Arc::clone(place));
        }
        if self.is_unready(at.image) {
            return None;
        }
        let image = self.images.get(&at.image)?;
        if matches!(image.rules, Rules::Absent) {
            // The loader has too much to do.
            return None;
        }
        let code = image.code(at.address);
        let rules = match &image.rules {
            Rules::Ready(tables) => {
                let (buffer, context) = (&mut self.buffer, &mut self.context);
                // The tables come from others. Whatever they make their reader do, it ends here.
                catch_unwind(AssertUnwindSafe(|| tables.rules(at.instruction(), buffer, context)))
            }
            _ => Ok(None),
        };
        let Ok(rules) = rules else {
            self.distrust(at.image);
            return Some(Arc::new(Place { rules: None, code }));
        };
        let place = Arc::new(Place { rules, code });
        self.places.insert(at, Arc::clone(&place));
        Some(place)
    }

    /// Whether the code of a range of a file is that of one function, as far as can be told, which
    /// has set up a frame pointer.
    pub(crate) fn keeps_frame_pointer(&self, image: ImageIx, code: Range<u64>) -> bool {
        self.images.get(&image).is_some_and(|image| image.keeps_frame_pointer(code))
    }

    /// See [`Image::frame_size`].
    pub(crate) fn frame_size(&self, image: ImageIx, function: u64, address: u64) -> Option<u64> {
        self.images.get(&image)?.frame_size(function, address)
    }

    /// Whether an address of a file is in its code.
    pub(crate) fn has_code(&self, image: ImageIx, address: u64) -> bool {
        self.images.get(&image).is_some_and(|image| image.has_code(address))
    }

    fn rules(&mut self, at: ImageIx) -> Option<&mut Rules> {
        self.clock += 1;
        let image = self.images.get_mut(&at)?;
        image.used = self.clock;
        if matches!(image.rules, Rules::Absent) {
            let content: Arc<dyn Content + Send + Sync> = match (&image.file, &image.memory) {
                _ if image.identity.segments.is_empty() || image.has_changed() => {
                    image.rules = Rules::None;
                    return None;
                }
                (Some(file), _) => Arc::<File>::clone(file),
                (None, Some(memory)) => Arc::new(memory.clone()),
                (None, None) => {
                    image.rules = Rules::None;
                    return None;
                }
            };
            if self.loader.ask(LoadRequest::Rules(at, content)) {
                image.rules = Rules::Coming;
            }
        }
        if matches!(self.images.get(&at)?.rules, Rules::Coming) {
            self.take_responses();
        }
        Some(&mut self.images.get_mut(&at)?.rules)
    }

    /// Forgets images that no process maps, but for the few asked for last; says which are left.
    pub(crate) fn sweep(&mut self, mapped: &HashSet<ImageIx>) -> &HashMap<ImageIx, Image> {
        self.sweeps += 1;
        let oldest = self.sweeps.saturating_sub(UNMAPPED_SWEEPS);
        let unmapped = self.images.iter().filter(|(at, _)| !mapped.contains(*at));
        let mut unmapped: Vec<_> = unmapped.map(|(at, image)| (image.asked, *at)).collect();
        // The number orders those asked for in the same interval.
        unmapped.sort_unstable_by_key(|order| std::cmp::Reverse(*order));
        let keep = unmapped.partition_point(|(asked, _)| *asked >= oldest).min(MAX_UNMAPPED);
        for (_, at) in unmapped.drain(keep..) {
            self.images.remove(&at);
        }
        self.by_key.retain(|_, at| self.images.contains_key(at));
        shrink(&mut self.images);
        shrink(&mut self.by_key);
        self.bytes = self.images.values().map(|image| image.bytes).sum();
        &self.images
    }

    /// Makes an image one without rules: those it has are not to be used.
    pub(crate) fn distrust(&mut self, at: ImageIx) {
        if let Some(image) = self.images.get_mut(&at) {
            self.bytes -= image.bytes;
            image.bytes = 0;
            image.rules = Rules::None;
        }
        self.places.forget(at);
    }

    /// Drops the tables used longest ago until the rest fits, but not those of `keep`.
    fn evict(&mut self, keep: ImageIx) {
        while self.bytes > BUDGET {
            let oldest = self
                .images
                .iter_mut()
                .filter(|(at, image)| image.bytes > 0 && **at != keep)
                .min_by_key(|(_, image)| image.used);
            let Some((_, image)) = oldest else { return };
            self.bytes -= image.bytes;
            image.bytes = 0;
            image.rules = Rules::Absent;
        }
    }
}

fn inode_key(metadata: &std::fs::Metadata) -> FileKey {
    let device = metadata.dev();
    FileKey::Inode {
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        inode: metadata.ino(),
    }
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    let digits = text.as_bytes().as_chunks::<2>().0.iter();
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
