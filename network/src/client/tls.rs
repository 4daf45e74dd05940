//! Whom we trust and who we are: the TLS settings as rustls wants them, reloaded when files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use profpipe_engine::component::Error;
use profpipe_engine::settings::Secret;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority_leaf::ServerVerifier;
use crate::settings::{ClientTls, TlsVersion, reload_interval};
use crate::watched_files::WatchedFiles;

/// The TLS side of a client.
pub(super) struct Trust {
    settings: ClientTls,
    protocols: Vec<Vec<u8>>,
    state: Mutex<State>,
}

struct State {
    config: Arc<ClientConfig>,
    files: WatchedFiles,
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them is missing or not what it should be.
    pub(super) fn new(settings: ClientTls, protocols: &[&[u8]]) -> Result<Self, Error> {
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let files = [&settings.ca_file, &settings.cert_file, &settings.key_file];
        let files = WatchedFiles::new(files.into_iter().flatten().cloned().collect());
        let config = config(&settings, &protocols)?;
        let state = Mutex::new(State { config, files });
        Ok(Self { settings, protocols, state })
    }

    /// Puts TLS on a connection.
    pub(super) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = self.settings.server_name_override.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.current()).connect(name, stream).await
    }

    /// The settings for a new connection; reloaded if the files have changed. Files that are
    /// broken, or half written, leave what was read before.
    fn current(&self) -> Arc<ClientConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.files.have_changed(reload_interval(self.settings.reload_interval)) {
            match config(&self.settings, &self.protocols) {
                Ok(config) => {
                    state.config = config;
                    tracing::info!("the certificates for new connections were reloaded");
                }
                Err(error) => {
                    tracing::warn!("keeping the certificates read before: {}", error.chain());
                }
            }
        }
        Arc::clone(&state.config)
    }
}

fn config(settings: &ClientTls, protocols: &[Vec<u8>]) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let min = settings.min_version.unwrap_or(TlsVersion::Tls12);
    let max = settings.max_version.unwrap_or(TlsVersion::Tls13);
    let versions = [
        (TlsVersion::Tls13, &rustls::version::TLS13),
        (TlsVersion::Tls12, &rustls::version::TLS12),
    ];
    let versions: Vec<_> = versions
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|cause| Error::with_source("there is no version of TLS to speak", cause))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    } else {
        let (roots, authorities) = roots(settings)?;
        match authorities.is_empty() {
            true => builder.with_root_certificates(roots),
            false => {
                let strict = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
                let strict = strict.build().map_err(|cause| {
                    Error::with_source("these authorities cannot be used", cause)
                })?;
                let verifier = ServerVerifier { strict, authorities };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        }
    };
    let certificate = text(&settings.cert_file, &settings.cert_pem)?;
    let key = text(&settings.key_file, &settings.key_pem)?;
    let mut config = match (certificate, key) {
        (Some((certificate, of)), Some((key, of_key))) => {
            let chain = certificates(&certificate, &of)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|cause| {
                Error::with_source(format!("{of_key} has no private key in PEM"), cause)
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| {
                Error::with_source(format!("{of} and {of_key} do not work together"), cause)
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.to_vec();
    Ok(Arc::new(config))
}

/// Who may sign the server's certificate, and which of these the configuration names.
fn roots(settings: &ClientTls) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Error> {
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    let own = text(&settings.ca_file, &settings.ca_pem)?;
    if own.is_none() || settings.include_system_ca_certs_pool {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
    }
    if let Some((text, of)) = own {
        named = certificates(&text, &of)?;
        for certificate in &named {
            roots.add(certificate.clone()).map_err(|cause| {
                Error::with_source(format!("{of} has a certificate that cannot be used"), cause)
            })?;
        }
    }
    Ok((roots, named))
}

/// The content of a file, or what the configuration holds in its place, and how to call it.
fn text(file: &Option<PathBuf>, pem: &Option<Secret>) -> Result<Option<(Vec<u8>, String)>, Error> {
    match (file, pem) {
        (Some(path), _) => read(path).map(|text| Some((text, path.display().to_string()))),
        (None, Some(pem)) => {
            Ok(Some((pem.expose().as_bytes().to_vec(), "the text in the configuration".into())))
        }
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let of = |cause| Error::with_source(format!("cannot read {}", path.display()), cause);
    std::fs::read(path).map_err(of)
}

fn certificates(pem: &[u8], of: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(Error::new(format!("{of} has no certificate in PEM"))),
        Err(cause) => Err(Error::with_source(format!("{of} is no PEM"), cause)),
    }
}

/// Takes any certificate, for `insecure_skip_verify`. That the server has its key is still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
