//! The bare call, for benchmarks: what a program that links libvirt and does nothing else would pay. Never used by the daemon.

use crate::fault::fault;
use archipel_contract::Fault;
use virt::{connect::Connect, domain::Domain};

/// A connection without workers, events or anything else of ours.
pub struct Bare(Connect);

impl Bare {
    /// Opens it, on the calling thread (`virConnectOpen`).
    pub fn open(uri: &str) -> Result<Bare, Fault> {
        Connect::open(Some(uri)).map(Bare).map_err(plain)
    }

    /// How many machines there are (`virConnectListAllDomains`), each asked for its state, name and UUID as any list would.
    pub fn count(&self) -> Result<usize, Fault> {
        let all = self.0.list_all_domains(0).map_err(plain)?;
        for domain in &all {
            domain.info().map_err(plain)?;
            domain.name().map_err(plain)?;
            domain.uuid().map_err(plain)?;
        }
        Ok(all.len())
    }

    fn named(&self, name: &str) -> Result<Domain, Fault> {
        self.0.lookup_domain_by_name(name).map_err(plain)
    }

    /// `virDomainSuspend`.
    pub fn pause(&self, name: &str) -> Result<(), Fault> {
        self.named(name)?.suspend().map(drop).map_err(plain)
    }

    /// `virDomainResume`.
    pub fn resume(&self, name: &str) -> Result<(), Fault> {
        self.named(name)?.resume().map(drop).map_err(plain)
    }
}

fn plain(error: virt::error::Error) -> Fault {
    fault(&error, "calling libvirt")
}
