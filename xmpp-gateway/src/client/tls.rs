//! TLS by fingerprint: the server of a cell has a certificate of its own making, and what counts is that it is the same one
//! as before. The handshake proves that the server holds the key; [`Trust`] decides whether that certificate is the right one.

use crate::stream::wire::BoxedIo;
use archipel_contract::{Fault, FaultKind};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Decides whether a certificate is the server's.
pub trait Trust: Send + Sync {
    /// `Ok` when the certificate with this fingerprint may speak for `server`.
    fn check(&self, server: &str, fingerprint: &str) -> Result<(), Fault>;
    /// Whether TLS is wanted even where nobody else can listen.
    fn insists(&self) -> bool;
}

/// One known certificate, written as [`fingerprint`] prints it; colons and case do not matter.
pub struct Pinned(String);

impl Pinned {
    /// This one and no other.
    pub fn new(fingerprint: &str) -> Result<Pinned, Fault> {
        let plain = plain(fingerprint);
        if plain.len() != 64 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fault::invalid(format!("{fingerprint:?} is not a SHA-256 fingerprint (64 hexadecimal digits)")));
        }
        Ok(Pinned(plain))
    }
}

impl Trust for Pinned {
    fn check(&self, server: &str, fingerprint: &str) -> Result<(), Fault> {
        if plain(fingerprint) == self.0 {
            return Ok(());
        }
        Err(Fault::new(
            FaultKind::Forbidden,
            format!(
                "{server} shows the certificate {fingerprint}, which is not the one you trust; if it was renewed, change the fingerprint in your configuration"
            ),
        ))
    }
    fn insists(&self) -> bool {
        true
    }
}

/// The SHA-256 of a certificate: 64 hexadecimal digits in pairs with colons, as `openssl x509 -fingerprint -sha256` prints.
pub fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

fn plain(fingerprint: &str) -> String {
    let bare = fingerprint.trim();
    let bare = bare.strip_prefix("sha256:").or_else(|| bare.strip_prefix("SHA256:")).unwrap_or(bare);
    bare.chars().filter(|c| *c != ':').flat_map(char::to_lowercase).collect()
}

struct Verifier {
    server: String,
    trust: Arc<dyn Trust>,
    provider: Arc<CryptoProvider>,
    // rustls carries only its own errors; ours is taken from here after a failed handshake.
    refused: Mutex<Option<Fault>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("server", &self.server).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.trust.check(&self.server, &fingerprint(end_entity)).map(|()| ServerCertVerified::assertion()).map_err(|fault| {
            *self.refused.lock() = Some(fault);
            rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)
        })
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS over a connection on which the server agreed to STARTTLS.
pub(super) async fn upgrade(io: BoxedIo, server: &str, domain: &str, trust: Arc<dyn Trust>) -> Result<BoxedIo, Fault> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { server: server.to_owned(), trust, provider: provider.clone(), refused: Mutex::new(None) });
    let failed = |e: &dyn fmt::Display| Fault::unavailable(format!("TLS with {server} failed")).because(e);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(domain.to_owned()).map_err(|e| failed(&e))?;
    match TlsConnector::from(Arc::new(config)).connect(name, io).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(verifier.refused.lock().take().unwrap_or_else(|| failed(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_knows_its_certificate_in_any_spelling() {
        let print = fingerprint(b"certificate");
        assert_eq!(print.len(), 95);
        for spelling in [print.clone(), print.to_lowercase(), print.replace(':', ""), format!("sha256:{print}")] {
            let pin = Pinned::new(&spelling).expect("it is a fingerprint");
            assert!(pin.check("here", &print).is_ok());
            let fault = pin.check("here", &fingerprint(b"another")).expect_err("it is another one");
            assert_eq!(fault.kind, FaultKind::Forbidden);
        }
        for wrong in ["", "abc", &"x".repeat(64)] {
            assert!(Pinned::new(wrong).is_err(), "{wrong}");
        }
    }
}
