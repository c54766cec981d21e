//! TLS by fingerprint: the server of a cell has a certificate of its own making, and what counts is that it is the same one
//! as before. The handshake proves that the server holds the key; [`Trust`] decides whether that certificate is the right one.
//! Where the cell's authority made it and shows its own certificate beside it, the authority's fingerprint is asked for first: it
//! stays while the server's own is made anew every year. Time does not count, for a host whose clock is wrong has to get in to be told.

use crate::membership::authority::{Usage, examine_timeless};
use crate::stream::wire::BoxedIo;
use crate::tls::{OF_MEMBERS, write_private};
use archipel_contract::{Fault, FaultKind, HypervisorName, Timestamp};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
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

/// The same of the first certificate in a PEM text.
pub fn fingerprint_of_pem(text: &str) -> Result<String, Fault> {
    let certificate = CertificateDer::from_pem_slice(text.as_bytes());
    certificate.map(|c| fingerprint(&c)).map_err(|e| Fault::invalid("that is no certificate").because(e))
}

/// What a client shows of itself in the TLS handshake.
pub enum Shows {
    /// Nothing.
    Nothing,
    /// That it knows the exchange by the cell's authority.
    Membership,
    /// That, and a certificate of its own.
    Certificate(Arc<Identity>),
}

/// The certificate and key with which an agent logs in: one file, read anew at every connection, because it is renewed in place.
#[derive(Debug)]
pub struct Identity {
    file: PathBuf,
}

impl Identity {
    /// Kept in this file: a certificate and its key, PEM.
    pub fn new(file: impl Into<PathBuf>) -> Identity {
        Identity { file: file.into() }
    }

    /// The hypervisor it was made for. Blocks on the file.
    pub fn name(&self) -> Result<HypervisorName, Fault> {
        let text = std::fs::read(&self.file).map_err(|e| self.unreadable(&e))?;
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|e| self.unreadable(&e))?;
        crate::membership::authority::subject(&certificate).map(|(name, ..)| name)
    }

    /// Writes it, readable for its owner only; there completely or not at all. Blocks on the file.
    pub fn create(&self, text: &str) -> Result<(), Fault> {
        write_private(&self.file, text)
    }

    /// The same without blocking.
    pub(crate) async fn write(&self, text: &str) -> Result<(), Fault> {
        let (file, text) = (self.file.clone(), text.to_owned());
        tokio::task::spawn_blocking(move || write_private(&file, &text))
            .await
            .map_err(|e| Fault::internal("writing the certificate was interrupted").because(e))?
    }

    async fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
        let text = tokio::fs::read(&self.file).await.map_err(|e| self.unreadable(&e))?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|e| self.unreadable(&e))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| self.unreadable(&e))?;
        Ok((chain, key))
    }

    fn unreadable(&self, error: &dyn fmt::Display) -> Fault {
        let file: &Path = &self.file;
        Fault::unavailable(format!("{} holds no certificate and key that can be read; join again", file.display())).because(error)
    }
}

pub(crate) fn plain(fingerprint: &str) -> String {
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
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let now = Timestamp(now.as_secs().saturating_mul(1000));
        let authority = intermediates.iter().find(|authority| examine_timeless(authority, end_entity, Usage::Exchange, now));
        let by_authority = authority.map(|authority| self.trust.check(&self.server, &fingerprint(authority)));
        let outcome = match by_authority {
            Some(Ok(())) => Ok(()),
            Some(Err(fault)) => self.trust.check(&self.server, &fingerprint(end_entity)).map_err(|_| fault),
            None => self.trust.check(&self.server, &fingerprint(end_entity)),
        };
        outcome.map(|()| ServerCertVerified::assertion()).map_err(|fault| {
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

/// TLS over a connection on which the server agreed to STARTTLS. Members speak TLS 1.3 only.
pub(super) async fn upgrade(io: BoxedIo, server: &str, domain: &str, trust: Arc<dyn Trust>, shows: &Shows) -> Result<BoxedIo, Fault> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { server: server.to_owned(), trust, provider: provider.clone(), refused: Mutex::new(None) });
    let failed = |e: &dyn fmt::Display| Fault::unavailable(format!("TLS with {server} failed")).because(e);
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = match shows {
        Shows::Nothing => builder.with_safe_default_protocol_versions(),
        Shows::Membership | Shows::Certificate(_) => builder.with_protocol_versions(&[&rustls::version::TLS13]),
    };
    let builder = builder.map_err(|e| failed(&e))?.dangerous().with_custom_certificate_verifier(verifier.clone());
    let mut config = match shows {
        Shows::Nothing | Shows::Membership => builder.with_no_client_auth(),
        Shows::Certificate(identity) => {
            let (chain, key) = identity.read().await?;
            builder.with_client_auth_cert(chain, key).map_err(|e| identity.unreadable(&e))?
        }
    };
    if !matches!(shows, Shows::Nothing) {
        config.alpn_protocols = vec![OF_MEMBERS.to_vec()];
    }
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
