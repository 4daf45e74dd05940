//! What only the program can do: write formats that draw, and read sources.

use profpipe_profile::Profiles;

/// A format that a selection can be downloaded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Its name, as in `format=NAME`.
    pub name: &'static str,
    /// The end of the names of its files.
    pub extension: &'static str,
    /// The media type.
    pub content_type: &'static str,
}

/// What the page needs of the program around it.
pub trait Exports: Send + Sync + 'static {
    /// The formats that can be written.
    fn formats(&self) -> Vec<Format>;

    /// Writes profiles of one sample type in one of the formats.
    ///
    /// # Errors
    /// If they do not fit it; one line.
    fn write(&self, format: &Format, profiles: &Profiles) -> Result<Vec<u8>, String>;

    /// The lines of a source file; `build_ids` are of the binaries that it is a source of.
    ///
    /// # Errors
    /// If it is not there; one line.
    fn source(&self, file: &str, build_ids: &[String]) -> Result<Vec<String>, String>;
}
