//! THE list of commands.

use archipel_contract::{
    catalog::{Catalog, CommandEntry, entry},
    domain::*,
    hypervisor::*,
    network::*,
    storage_pool::*,
    task::*,
    volume::*,
};

/// The catalog of everything listed here.
pub fn catalog() -> Catalog {
    Catalog::of(entries())
}

fn entries() -> Vec<CommandEntry> {
    vec![
        entry::<ListHypervisors>(),
        entry::<ShowHypervisor>(),
        entry::<ListDomains>(),
        entry::<ShowDomain>(),
        entry::<ShowDomainXml>(),
        entry::<DefineDomain>(),
        entry::<UndefineDomain>(),
        entry::<StartDomain>(),
        entry::<ShutdownDomain>(),
        entry::<RebootDomain>(),
        entry::<ForceOffDomain>(),
        entry::<ResetDomain>(),
        entry::<PauseDomain>(),
        entry::<ResumeDomain>(),
        entry::<AutostartDomain>(),
        entry::<RenameDomain>(),
        entry::<NoteDomain>(),
        entry::<ListNetworks>(),
        entry::<ShowNetwork>(),
        entry::<StartNetwork>(),
        entry::<StopNetwork>(),
        entry::<AutostartNetwork>(),
        entry::<ListPools>(),
        entry::<ShowPool>(),
        entry::<RefreshPool>(),
        entry::<StartPool>(),
        entry::<StopPool>(),
        entry::<AutostartPool>(),
        entry::<ListVolumes>(),
        entry::<ShowVolume>(),
        entry::<ListTasks>(),
        entry::<ShowTask>(),
        entry::<CancelTask>(),
        entry::<WaitTask>(),
    ]
}
