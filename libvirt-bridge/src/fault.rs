//! libvirt's error number to a fault. The only such table: no other place looks at an error's number to make a message.

use archipel_contract::{Fault, FaultKind};
use virt::error::{Error, ErrorDomain, ErrorNumber};

/// The fault for a failed call. `doing` completes "... while starting web1". libvirt's words are kept as the cause.
pub(crate) fn fault(error: &Error, doing: &str) -> Fault {
    let (kind, advice) = match error.code().known() {
        Some(number) => meaning(number),
        None => (FaultKind::Internal, "libvirt failed in a way this version does not know; see the cause"),
    };
    Fault::new(kind, format!("{advice} (while {doing})")).because(error.message())
}

/// Whether such an error is one that a dead connection gives, so that it is worth asking whether it still lives.
pub(crate) fn may_mean_dead(error: &Error) -> bool {
    let from_wire = matches!(error.domain().known(), Some(ErrorDomain::Rpc | ErrorDomain::Remote | ErrorDomain::Libssh | ErrorDomain::Ssh));
    let of_wire = matches!(
        error.code().known(),
        Some(ErrorNumber::Rpc | ErrorNumber::NoConnect | ErrorNumber::InvalidConn | ErrorNumber::SystemError | ErrorNumber::GnutlsError)
    );
    from_wire || of_wire
}

/// Whether the thing asked for is not there (any more).
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error.code().known().map(|n| meaning(n).0), Some(FaultKind::NotFound))
}

/// Whether libvirt knows what was asked for and cannot do it.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    matches!(error.code().known().map(|n| meaning(n).0), Some(FaultKind::Unsupported))
}

/// Whether the state of the thing may be the reason. Some drivers say "internal error" where others say "not now".
pub(crate) fn may_be_state(error: &Error) -> bool {
    matches!(error.code().known().map(|n| meaning(n).0), Some(FaultKind::WrongState | FaultKind::Internal))
}

/// Whether libvirt does not know a flag or call that was tried.
pub(crate) fn is_unknown_flag(error: &Error) -> bool {
    matches!(
        error.code().known(),
        Some(ErrorNumber::InvalidArg | ErrorNumber::ArgumentUnsupported | ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported)
    )
}

/// Every number libvirt has, so that a new one does not compile until somebody decides what it means.
fn meaning(number: ErrorNumber) -> (FaultKind, &'static str) {
    use ErrorNumber as E;
    use FaultKind as K;
    match number {
        // Asked wrongly.
        E::XmlError | E::XmlDetail | E::XmlInvalidSchema => {
            (K::InvalidRequest, "libvirt does not accept the definition; correct what the cause names")
        }
        E::InvalidArg => (K::InvalidRequest, "libvirt does not accept a value; correct what the cause names"),
        E::InvalidMac => (K::InvalidRequest, "that is not a hardware address; write it as 52:54:00:12:34:56"),
        E::OsType => (K::InvalidRequest, "this hypervisor cannot run that kind of guest; choose another type or architecture"),
        E::NoKernel | E::NoRoot | E::NoSource | E::NoTarget | E::NoName | E::NoOs | E::NoDevice => {
            (K::InvalidRequest, "the definition lacks something it needs; add what the cause names")
        }
        E::Overflow => (K::InvalidRequest, "a number is too large; use a smaller one"),
        // Not there.
        E::NoDomain => (K::NotFound, "there is no such virtual machine; list them again"),
        E::NoNetwork => (K::NotFound, "there is no such network; list them again"),
        E::NoStoragePool => (K::NotFound, "there is no such storage pool; list them again"),
        E::NoStorageVolume => (K::NotFound, "there is no such volume; refresh its pool and list them again"),
        E::NoNodeDevice | E::DeviceMissing => (K::NotFound, "there is no such device; list them again"),
        E::NoInterface => (K::NotFound, "there is no such host interface; list them again"),
        E::NoNwfilter | E::NoNwfilterBinding => (K::NotFound, "there is no such network filter; list them again"),
        E::NoNetworkPort => (K::NotFound, "there is no such network port; list them again"),
        E::NoSecret => (K::NotFound, "there is no such secret; define it on the host"),
        E::NoDomainSnapshot => (K::NotFound, "there is no such snapshot; list them again"),
        E::NoDomainCheckpoint => (K::NotFound, "there is no such checkpoint; list them again"),
        E::NoDomainBackup => (K::NotFound, "no backup runs on this virtual machine"),
        E::NoDomainMetadata | E::NoNetworkMetadata => (K::NotFound, "nothing of that kind was noted here"),
        E::NoHostname => (K::NotFound, "the guest has told no host name"),
        E::NoServer | E::NoClient => (K::NotFound, "libvirtd knows no such server or client"),
        E::NoSecurityModel => (K::NotFound, "the host does not have that security model; choose one it has"),
        // Not allowed by libvirt.
        E::AuthFailed | E::AuthCancelled | E::AuthUnavailable => {
            (K::Forbidden, "libvirtd does not let the daemon in; check the daemon's user and libvirtd's authentication")
        }
        E::AccessDenied | E::OperationDenied => (K::Forbidden, "libvirtd does not allow this to the daemon; check its access rules"),
        // Not now.
        E::OperationInvalid => (K::WrongState, "that is not possible in its present state; look at its state first"),
        E::SnapshotRevertRisky => (K::WrongState, "going back to that snapshot could harm the guest; stop it first"),
        E::BlockCopyActive => (K::WrongState, "a disk of it is being copied; wait for the copy or cancel it"),
        E::AgentUnresponsive | E::AgentUnsynced => {
            (K::WrongState, "the guest agent does not answer; start it in the guest or use another way")
        }
        E::MigrateUnsafe => (K::WrongState, "moving it now could harm its disks; use shared storage or a disk cache mode that allows it"),
        E::CheckpointInconsistent => (K::WrongState, "the checkpoint can no longer be used; make a new one"),
        E::CpuIncompatible => (K::WrongState, "the host's processor cannot run this guest; choose another host or processor model"),
        // There already.
        E::DomExist => (K::Conflict, "a virtual machine of that name or id exists already; choose another name"),
        E::NetworkExist => (K::Conflict, "a network of that name exists already; choose another name"),
        E::StorageVolExist => (K::Conflict, "a volume of that name exists already; choose another name"),
        E::StoragePoolBuilt => (K::Conflict, "the storage pool was built already"),
        E::NetworkPortExists => (K::Conflict, "the network port exists already"),
        E::MultipleInterfaces | E::MultipleDomains => (K::Conflict, "more than one fits; name it by its id"),
        // In use.
        E::ResourceBusy => (K::Busy, "something else is using it; try again when that is done"),
        E::DriverFull => (K::Busy, "libvirt has no room for another driver; report it"),
        E::OperationAborted => (K::Busy, "it was cancelled by somebody; ask again if it is still wanted"),
        // Not in time.
        E::OperationTimeout => (K::Timeout, "libvirt waited too long; look whether it happened before asking again"),
        E::AgentCommandTimeout => (K::Timeout, "the guest agent did not answer in time; look whether it happened before asking again"),
        // Not reachable.
        E::NoConnect | E::InvalidConn | E::UnknownHost | E::NoXen | E::NoXenStore | E::CallFailed => {
            (K::Unavailable, "libvirtd cannot be reached; check that it runs and that its address is right")
        }
        E::Rpc | E::GnutlsError | E::Ssh | E::Libssh | E::GetFailed | E::PostFailed | E::HttpError | E::DbusService => {
            (K::Unavailable, "talking to libvirtd failed and the outcome is unknown; check the connection between the hosts and look")
        }
        E::NoNetworkStart | E::NoStorage | E::NoNode | E::NoInterfaceStart | E::NoNwfilterStart | E::NoSecretStart => {
            (K::Unavailable, "a part of libvirtd is not running; install or start its driver on the host")
        }
        // Not possible here.
        E::NoSupport | E::OperationUnsupported | E::ArgumentUnsupported => (K::Unsupported, "this hypervisor cannot do that"),
        E::ConfigUnsupported => (K::Unsupported, "this hypervisor cannot do what the definition asks for; see the cause"),
        // Everything else.
        E::OperationFailed | E::XenCall | E::HookScriptFailed | E::AgentCommandFailed | E::MigratePersistFailed | E::MigrateFinishOk => {
            (K::Internal, "libvirt tried and failed; see the cause and the host's libvirt log")
        }
        E::BuildFirewall => (K::Internal, "the host's firewall rules could not be set; see the cause and the host's log"),
        E::SystemError | E::NoMemory | E::StorageProbeFailed => (K::Internal, "the host failed; see the cause and the host's log"),
        E::OpenFailed | E::ReadFailed | E::WriteFailed | E::ParseFailed | E::ConfSyntax => {
            (K::Internal, "libvirt cannot read or write one of its files; see the cause and the host's log")
        }
        E::InvalidEncrKeySecret => (K::Internal, "the key of an encrypted disk is wrong; correct the secret on the host"),
        E::Ok
        | E::InternalError
        | E::SExprSerial
        | E::InvalidDomain
        | E::InvalidNetwork
        | E::InvalidStoragePool
        | E::InvalidStorageVol
        | E::InvalidNodeDevice
        | E::InvalidInterface
        | E::InvalidNwfilter
        | E::InvalidSecret
        | E::InvalidDomainSnapshot
        | E::InvalidStream
        | E::InvalidNwfilterBinding
        | E::InvalidDomainCheckpoint
        | E::InvalidNetworkPort => (K::Internal, "libvirt failed inside; see the cause and the host's libvirt log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt::enumutil::RawEnum;

    #[test]
    fn every_number_has_a_kind_and_says_what_to_do_in_one_sentence() {
        let mut known = 0;
        for number in (0..200).filter_map(ErrorNumber::from_raw) {
            let (_, advice) = meaning(number);
            assert!(advice.starts_with(|c: char| c.is_ascii_lowercase()) && !advice.ends_with('.'), "{number:?}: {advice}");
            known += 1;
        }
        assert!(known > 110, "only {known} numbers were looked at");
    }

    #[test]
    fn the_numbers_of_the_manual_have_the_kinds_of_the_manual() {
        use ErrorNumber as E;
        let table = [
            (E::XmlError, FaultKind::InvalidRequest),
            (E::InvalidArg, FaultKind::InvalidRequest),
            (E::NoDomain, FaultKind::NotFound),
            (E::NoStoragePool, FaultKind::NotFound),
            (E::AuthFailed, FaultKind::Forbidden),
            (E::AccessDenied, FaultKind::Forbidden),
            (E::OperationInvalid, FaultKind::WrongState),
            (E::DomExist, FaultKind::Conflict),
            (E::ResourceBusy, FaultKind::Busy),
            (E::OperationTimeout, FaultKind::Timeout),
            (E::NoConnect, FaultKind::Unavailable),
            (E::NoSupport, FaultKind::Unsupported),
            (E::InternalError, FaultKind::Internal),
        ];
        for (number, kind) in table {
            assert_eq!(meaning(number).0, kind, "{number:?}");
        }
    }
}
