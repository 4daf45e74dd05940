//! Certificates of authorities that peers use as their own.
//!
//! `openssl req -x509` makes a certificate that says CA:TRUE, and many a server and agent uses it as it
//! is, with the same file as `ca_file` of its peer. Go and OpenSSL take that; webpki, which rustls
//! checks with, does not take such a certificate for that of a peer. Where webpki refuses one, this
//! looks again: it is trusted if it is itself one of the configured authorities, or one of them signed
//! it. Only authorities that the configuration names count, never the system's; times, names, the
//! purpose of the certificate and that the peer has its key are checked as ever.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// What a peer's certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Server,
    Client,
}

/// Checks certificates of servers.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) strict: Arc<WebPkiServerVerifier>,
    /// The authorities that the configuration names.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let strict = self.strict.verify_server_cert(leaf, between, name, ocsp, now);
        let Err(error) = strict else { return strict };
        if !is_trusted(leaf, &self.authorities, Purpose::Server, now) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// Checks certificates of clients.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) strict: Arc<dyn ClientCertVerifier>,
    /// The authorities that the configuration names.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let strict = self.strict.verify_client_cert(leaf, between, now);
        let Err(error) = strict else { return strict };
        if is_trusted(leaf, &self.authorities, Purpose::Client, now) {
            return Ok(ClientCertVerified::assertion());
        }
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// Whether a certificate of an authority is good as a peer's.
fn is_trusted(
    leaf: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
) -> bool {
    let parsed = |der| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
    let Some(now) =
        i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok())
    else {
        return false;
    };
    let Some(certificate) = parsed(leaf) else { return false };
    if !certificate.is_ca() || !certificate.validity.is_valid_at(now) {
        return false;
    }
    if !is_for(&certificate, purpose) {
        return false;
    }
    if authorities.iter().any(|authority| authority == leaf) {
        return true;
    }
    authorities.iter().filter_map(|authority| parsed(authority)).any(|authority| {
        authority.is_ca()
            && authority.subject.as_raw() == certificate.issuer.as_raw()
            && authority.validity.is_valid_at(now)
            // What names it may sign for is not looked at here.
            && authority.name_constraints().is_ok_and(|constraints| constraints.is_none())
            && authority.key_usage().is_ok_and(|usage| {
                usage.is_none_or(|usage| usage.value.key_cert_sign())
            })
            && certificate.verify_signature(Some(authority.public_key())).is_ok()
    })
}

fn is_for(certificate: &X509Certificate<'_>, purpose: Purpose) -> bool {
    match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => {
            usage.value.any
                || match purpose {
                    Purpose::Server => usage.value.server_auth,
                    Purpose::Client => usage.value.client_auth,
                }
        }
        Err(_) => false,
    }
}
