//! `profpipe ui`: files as a page, and as the API of Pyroscope.
//!
//! The first line on standard output is the address, which is the base of the API, too. It listens at
//! loopback only: whoever has files to show to others runs a gateway with a history.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use profpipe::pipeline::engine::Budget;
use profpipe::{Lifecycle, Services, Setup};
use profpipe_network::server::Server;
use profpipe_network::server_config;
use profpipe_profile::Profiles;
use profpipe_store::{InputFile, Table};
use profpipe_ui::{Exports, Format, Hosts, Options, Page, token};
use tokio::signal::unix::{SignalKind, signal};

use super::list::Sources;
use crate::cli;
use crate::files::{self, FileFormat, note};
use crate::mistake::Mistake;

/// What requests may take; those with a body are small.
const MEMORY: usize = 64 << 20;
/// The most files of a directory.
const MAX_FILES: usize = 10_000;
/// How long answers may take once the program is asked to end.
const GRACE: Duration = Duration::from_secs(1);

server_config! {
    /// A server with the settings that all have.
    struct Listening: http("127.0.0.1:0") {}
}

pub(crate) fn run(arguments: &cli::Ui) -> anyhow::Result<ExitCode> {
    let address = address(&arguments.listen)?;
    let inputs = inputs(&arguments.files)?;
    let title = title(&inputs, &arguments.files);
    let table = Table::new(inputs).with_context(|| title.clone())?;
    if table.types().is_empty() {
        bail!("{title}: there is no profile in it");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(address, table, title, arguments.no_open));
    // Queries that are being computed are not waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    served?;
    Ok(ExitCode::SUCCESS)
}

/// The address to listen at, which is of this host only.
fn address(listen: &str) -> anyhow::Result<SocketAddr> {
    let mistake = |what: String| Mistake(format!("ui: --listen {listen}: {what}"));
    let addresses = listen
        .to_socket_addrs()
        .map_err(|error| mistake(format!("not an address such as 127.0.0.1:4040 ({error})")))?;
    let mut found: Vec<SocketAddr> = addresses.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    match found.first() {
        Some(address) if found.iter().all(|address| address.ip().is_loopback()) => Ok(*address),
        Some(_) => Err(mistake(
            "profiles would be shown to the network without TLS and authentication; listen at \
             127.0.0.1 and forward the port (ssh -L)"
                .to_owned(),
        )
        .into()),
        None => Err(mistake("the name has no address".to_owned()).into()),
    }
}

/// The files that are named, and those of directories that are.
pub(super) fn inputs(paths: &[PathBuf]) -> anyhow::Result<Vec<InputFile>> {
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Mistake("standard input can be read only once".to_owned()).into());
    }
    let mut inputs = Vec::new();
    for path in paths {
        if !path.is_dir() {
            inputs.push(input(path)?);
            continue;
        }
        let before = inputs.len();
        for path in entries(path)? {
            match input(&path) {
                Ok(input) => inputs.push(input),
                // A directory may have anything in it.
                Err(error) => note(&format!("left out: {error:#}")),
            }
        }
        if inputs.len() == before {
            bail!("there is no profile in {}", path.display());
        }
    }
    Ok(inputs)
}

/// The files of a directory, by name.
fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let what = || format!("cannot read {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(what)? {
        let entry = entry.with_context(what)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Followed where it is a link; a pipe would never end.
        if !is_hidden && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    if paths.len() > MAX_FILES {
        bail!("{} has more than {MAX_FILES} files; name those to show", directory.display());
    }
    paths.sort();
    Ok(paths)
}

fn input(path: &Path) -> anyhow::Result<InputFile> {
    let read = files::read(path)?;
    read.say_notes();
    let metadata = std::fs::metadata(path).ok().filter(|_| path.as_os_str() != "-");
    let modified = metadata.as_ref().and_then(|it| it.modified().ok());
    let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let name =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(InputFile {
        name: if path.as_os_str() == "-" { "standard input".to_owned() } else { name },
        bytes: metadata.map_or(0, |it| it.len()),
        modified_nanos: modified.map_or(0, |time| time.as_nanos() as u64),
        profiles: read.profiles,
    })
}

fn title(inputs: &[InputFile], paths: &[PathBuf]) -> String {
    match (inputs, paths) {
        ([one], _) => one.name.clone(),
        (many, [path]) => format!("{} ({} files)", path.display(), many.len()),
        ([first, rest @ ..], _) => format!("{} and {} more", first.name, rest.len()),
        ([], _) => String::new(),
    }
}

async fn serve(
    address: SocketAddr,
    table: Table,
    title: String,
    no_open: bool,
) -> anyhow::Result<()> {
    // Before it can be reached: a signal must never meet a program that does not expect it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let listening = Listening { endpoint: address.to_string(), ..Listening::default() };
    let server = Server::build(listening.server(), &Setup::new("ui", Services::default()))
        .map_err(|error| anyhow::anyhow!("{}", error.chain()))?;
    let token = token().context("the system gives no random numbers")?;
    let base = format!("http://{}/{token}", server.address());
    let page = Page::new(Options {
        source: Arc::new(Arc::new(table)),
        exports: Arc::new(Files { sources: Mutex::new(Sources::new(&[], &[], &[])?) }),
        token,
        hosts: Hosts::of(server.address()),
        title,
        version: env!("CARGO_PKG_VERSION"),
    });
    let (stopper, life) = Lifecycle::new();
    let running = tokio::spawn(server.run(page.router(), Budget::new(MEMORY), life));
    files::print(&format!("{base}\n"))?;
    if !no_open && std::io::stdout().is_terminal() && has_display() {
        open(&base);
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stopper.stop(GRACE);
    // What is still asked then is cut.
    let _ = tokio::time::timeout(GRACE, running).await;
    Ok(())
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty()))
}

/// Opens a browser; without one the address is there to be copied.
fn open(address: &str) {
    let mut command = std::process::Command::new("xdg-open");
    let command =
        command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        // It ends when the browser has taken over.
        std::thread::spawn(move || child.wait());
    }
}

/// What `convert` writes and `list` reads.
struct Files {
    sources: Mutex<Sources>,
}

/// The formats by their names.
const FORMATS: [(FileFormat, Format); 5] = [
    (FileFormat::Pprof, format("pprof", ".pb.gz", "application/octet-stream")),
    (FileFormat::Otlp, format("otlp", ".otlp", "application/x-protobuf")),
    (FileFormat::OtlpJson, format("otlp_json", ".json", "application/json")),
    (FileFormat::Folded, format("folded", ".folded", "text/plain; charset=utf-8")),
    (FileFormat::Svg, format("svg", ".svg", "image/svg+xml")),
];

const fn format(name: &'static str, extension: &'static str, content_type: &'static str) -> Format {
    Format { name, extension, content_type }
}

impl Exports for Files {
    fn formats(&self) -> Vec<Format> {
        FORMATS.iter().map(|(_, format)| *format).collect()
    }

    fn write(&self, format: &Format, profiles: &Profiles) -> Result<Vec<u8>, String> {
        let found = FORMATS.iter().find(|(_, known)| known == format);
        let (file_format, _) = found.ok_or("there is no such format")?;
        files::encode(*file_format, profiles, None, &mut Vec::new())
            .map_err(|error| format!("{error:#}"))
    }

    fn source(&self, file: &str, build_ids: &[String]) -> Result<Vec<String>, String> {
        // A thread that failed has left nothing half done.
        let mut sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = sources.find(file, || build_ids.to_vec());
        found.map(<[String]>::to_vec).map_err(str::to_owned)
    }
}
