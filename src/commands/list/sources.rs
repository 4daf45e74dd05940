//! The lines of source files: from this machine, or by build id from a server.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use profpipe_engine::component::Extensions;
use profpipe_network::client::{Client, Endpoint, Request};
use profpipe_network::settings::ClientSettings;

use crate::mistake::Mistake;

/// The largest source file.
const MAX_BYTES: u64 = 64 << 20;
/// How long a server may take for a file.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Source files that were looked for.
pub(in crate::commands) struct Sources {
    directories: Vec<PathBuf>,
    trim: Vec<String>,
    servers: Vec<Endpoint>,
    found: HashMap<String, Result<Vec<String>, String>>,
}

impl Sources {
    /// In these directories, or in the current one if there are none; without these beginnings of paths; and
    /// of these servers.
    pub(in crate::commands) fn new(
        directories: &[PathBuf],
        trim: &[String],
        debuginfod: &[String],
    ) -> anyhow::Result<Self> {
        let directories = match directories {
            [] => vec![std::env::current_dir()?],
            given => given.iter().map(|path| path.canonicalize().unwrap_or(path.clone())).collect(),
        };
        let servers: Result<Vec<_>, _> = debuginfod
            .iter()
            .map(|url| {
                Endpoint::http(url)
                    .map_err(|error| Mistake(format!("list: --debuginfod {url}: {error}")))
            })
            .collect();
        Ok(Self { directories, trim: trim.to_vec(), servers: servers?, found: HashMap::new() })
    }

    /// The lines of a file; the error says why there are none. Servers are asked for it by the build ids of
    /// binaries that it is a source of.
    pub(in crate::commands) fn find(
        &mut self,
        file: &str,
        build_ids: impl FnOnce() -> Vec<String>,
    ) -> Result<&[String], &str> {
        if !self.found.contains_key(file) {
            let lines = self.read(file, build_ids);
            self.found.insert(file.to_owned(), lines);
        }
        match self.found.get(file) {
            Some(Ok(lines)) => Ok(lines),
            Some(Err(error)) => Err(error),
            None => Err("not found"),
        }
    }

    fn read(
        &self,
        file: &str,
        build_ids: impl FnOnce() -> Vec<String>,
    ) -> Result<Vec<String>, String> {
        let here = match self.places(file).iter().find_map(|path| File::open(path).ok()) {
            Some(opened) => {
                read_lines(opened).map_err(|error| format!("cannot read {file}: {error}"))
            }
            None => {
                let places: Vec<_> =
                    self.directories.iter().map(|path| path.display().to_string()).collect();
                Err(format!("could not find file {file} on path {}", places.join(":")))
            }
        };
        match here {
            Err(error) if !self.servers.is_empty() => {
                self.ask(file, &build_ids()).map_err(|asked| format!("{error}; {asked}"))
            }
            here => here,
        }
    }

    /// Where a file may be: at its path, or at the end of it below a directory or one above that.
    fn places(&self, file: &str) -> Vec<PathBuf> {
        let trimmed = self.trimmed(file);
        if trimmed.is_absolute() {
            return vec![trimmed];
        }
        // What leads out of the directories is not looked for.
        if trimmed.components().any(|part| part == Component::ParentDir) {
            return Vec::new();
        }
        let above = |directory: &PathBuf| {
            directory.ancestors().map(|above| above.join(&trimmed)).collect::<Vec<_>>()
        };
        self.directories.iter().flat_map(above).collect()
    }

    /// A path without what the command says; else without all up to a part that is called as one of the
    /// directories is, for that may be where the sources are here.
    fn trimmed(&self, file: &str) -> PathBuf {
        if self.trim.is_empty() && !Path::new(file).exists() {
            for directory in &self.directories {
                let Some(name) = directory.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                if let Some((_, after)) = file.split_once(&format!("/{name}/")) {
                    return after.into();
                }
            }
        }
        let prefixes = self.trim.iter().map(|prefix| prefix.trim_end_matches('/'));
        let prefixes = prefixes.chain(["/proc/self/cwd/.", "/proc/self/cwd"]);
        for prefix in prefixes {
            let rest = file.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
            if let Some(rest) = rest {
                return rest.into();
            }
        }
        file.into()
    }

    /// Asks the servers for a source of one of these builds.
    fn ask(&self, file: &str, build_ids: &[String]) -> Result<Vec<String>, String> {
        if build_ids.is_empty() {
            return Err("the profile has no build id to ask a server by".into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut last = String::new();
        for endpoint in &self.servers {
            for id in build_ids.iter().filter(|id| id.bytes().all(|it| it.is_ascii_hexdigit())) {
                match runtime.block_on(fetch(endpoint, id, file)) {
                    Ok(bytes) => return Ok(lines(&bytes)),
                    Err(error) => last = error,
                }
            }
        }
        Err(format!("no server has it ({last})"))
    }
}

/// A source from a server.
async fn fetch(endpoint: &Endpoint, build_id: &str, file: &str) -> Result<Vec<u8>, String> {
    let client = Client::builder(&ClientSettings::default())
        .build(&Extensions::default())
        .map_err(|error| error.to_string())?;
    let path: String = file.bytes().map(encoded).collect();
    let uri = endpoint
        .uri(&format!("/buildid/{build_id}/source/{}", path.trim_start_matches('/')))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let mut stream = client.open(Request::get(uri)).await.map_err(|error| error.to_string())?;
        if !stream.status.is_success() {
            return Err(stream.status.to_string());
        }
        let mut bytes = Vec::new();
        while let Some(piece) = stream.piece().await.map_err(|error| error.to_string())? {
            if bytes.len() as u64 + piece.len() as u64 > MAX_BYTES {
                return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| "it does not answer".to_owned())?
}

/// A byte of a path in an address.
fn encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    }
}

fn read_lines(file: File) -> std::io::Result<Vec<String>> {
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(lines(&bytes))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}
