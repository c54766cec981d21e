//! The server's certificate: made by the cell's own authority, or given by the operator, or self-signed once and kept. What people
//! check is a fingerprint that stays: the authority's where there is one, for the certificate itself is made anew every year.
//!
//! Whoever connects may show a certificate too. Here it is only proved that they hold its key; whether it is good for a login is
//! asked at the login, where the answer can be said in words.

use crate::membership::Membership;
use archipel_contract::Fault;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key, ready to accept connections.
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
    secret: Vec<u8>,
    members: Option<Arc<Membership>>,
}

const CERTIFICATE: &str = "xmpp-certificate.pem";
const KEY: &str = "xmpp-key.pem";
/// The same as the cell's authority made it.
const OF_CELL: &str = "exchange-certificate.pem";
const KEY_OF_CELL: &str = "exchange-key.pem";
/// What a joining host and an agent with a certificate say in the TLS handshake (ALPN): they know the exchange by the cell's
/// authority, and not by a fingerprint somebody wrote down when the exchange had a certificate of its own making.
pub(crate) const OF_MEMBERS: &[u8] = b"archipel-member";

impl Tls {
    /// The certificate kept in `directory`; made there, self-signed for the cell, when there is none. Blocks on files.
    pub fn load_or_create(directory: &Path, cell: &str) -> Result<Tls, Fault> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        if !certificate.exists() || !key.exists() {
            let made = rcgen::generate_simple_self_signed(vec![cell.to_owned()])
                .map_err(|e| Fault::internal(format!("no certificate can be made for {cell}")).because(e))?;
            write_private(&key, &made.signing_key.serialize_pem())?;
            write_private(&certificate, &made.cert.pem())?;
        }
        Tls::from_files(&certificate, &key)
    }

    /// The certificate that the cell's authority made for an exchange which is reached by these names and addresses: kept in
    /// `directory`, made when there is none or when less than a month of its year is left. Blocks on files.
    ///
    /// A self-signed certificate from before is still shown to those who know nothing else.
    pub fn of_cell(directory: &Path, members: Arc<Membership>, names: &[String]) -> Result<Tls, Fault> {
        // A host may be called what no certificate can say; the others are enough.
        let mut names: Vec<String> =
            names.iter().filter(|name| rustls_pki_types::ServerName::try_from(name.as_str()).is_ok()).cloned().collect();
        names.dedup();
        let (certificate, key) = (directory.join(OF_CELL), directory.join(KEY_OF_CELL));
        let bad = |e: &dyn std::fmt::Display| {
            Fault::internal(format!("{} is broken; remove it and {} and start again", key.display(), certificate.display())).because(e)
        };
        if !key.exists() {
            let fresh = rcgen::KeyPair::generate().map_err(|e| Fault::internal("no key can be made").because(e))?;
            write_private(&key, &fresh.serialize_pem())?;
        }
        let pair = rcgen::KeyPair::from_pem(&read(&key).and_then(|k| String::from_utf8(k).map_err(|e| bad(&e)))?).map_err(|e| bad(&e))?;
        let now = std::fs::read(&certificate).ok().and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
        if let Some(pem) = members.for_exchange(&names, &pair, now.as_ref())? {
            write_private(&certificate, &pem)?;
        }
        let chain = [read(&certificate)?, members.certificate().as_bytes().to_vec()].concat();
        let old = [directory.join(CERTIFICATE), directory.join(KEY)];
        let before = if old.iter().all(|file| file.exists()) { Some((read(&old[0])?, read(&old[1])?)) } else { None };
        let before = before.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
        Tls::build(&chain, &read(&key)?, before, Some(members))
    }

    /// A certificate chain and its key, as PEM files. Blocks on files.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Tls, Fault> {
        Tls::from_pem(&read(certificate)?, &read(key)?)
    }

    /// The same from memory.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Tls, Fault> {
        Tls::build(certificate, key, None, None)
    }

    /// `before` is shown to whoever does not say that they know the cell's authority.
    fn build(certificate: &[u8], key: &[u8], before: Option<(&[u8], &[u8])>, members: Option<Arc<Membership>>) -> Result<Tls, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (ours, secret) = certified(certificate, key, &provider)?;
        let (shown, secret) = match before {
            Some((certificate, key)) => certified(certificate, key, &provider)?,
            None => (ours.clone(), secret),
        };
        let fingerprint = match (&members, before) {
            (Some(members), None) => members.fingerprint(),
            _ => shown.end_entity_cert().map(|c| crate::client::tls::fingerprint(c)).map_err(|e| unusable(&e))?,
        };
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?;
        let builder = match &members {
            Some(members) => builder.with_client_cert_verifier(Arc::new(Visitors::of(members, provider)?)),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_cert_resolver(Arc::new(Faces { ours, shown }));
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint, secret, members })
    }

    /// SHA-256 of the certificate to be checked by people: the authority's, or the server's own when nobody else signed it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Something nobody else knows and that stays the same over restarts.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl Tls {
    /// Who may log in by certificate, and join.
    pub(crate) fn members(&self) -> Option<&Arc<Membership>> {
        self.members.as_ref()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|e| Fault::invalid(format!("{} cannot be read; check its permissions", path.display())).because(e))
}

fn unusable(error: &dyn std::fmt::Display) -> Fault {
    Fault::invalid("the TLS certificate or key is not usable; give a PEM chain and its key").because(error)
}

/// A chain with its key, and a secret that stays as long as the key does.
fn certified(certificate: &[u8], key: &[u8], provider: &rustls::crypto::CryptoProvider) -> Result<(Arc<CertifiedKey>, Vec<u8>), Fault> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|e| unusable(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable(&e))?;
    if chain.is_empty() {
        return Err(unusable(&"no certificate in the file"));
    }
    let secret = Sha256::new().chain_update(b"archipel salts").chain_update(key.secret_der()).finalize().to_vec();
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|e| unusable(&e))?;
    Ok((Arc::new(certified), secret))
}

/// Which certificate is shown to whom.
#[derive(Debug)]
struct Faces {
    ours: Arc<CertifiedKey>,
    shown: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Faces {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let member = hello.alpn().is_some_and(|mut names| names.any(|name| name == OF_MEMBERS));
        Some(if member { self.ours.clone() } else { self.shown.clone() })
    }
}

/// Asks for a certificate, takes any whose key the peer holds, and does without.
#[derive(Debug)]
struct Visitors {
    hints: Vec<DistinguishedName>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Visitors {
    fn of(members: &Membership, provider: Arc<rustls::crypto::CryptoProvider>) -> Result<Visitors, Fault> {
        let anchor = webpki::anchor_from_trusted_cert(members.authority()).map_err(|e| unusable(&e))?;
        Ok(Visitors { hints: vec![DistinguishedName::in_sequence(&anchor.subject)], provider })
    }
}

impl ClientCertVerifier for Visitors {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Writes a file that only its owner may read, and that is there completely or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Fault> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| Fault::invalid(format!("{} cannot be written; check the data directory", path.display())).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_certificate_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Tls::load_or_create(directory.path(), "vm.localhost").unwrap();
        let again = Tls::load_or_create(directory.path(), "vm.localhost").unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.fingerprint().len(), 32 * 3 - 1);
        assert_eq!(first.secret(), again.secret());
        for name in [CERTIFICATE, KEY] {
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn rubbish_is_refused_with_a_reason() {
        assert!(Tls::from_pem(b"", b"").is_err());
        assert!(Tls::load_or_create(Path::new("/nonexistent"), "c").is_err());
    }
}
