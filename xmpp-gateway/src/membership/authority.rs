//! The cell's own certificate authority: one key, kept with the cell's documents, that says who is an exchange and who is an agent
//! of which hypervisor. An agent's certificate cannot serve, an exchange's cannot log in.

use super::token::hex;
use archipel_contract::{CellName, Fault, FaultKind, HypervisorName, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;

/// How long the authority itself holds.
const YEARS: u64 = 10;
const DAY: u64 = 24 * 3600 * 1000;
/// Certificates hold from a little before they are made, for clocks that are a little behind.
const BEFORE: u64 = DAY;
/// `id-on-xmppAddr` (RFC 6120 13.7.1.4): an address of XMPP in a certificate.
const XMPP_ADDRESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// The authority as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its name in certificates.
    name: String,
    /// Its certificate, PEM.
    certificate: String,
    /// Its key, PEM.
    key: String,
}

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) fingerprint: [u8; 32],
}

/// A fresh certificate.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) serial: String,
}

/// A public key somebody sent: a point of P-256, uncompressed.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::internal("a certificate cannot be made; please report this").because(error)
}

fn moment(time: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp((time / 1000) as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn params(name: &str, from: Timestamp, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(from.0.saturating_sub(BEFORE));
    params.not_after = moment(until.0);
    params.use_authority_key_identifier_extension = true;
    params
}

fn of_authority(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = params(name, now, Timestamp(now.0 + YEARS * 365 * DAY));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Kept {
    /// A fresh authority.
    pub(super) fn make(cell: &CellName, now: Timestamp) -> Result<Kept, Fault> {
        let name = format!("Archipel cell {cell}");
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = of_authority(&name, now).self_signed(&key).map_err(failed)?;
        Ok(Kept { name, certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Authority {
    pub(super) fn new(kept: &Kept) -> Result<Authority, Fault> {
        let bad = |e: &dyn std::fmt::Display| {
            Fault::internal("the cell's certificate authority cannot be read; restore the document ca/authority from a copy").because(e)
        };
        let key = KeyPair::from_pem(&kept.key).map_err(|e| bad(&e))?;
        let certificate = CertificateDer::from_pem_slice(kept.certificate.as_bytes()).map_err(|e| bad(&e))?;
        // Only the name and the key count for signing.
        let issuer = Issuer::new(of_authority(&kept.name, Timestamp(0)), key);
        let fingerprint = Sha256::digest(&certificate).into();
        Ok(Authority { issuer, certificate, pem: kept.certificate.clone(), fingerprint })
    }

    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<Issued, Fault> {
        let mut serial = [0u8; 16];
        getrandom::fill(&mut serial).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
        // Positive and always of the same length, so that it reads back as it was written.
        serial[0] = (serial[0] & 0x3f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(Issued { pem: certificate.pem(), serial: hex(&serial) })
    }

    /// For the agent of a hypervisor that has this public key.
    pub(super) fn for_agent(
        &self,
        cell: &CellName,
        name: &HypervisorName,
        key: &[u8],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Issued, Fault> {
        if key.len() != 65 || key[0] != 4 {
            return Err(Fault::invalid("the public key is not an uncompressed point of P-256"));
        }
        let address = format!("hv.{name}@{cell}");
        let mut params = params(&address, from, until);
        let uri = format!("xmpp:{address}").try_into().map_err(failed)?;
        params.subject_alt_names =
            vec![SanType::OtherName((XMPP_ADDRESS.to_vec(), rcgen::OtherNameValue::Utf8String(address))), SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, &PublicKey(key.to_vec()))
    }

    /// For an exchange that is reached by these names and addresses.
    pub(super) fn for_exchange(&self, names: &[String], key: &KeyPair, from: Timestamp, until: Timestamp) -> Result<Issued, Fault> {
        let mut params = params(names.first().map_or("exchange", String::as_str), from, until);
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into().map_err(failed)?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, key)
    }
}

/// For what a certificate is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// To log in.
    Agent,
    /// To serve.
    Exchange,
}

/// Why a certificate is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Somebody else made it, or it is broken, or for another use.
    Foreign(String),
    /// It held until then.
    Expired(Timestamp),
    /// It holds from then on.
    Early(Timestamp),
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.0))
}

/// Whether `authority` made this certificate for that use, and whether it holds at that time.
pub(crate) fn examine(authority: &CertificateDer<'_>, leaf: &CertificateDer<'_>, usage: Usage, now: Timestamp) -> Result<(), Unfit> {
    let foreign = |e: webpki::Error| Unfit::Foreign(e.to_string());
    let anchor = webpki::anchor_from_trusted_cert(authority).map_err(foreign)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(foreign)?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    let usage = match usage {
        Usage::Agent => webpki::KeyUsage::client_auth(),
        Usage::Exchange => webpki::KeyUsage::server_auth(),
    };
    let at = |time: UnixTime| Timestamp(time.as_secs().saturating_mul(1000));
    let verified = leaf.verify_for_usage(algorithms, &[anchor], &[], unix(now), usage, None, None).map(|_| ());
    verified.map_err(|error| match error {
        webpki::Error::CertExpired { not_after, .. } => Unfit::Expired(at(not_after)),
        webpki::Error::CertNotValidYet { not_before, .. } => Unfit::Early(at(not_before)),
        other => foreign(other),
    })
}

/// Whether `authority` made this certificate for that use, whatever the time is: a host whose clock is wrong must still find the
/// exchange that tells it so.
pub(crate) fn examine_timeless(authority: &CertificateDer<'_>, leaf: &CertificateDer<'_>, usage: Usage, now: Timestamp) -> bool {
    match examine(authority, leaf, usage, now) {
        Ok(()) => true,
        // The signature is looked at only when the time is right, so the time is made right.
        Err(Unfit::Expired(time) | Unfit::Early(time)) => examine(authority, leaf, usage, time).is_ok(),
        Err(Unfit::Foreign(_)) => false,
    }
}

/// The hypervisor and the cell a certificate was made for, and its serial number. Whether it is good is another question.
pub(crate) fn subject(leaf: &CertificateDer<'_>) -> Result<(HypervisorName, CellName, String), Fault> {
    let none = || Fault::new(FaultKind::Forbidden, "the certificate names no hypervisor of a cell; join again with a new token");
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(|e| none().because(e))?;
    let address = certificate.valid_uri_names().find_map(|uri| uri.strip_prefix("xmpp:hv.")).ok_or_else(none)?;
    let (name, cell) = address.split_once('@').ok_or_else(none)?;
    let name = name.parse().map_err(|e| none().because(e))?;
    let cell = cell.parse().map_err(|e| none().because(e))?;
    Ok((name, cell, hex(certificate.serial())))
}

/// Whether a certificate of an exchange names all of these.
pub(super) fn names_all(leaf: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else { return false };
    names.iter().all(|name| {
        let name = rustls_pki_types::ServerName::try_from(name.as_str());
        name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn authority() -> Authority {
        Authority::new(&Kept::make(&"vm.test".parse().unwrap(), NOW).unwrap()).unwrap()
    }

    fn der(issued: &Issued) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap()
    }

    fn agent(authority: &Authority, until: u64) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let (cell, name) = ("vm.test".parse().unwrap(), "beta".parse().unwrap());
        der(&authority.for_agent(&cell, &name, key.public_key_raw(), NOW, Timestamp(until)).unwrap())
    }

    #[test]
    fn a_certificate_is_good_for_its_use_and_its_time_only() {
        let ours = authority();
        let leaf = agent(&ours, NOW.0 + DAY);
        assert_eq!(examine(&ours.certificate, &leaf, Usage::Agent, NOW), Ok(()));
        assert!(matches!(examine(&ours.certificate, &leaf, Usage::Exchange, NOW), Err(Unfit::Foreign(_))));
        assert!(matches!(examine(&authority().certificate, &leaf, Usage::Agent, NOW), Err(Unfit::Foreign(_))));
        let late = Timestamp(NOW.0 + 2 * DAY);
        assert_eq!(examine(&ours.certificate, &leaf, Usage::Agent, late), Err(Unfit::Expired(Timestamp(NOW.0 + DAY))));
        assert_eq!(examine(&ours.certificate, &leaf, Usage::Agent, Timestamp(NOW.0 - 3 * DAY)), Err(Unfit::Early(Timestamp(NOW.0 - DAY))));
        assert!(examine_timeless(&ours.certificate, &leaf, Usage::Agent, late));
        assert!(examine_timeless(&ours.certificate, &leaf, Usage::Agent, Timestamp(0)));
        assert!(!examine_timeless(&authority().certificate, &leaf, Usage::Agent, late), "a wrong time excuses nothing else");
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let ours = authority();
        let (name, cell, serial) = subject(&agent(&ours, NOW.0 + DAY)).unwrap();
        assert_eq!((name.as_str(), cell.as_str(), serial.len()), ("beta", "vm.test", 32));
        let key = KeyPair::generate().unwrap();
        let names = ["vm.test".to_owned(), "192.0.2.7".to_owned()];
        let leaf = der(&ours.for_exchange(&names, &key, NOW, Timestamp(NOW.0 + DAY)).unwrap());
        assert!(subject(&leaf).is_err());
        assert!(names_all(&leaf, &names) && !names_all(&leaf, &["other.test".to_owned()]));
        assert_eq!(examine(&ours.certificate, &leaf, Usage::Exchange, NOW), Ok(()));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let (cell, name) = ("vm.test".parse().unwrap(), "beta".parse().unwrap());
        for key in [&[][..], &[4; 64], &[3; 65]] {
            assert!(authority().for_agent(&cell, &name, key, NOW, NOW).is_err());
        }
    }
}
