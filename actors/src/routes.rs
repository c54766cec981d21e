//! THE list of commands. A command that is not here cannot be reached; one that is here and whose actor has no handler for
//! it does not compile. Adding a command is its declaration in the contract, its handler in the actor and its line here.

use crate::{
    ask::Ask,
    directory::{Directory, Resident},
    domain::DomainActor,
    hypervisor::HypervisorActor,
    life::Posted,
    network::NetworkActor,
    storage_pool::PoolActor,
    task::TaskActor,
};
use actix::Handler;
use archipel_contract::{
    BoxFuture, Caller, Command, EntityId, Fault,
    backup::*,
    catalog::{Catalog, CommandEntry, entry},
    cell::*,
    command::parse_arguments,
    domain::*,
    hypervisor::*,
    migration::{
        AskPast, AskStanding, CheckMigration, DrainHypervisor, ListParked, LookAgain, MigrateDomain, ParkDomain, PlanDrain, Receive,
        Release, RemoveCopy, Reserve, SendBack, UndrainHypervisor, UnparkDomain, Unreserve, Yield,
    },
    network::*,
    storage_pool::*,
    task::*,
    ticket::Expel,
    usage::{ListDomainUsage, ListHostUsage, ShowDomainUsage, ShowHostUsage},
    volume::*,
};
use serde_json::Value;
use std::time::Duration;

/// How long a request waits for an actor that is being restarted.
const RESTART: Duration = Duration::from_secs(5);

/// A checked request, ready to go to its actor. `None`: the actor ended before it answered.
pub type Errand = Box<dyn for<'a> FnOnce(&'a Directory, EntityId, Caller) -> BoxFuture<'a, Option<Result<Value, Fault>>> + Send>;

/// One command of the list.
pub struct Route {
    /// What every surface knows of it.
    pub entry: CommandEntry,
    /// Reads the arguments and answers the errand; `None` for commands of the cell, which the exchange answers.
    pub prepare: Option<fn(Value) -> Result<Errand, Fault>>,
}

fn of_cell<C: Command>() -> Route {
    Route { entry: entry::<C>(), prepare: None }
}

fn of<A, C>() -> Route
where
    C: Command,
    A: Resident + Handler<Posted<Ask<C>>>,
{
    Route { entry: entry::<C>(), prepare: Some(prepare::<A, C>) }
}

fn prepare<A, C>(arguments: Value) -> Result<Errand, Fault>
where
    C: Command,
    A: Resident + Handler<Posted<Ask<C>>>,
{
    let command: C = parse_arguments(arguments)?;
    Ok(Box::new(move |directory, target, caller| {
        Box::pin(async move {
            let Some(post) = directory.arrival::<A>(&target, RESTART).await else {
                return Some(Err(Fault::unavailable(format!("the actor of {target} is being restarted; ask again in a moment"))));
            };
            let reply = post.ask(Ask { command, caller }).await?;
            Some(reply.and_then(|r| {
                serde_json::to_value(r).map_err(|e| Fault::internal("an answer could not be written; please report this").because(e))
            }))
        })
    }))
}

/// All commands.
pub fn list() -> Vec<Route> {
    vec![
        of_cell::<InviteHost>(),
        of_cell::<ListMembers>(),
        of_cell::<RevokeMember>(),
        of_cell::<ListHypervisors>(),
        of::<HypervisorActor, ShowHypervisor>(),
        of::<HypervisorActor, ShowInside>(),
        of::<HypervisorActor, ListNodeDevices>(),
        of::<HypervisorActor, ShowLog>(),
        of::<HypervisorActor, SetMaintenance>(),
        of::<HypervisorActor, ShowHostUsage>(),
        of::<HypervisorActor, ListHostUsage>(),
        of_cell::<ListDomains>(),
        of::<DomainActor, ShowDomain>(),
        of::<DomainActor, ShowDomainXml>(),
        of::<DomainActor, ShowDomainUsage>(),
        of::<DomainActor, ListDomainUsage>(),
        of::<HypervisorActor, DefineDomain>(),
        of::<HypervisorActor, CreateDomain>(),
        of::<HypervisorActor, ImportDomain>(),
        of::<DomainActor, CloneDomain>(),
        of::<DomainActor, ExportDomain>(),
        of::<DomainActor, TemplateDomain>(),
        of::<DomainActor, UndefineDomain>(),
        of::<DomainActor, ListDomainVolumes>(),
        of::<DomainActor, StartDomain>(),
        of::<DomainActor, ShutdownDomain>(),
        of::<DomainActor, RebootDomain>(),
        of::<DomainActor, ForceOffDomain>(),
        of::<DomainActor, ResetDomain>(),
        of::<DomainActor, PauseDomain>(),
        of::<DomainActor, ResumeDomain>(),
        of::<DomainActor, AutostartDomain>(),
        of::<DomainActor, RenameDomain>(),
        of::<DomainActor, NoteDomain>(),
        of::<DomainActor, OpenConsole>(),
        of::<DomainActor, ListViewers>(),
        of::<DomainActor, TakeScreenshot>(),
        of::<DomainActor, SendKey>(),
        of::<DomainActor, PasteText>(),
        of::<DomainActor, ShowGuest>(),
        of::<DomainActor, SyncGuestTime>(),
        of::<DomainActor, FreezeGuest>(),
        of::<DomainActor, ThawGuest>(),
        of::<DomainActor, SetGuestPassword>(),
        of::<DomainActor, RunInGuest>(),
        of::<DomainActor, SaveDomain>(),
        of::<DomainActor, DiscardSaved>(),
        of::<DomainActor, ListSnapshots>(),
        of::<DomainActor, CreateSnapshot>(),
        of::<DomainActor, RevertSnapshot>(),
        of::<DomainActor, DeleteSnapshot>(),
        of::<DomainActor, CreateBackup>(),
        of::<DomainActor, ListDomainBackups>(),
        of::<DomainActor, RestoreDomain>(),
        of::<PoolActor, ListBackups>(),
        of::<PoolActor, RestoreBackup>(),
        of::<PoolActor, VerifyBackup>(),
        of::<PoolActor, DeleteBackup>(),
        of::<DomainActor, ListCheckpoints>(),
        of::<DomainActor, DeleteCheckpoint>(),
        of::<DomainActor, ListDevices>(),
        of::<DomainActor, SetVcpus>(),
        of::<DomainActor, SetMemory>(),
        of::<DomainActor, SetCpu>(),
        of::<DomainActor, SetBoot>(),
        of::<DomainActor, SetFirmware>(),
        of::<DomainActor, SetLifecycle>(),
        of::<DomainActor, AttachDisk>(),
        of::<DomainActor, DetachDisk>(),
        of::<DomainActor, SetDisk>(),
        of::<DomainActor, ChangeMedia>(),
        of::<DomainActor, ResizeDisk>(),
        of::<DomainActor, CopyDisk>(),
        of::<DomainActor, CommitDisk>(),
        of::<DomainActor, AttachNic>(),
        of::<DomainActor, DetachNic>(),
        of::<DomainActor, SetNic>(),
        of::<DomainActor, SetGraphics>(),
        of::<DomainActor, SetPassword>(),
        of::<DomainActor, AttachHostDevice>(),
        of::<DomainActor, DetachHostDevice>(),
        of::<DomainActor, AttachFilesystem>(),
        of::<DomainActor, DetachFilesystem>(),
        of::<DomainActor, AddDevice>(),
        of::<DomainActor, RemoveDevice>(),
        of::<HypervisorActor, FindMac>(),
        of::<HypervisorActor, FindUsers>(),
        of::<DomainActor, EditDomainXml>(),
        of::<DomainActor, ListHistory>(),
        of::<DomainActor, DiffDomain>(),
        of::<DomainActor, RevertDomain>(),
        of::<DomainActor, MigrateDomain>(),
        of::<DomainActor, CheckMigration>(),
        of::<DomainActor, ParkDomain>(),
        of::<HypervisorActor, UnparkDomain>(),
        of_cell::<ListParked>(),
        of::<HypervisorActor, DrainHypervisor>(),
        of::<HypervisorActor, PlanDrain>(),
        of::<HypervisorActor, UndrainHypervisor>(),
        of::<HypervisorActor, RemoveCopy>(),
        of::<HypervisorActor, Reserve>(),
        of::<HypervisorActor, Unreserve>(),
        of::<HypervisorActor, Receive>(),
        of::<HypervisorActor, Release>(),
        of::<HypervisorActor, AskStanding>(),
        of::<HypervisorActor, AskPast>(),
        of::<HypervisorActor, Yield>(),
        of::<HypervisorActor, LookAgain>(),
        of::<HypervisorActor, Expel>(),
        of::<HypervisorActor, SendBack>(),
        of_cell::<ListNetworks>(),
        of::<NetworkActor, ShowNetwork>(),
        of::<NetworkActor, StartNetwork>(),
        of::<NetworkActor, StopNetwork>(),
        of::<NetworkActor, AutostartNetwork>(),
        of::<HypervisorActor, DefineNetwork>(),
        of::<NetworkActor, UndefineNetwork>(),
        of::<NetworkActor, ShowNetworkXml>(),
        of::<NetworkActor, ListLeases>(),
        of::<NetworkActor, ListAttached>(),
        of::<NetworkActor, ListHosts>(),
        of::<NetworkActor, AddHost>(),
        of::<NetworkActor, RemoveHost>(),
        of::<NetworkActor, ListNames>(),
        of::<NetworkActor, AddName>(),
        of::<NetworkActor, RemoveName>(),
        of::<NetworkActor, SetRange>(),
        of::<HypervisorActor, ListInterfaces>(),
        of::<HypervisorActor, ListFilters>(),
        of::<HypervisorActor, ShowFilterXml>(),
        of_cell::<ListPools>(),
        of::<PoolActor, ShowPool>(),
        of::<PoolActor, RefreshPool>(),
        of::<PoolActor, StartPool>(),
        of::<PoolActor, StopPool>(),
        of::<PoolActor, AutostartPool>(),
        of::<HypervisorActor, DefinePool>(),
        of::<PoolActor, BuildPool>(),
        of::<PoolActor, DeletePool>(),
        of::<PoolActor, UndefinePool>(),
        of::<PoolActor, ListOrphans>(),
        of::<PoolActor, ListVolumes>(),
        of::<PoolActor, ShowVolume>(),
        of::<PoolActor, ListVolumeUsers>(),
        of::<PoolActor, CreateVolume>(),
        of::<PoolActor, ResizeVolume>(),
        of::<PoolActor, CloneVolume>(),
        of::<PoolActor, ConvertVolume>(),
        of::<PoolActor, WipeVolume>(),
        of::<PoolActor, RenameVolume>(),
        of::<PoolActor, DeleteVolume>(),
        of::<PoolActor, UploadVolume>(),
        of::<PoolActor, DownloadVolume>(),
        of_cell::<ListTasks>(),
        of::<TaskActor, ShowTask>(),
        of::<TaskActor, CancelTask>(),
        of::<TaskActor, WaitTask>(),
    ]
}

/// The catalog of everything listed here.
pub fn catalog() -> Catalog {
    Catalog::of(list().into_iter().map(|r| r.entry).collect())
}
