//! The port to the agents inside guests. Each call may take as long as the guest lets it, so none is made on the threads that read:
//! libvirt itself gives up after some seconds.

pub(crate) mod raw;
mod run;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault,
    domain::{GuestFilesystem, GuestInfo, GuestInterface, GuestPort, Program, ProgramEnd, ShutdownMode},
};
use std::{collections::HashMap, time::Duration};
use virt::{
    domain::Domain,
    error::{Error, ErrorNumber},
    sys,
};

type Told = HashMap<String, String>;

fn number(told: &Told, key: &str) -> usize {
    // A guest says how many; more than that is no guest but a joke.
    told.get(key).and_then(|n| n.parse().ok()).unwrap_or(0).min(256)
}

fn text(told: &Told, key: String) -> Option<String> {
    let clean = |s: &String| s.chars().filter(|c| !c.is_control()).take(256).collect::<String>();
    told.get(&key).map(clean).filter(|s| !s.is_empty())
}

/// libvirt's list of names and values as what they mean.
fn info(told: &Told) -> GuestInfo {
    let system = text(told, "os.pretty-name".into()).or_else(|| text(told, "os.name".into())).or_else(|| text(told, "os.id".into()));
    let interface = |n: usize| {
        let at = |what: &str| format!("if.{n}.{what}");
        let address =
            |m: usize| Some(format!("{}/{}", text(told, at(&format!("addr.{m}.addr")))?, text(told, at(&format!("addr.{m}.prefix")))?));
        Some(GuestInterface {
            name: text(told, at("name"))?,
            mac: text(told, at("hwaddr")).unwrap_or_default(),
            addresses: (0..number(told, &at("addr.count"))).filter_map(address).collect(),
        })
    };
    let filesystem = |n: usize| {
        let at = |what: &str| format!("fs.{n}.{what}");
        let bytes = |what: &str| told.get(&at(what)).and_then(|b| b.parse().ok()).map(Bytes);
        Some(GuestFilesystem {
            mountpoint: text(told, at("mountpoint"))?,
            kind: text(told, at("fstype")).unwrap_or_default(),
            size: bytes("total-bytes"),
            used: bytes("used-bytes"),
        })
    };
    GuestInfo {
        hostname: text(told, "hostname".into()),
        system,
        kernel: text(told, "os.kernel-release".into()),
        timezone: text(told, "timezone.name".into()),
        interfaces: (0..number(told, "if.count")).filter_map(interface).collect(),
        filesystems: (0..number(told, "fs.count")).filter_map(filesystem).collect(),
        users: (0..number(told, "user.count")).filter_map(|n| text(told, format!("user.{n}.name"))).collect(),
        source: "agent".to_owned(),
    }
}

fn has_no_agent(error: &Error) -> bool {
    matches!(
        error.code().known(),
        Some(
            ErrorNumber::AgentUnresponsive
                | ErrorNumber::AgentUnsynced
                | ErrorNumber::ArgumentUnsupported
                | ErrorNumber::NoSupport
                | ErrorNumber::OperationUnsupported
                | ErrorNumber::ConfigUnsupported
        )
    )
}

fn active(session: &Session, id: DomainId) -> Result<Domain, Trouble> {
    let domain = session.domain(id)?;
    if ask(|| domain.is_active())? {
        return Ok(domain);
    }
    Err(Fault::wrong_state(format!("{} is off; start it first", domain.name()?)).into())
}

/// What is to be done about an agent that is not there, in words that say it.
fn explained<T>(domain: &Domain, answer: Result<T, Error>) -> Result<T, Trouble> {
    answer.map_err(|error| {
        if !has_no_agent(&error) {
            return error.into();
        }
        let name = domain.name().unwrap_or_default();
        let words = format!(
            "the agent in {name} does not answer; give the machine the channel org.qemu.guest_agent.0 and start qemu-guest-agent in the guest"
        );
        Fault::wrong_state(words).because(error.message()).into()
    })
}

impl GuestPort for Link {
    fn info(&self, id: DomainId) -> BoxFuture<'_, Result<GuestInfo, Fault>> {
        self.call(Lane::Change, "asking the guest's agent", move |session| {
            let domain = active(session, id)?;
            match raw::info(&domain) {
                Ok(told) => Ok(info(&told)),
                Err(error) if has_no_agent(&error) => {
                    let interfaces = raw::leases(&domain).unwrap_or_default();
                    if interfaces.is_empty() {
                        return explained(&domain, Err(error));
                    }
                    Ok(GuestInfo { interfaces, source: "lease".to_owned(), ..GuestInfo::default() })
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn sync_time(&self, id: DomainId, now: archipel_contract::Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "setting the guest's clock", move |session| {
            let domain = active(session, id)?;
            let (seconds, nanos) = (i64::try_from(now.0 / 1000).unwrap_or(i64::MAX), (now.0 % 1000) as i32 * 1_000_000);
            explained(&domain, ask(|| domain.set_time(seconds, nanos, 0)))
        })
    }

    fn freeze(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>> {
        self.call(Lane::Change, "holding the guest's file systems", move |session| {
            let domain = active(session, id)?;
            explained(&domain, raw::freeze(&domain))
        })
    }

    fn thaw(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>> {
        self.call(Lane::Change, "letting the guest's file systems go on", move |session| {
            let domain = active(session, id)?;
            explained(&domain, raw::thaw(&domain))
        })
    }

    fn shutdown(&self, id: DomainId, mode: ShutdownMode) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "asking a guest to power off", move |session| {
            let domain = active(session, id)?;
            let flags = match mode {
                ShutdownMode::Any => sys::VIR_DOMAIN_SHUTDOWN_DEFAULT,
                ShutdownMode::Acpi => sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
                ShutdownMode::Agent => sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
            };
            let answer = ask(|| domain.shutdown_flags(flags));
            if mode == ShutdownMode::Agent { explained(&domain, answer) } else { Ok(answer?) }
        })
    }

    fn run(&self, id: DomainId, program: Program, patience: Duration) -> BoxFuture<'_, Result<ProgramEnd, Fault>> {
        Box::pin(run::run(self, id, program, patience))
    }

    fn set_password(&self, id: DomainId, user: String, password: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "setting a password in the guest", move |session| {
            let domain = active(session, id)?;
            explained(&domain, ask(|| domain.set_user_password(&user, &password, 0)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_sorted_and_bounded() {
        let told: Told = [
            ("hostname", "web1\u{7}"),
            ("os.pretty-name", "Debian GNU/Linux 12"),
            ("os.kernel-release", "6.1.0"),
            ("timezone.name", "UTC"),
            ("if.count", "2"),
            ("if.0.name", "lo"),
            ("if.0.addr.count", "1"),
            ("if.0.addr.0.addr", "127.0.0.1"),
            ("if.0.addr.0.prefix", "8"),
            ("if.1.name", "eth0"),
            ("if.1.hwaddr", "52:54:00:00:00:01"),
            ("if.1.addr.count", "4000000000"),
            ("if.1.addr.0.addr", "192.0.2.7"),
            ("if.1.addr.0.prefix", "24"),
            ("fs.count", "1"),
            ("fs.0.mountpoint", "/"),
            ("fs.0.fstype", "ext4"),
            ("fs.0.total-bytes", "1000"),
            ("user.count", "1"),
            ("user.0.name", "ada"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let info = info(&told);
        assert_eq!((info.hostname.as_deref(), info.system.as_deref()), (Some("web1"), Some("Debian GNU/Linux 12")));
        assert_eq!(info.interfaces[1].addresses, ["192.0.2.7/24"]);
        assert_eq!((info.filesystems[0].size, info.filesystems[0].used), (Some(Bytes(1000)), None));
        assert_eq!(info.users, ["ada"]);
    }
}
