//! The server's certificate: given by the operator, or made once and kept, so that its fingerprint can be checked by people.

use archipel_contract::Fault;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key, ready to accept connections.
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
    secret: Vec<u8>,
}

const CERTIFICATE: &str = "xmpp-certificate.pem";
const KEY: &str = "xmpp-key.pem";

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

    /// A certificate chain and its key, as PEM files. Blocks on files.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Tls, Fault> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|e| Fault::invalid(format!("{} cannot be read; check its permissions", path.display())).because(e))
        };
        Tls::from_pem(&read(certificate)?, &read(key)?)
    }

    /// The same from memory.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Tls, Fault> {
        let bad =
            |e: &dyn std::fmt::Display| Fault::invalid("the TLS certificate or key is not usable; give a PEM chain and its key").because(e);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|e| bad(&e))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad(&e))?;
        let first = chain.first().ok_or_else(|| bad(&"no certificate in the file"))?;
        let mut fingerprint = String::new();
        for (n, byte) in Sha256::digest(first).iter().enumerate() {
            let _ = write!(fingerprint, "{}{byte:02X}", if n == 0 { "" } else { ":" });
        }
        let secret = Sha256::new().chain_update(b"archipel salts").chain_update(key.secret_der()).finalize().to_vec();
        // The provider is named here, so that no default of the process is needed.
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| bad(&e))?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint, secret })
    }

    /// SHA-256 of the certificate, as clients show it.
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

/// Writes a file that only its owner may read, and that is there completely or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), Fault> {
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
