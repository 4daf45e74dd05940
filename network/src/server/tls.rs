//! Certificates of a server, looked at again when they have changed.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use profpipe_engine::component::Error;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::authority_leaf::ClientVerifier;
use crate::settings::reload_interval;
use crate::settings::server::{ServerTls, TlsVersion};
use crate::watched_files::WatchedFiles;

/// Encryption with the newest certificates that could be read.
pub(super) struct Tls {
    settings: ServerTls,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    files: WatchedFiles,
}

impl Tls {
    /// Reads the certificates.
    pub(super) fn load(settings: &ServerTls) -> Result<Self, Error> {
        let files = [&settings.cert_file, &settings.key_file, &settings.client_ca_file];
        let files = files.into_iter().flatten().map(PathBuf::from).collect();
        let files = WatchedFiles::new(files);
        let state = State { config: read(settings)?, files };
        Ok(Self { settings: settings.clone(), state: Mutex::new(state) })
    }

    /// For the next connection. Files that cannot be read now leave everything as it was.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.files.have_changed(reload_interval(self.settings.reload_interval)) {
            match read(&self.settings) {
                Ok(config) => {
                    tracing::info!("certificates were reloaded");
                    state.config = config;
                }
                Err(error) => tracing::warn!("the old certificates stay: {}", error.chain()),
            }
        }
        TlsAcceptor::from(Arc::clone(&state.config))
    }
}

fn read(settings: &ServerTls) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong =
        |what: &str, error: rustls::Error| Error::with_source(format!("tls: {what}"), error);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings))
        .map_err(|error| wrong("these versions cannot be spoken", error))?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let authorities = certificates(&contents("client_ca_file", file)?, file)?;
            for authority in &authorities {
                roots.add(authority.clone()).map_err(|error| {
                    wrong(&format!("client_ca_file {file} is not an authority"), error)
                })?;
            }
            let strict = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| {
                    Error::with_source(format!("tls: client_ca_file {file}"), error)
                })?;
            let verifier = ClientVerifier { strict, authorities };
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    let (chain, chain_name) = match (&settings.cert_pem, &settings.cert_file) {
        (Some(pem), _) => (pem.clone().into_bytes(), "cert_pem".to_owned()),
        (None, Some(file)) => (contents("cert_file", file)?, file.clone()),
        (None, None) => return Err(Error::new("tls: cert_file is missing")),
    };
    let (key, key_name) = match (&settings.key_pem, &settings.key_file) {
        (Some(pem), _) => (pem.expose().as_bytes().to_vec(), "key_pem".to_owned()),
        (None, Some(file)) => (contents("key_file", file)?, file.clone()),
        (None, None) => return Err(Error::new("tls: key_file is missing")),
    };
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
        Error::new(format!("tls: {key_name} holds no private key in PEM without a password"))
    })?;
    let mut config =
        builder.with_single_cert(certificates(&chain, &chain_name)?, key).map_err(|error| {
            wrong(&format!("the certificate in {chain_name} and the key in {key_name}"), error)
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn versions(settings: &ServerTls) -> Vec<&'static SupportedProtocolVersion> {
    let min = settings.min_version.unwrap_or(TlsVersion::V1_2);
    let max = settings.max_version.unwrap_or(TlsVersion::V1_3);
    let all =
        [(TlsVersion::V1_2, &rustls::version::TLS12), (TlsVersion::V1_3, &rustls::version::TLS13)];
    let wanted = all.into_iter().filter(|(version, _)| (min..=max).contains(version));
    wanted.map(|(_, version)| version).collect()
}

fn contents(key: &str, file: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error: io::Error| {
        Error::with_source(format!("tls: {key} {file} cannot be read"), error)
    })
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::new(format!("tls: {name} holds no certificate in PEM"))),
    }
}
