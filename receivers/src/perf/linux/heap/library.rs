//! The library, where services find it that load it by themselves: beside the socket.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use profpipe_heap::LIBRARY;

/// Its name.
const NAME: &str = "libprofpipe_heap.so";

/// Writes the library into the directory of a socket, unless it is there; where it is then.
pub(crate) fn write_beside(socket: &Path) -> io::Result<PathBuf> {
    let directory = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let path = directory.join(NAME);
    if fs::read(&path).is_ok_and(|bytes| bytes == LIBRARY) {
        return Ok(path);
    }
    // Programs that have loaded the old one keep it.
    let new = directory.join(format!(".{NAME}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(LIBRARY)?;
    fs::rename(&new, &path)?;
    Ok(path)
}
