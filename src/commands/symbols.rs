//! `profpipe symbols upload`: gives binaries and debug files to a gateway, which names the frames of agents
//! that send none.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use profpipe_engine::component::Extensions;
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Secret;
use profpipe_host::elf::inspect;
use profpipe_host::hex;
use profpipe_network::settings::ClientSettings;
use profpipe_processors::symbol_upload::client::{Offered, OfferedFile, Uploader};

use crate::cli;
use crate::mistake::Mistake;

/// How long a request may take, beside what the size of a file allows.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest value of a header that is read from a file.
const MAX_HEADER: usize = 64 << 10;

pub(crate) fn run(arguments: cli::Symbols) -> anyhow::Result<ExitCode> {
    let cli::SymbolsAction::Upload(arguments) = arguments.action;
    let settings = settings(&arguments)?;
    let uploader = Uploader::new(&settings, TIMEOUT, &Extensions::default())
        .map_err(|error| anyhow!("--to {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut is_whole = true;
    for path in &arguments.binaries {
        let outcome = offered(path).and_then(|offered| {
            let outcome = runtime.block_on(uploader.offer(&offered));
            outcome.map(|outcome| (offered, outcome)).map_err(Into::into)
        });
        match outcome {
            Ok((offered, Offered::Sent)) => super::tell(&format!(
                "profpipe: {}: sent {} bytes, build id {}",
                path.display(),
                offered.length,
                offered.build_id
            )),
            Ok((offered, Offered::Declined(reason, _))) => super::tell(&format!(
                "profpipe: {}: not sent, build id {}: {reason}",
                path.display(),
                offered.build_id
            )),
            Err(error) => {
                is_whole = false;
                super::fail(&error.context(path.display().to_string()));
            }
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file as it is offered.
fn offered(path: &Path) -> anyhow::Result<OfferedFile> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(anyhow!("not a file; name binaries one by one"));
    }
    let found = inspect(&file)?.ok_or_else(|| anyhow!("not a whole ELF file"))?;
    let build_id = found.build_id.context(
        "no GNU build id; link it with -Wl,--build-id, a Go program with -ldflags=-B=gobuildid",
    )?;
    let name = path.file_name().map(Path::new).unwrap_or(path).display().to_string();
    Ok(OfferedFile {
        file: Arc::new(file),
        length: meta.len(),
        build_id: hex(&build_id),
        name,
        has_code: found.has_code,
    })
}

/// How to reach the gateway.
fn settings(arguments: &cli::SymbolsUpload) -> anyhow::Result<ClientSettings> {
    let mut settings = ClientSettings::new(&*arguments.to);
    settings.tls.insecure = arguments.insecure;
    settings.tls.ca_file.clone_from(&arguments.ca_file);
    settings.tls.cert_file.clone_from(&arguments.cert_file);
    settings.tls.key_file.clone_from(&arguments.key_file);
    for header in &arguments.header {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            // What was typed may be a secret.
            Mistake("--header is `NAME: VALUE`, such as `X-Scope-OrgID: team`".to_owned())
        })?;
        let value = match value.trim().strip_prefix('@') {
            Some(path) => {
                let value = std::fs::read(path)
                    .ok()
                    .filter(|bytes| bytes.len() <= MAX_HEADER)
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                value.with_context(|| format!("--header: cannot read a value from {path}"))?
            }
            None => value.to_owned(),
        };
        settings.headers.insert(name.trim(), Secret::new(value.trim()));
    }
    let mut problems = Problems::default();
    settings.validate_http(&mut problems);
    if let Some((key, message)) = problems.iter().next() {
        let key = if key == "endpoint" { "--to" } else { key };
        // It speaks of settings in a file.
        let message = message.replace("tls: {insecure: true}", "--insecure");
        return Err(Mistake(format!("{key}: {message}")).into());
    }
    Ok(settings)
}
