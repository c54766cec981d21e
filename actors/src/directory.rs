//! From an id to the way to its actor as it lives now. An address dies with its actor and changes with every restart, so
//! everybody asks here each time. It is a value that is passed around, never a global.

use crate::{
    domain::DomainActor,
    hypervisor::HypervisorActor,
    life::{Life, Post},
    network::NetworkActor,
    storage_pool::PoolActor,
    task::TaskActor,
};
use actix::{Actor, Context};
use archipel_contract::{DomainId, EntityId, HypervisorName, NetworkId, PoolId, TaskId};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// All ways, by noun.
#[derive(Default)]
pub struct Shelves {
    hypervisors: HashMap<HypervisorName, Post<HypervisorActor>>,
    domains: HashMap<DomainId, Post<DomainActor>>,
    networks: HashMap<NetworkId, Post<NetworkActor>>,
    pools: HashMap<PoolId, Post<PoolActor>>,
    tasks: HashMap<TaskId, Post<TaskActor>>,
}

/// An actor that can be found by the id of its entity.
pub trait Resident: Actor<Context = Context<Self>> {
    /// The noun's own id.
    type Key: Eq + Hash + Clone + Send + 'static;
    /// The key in an entity's id, if it is of this noun.
    fn key(id: &EntityId) -> Option<Self::Key>;
    /// Where its kind stands.
    fn shelf(shelves: &Shelves) -> &HashMap<Self::Key, Post<Self>>;
    /// The same, to be changed.
    fn shelf_mut(shelves: &mut Shelves) -> &mut HashMap<Self::Key, Post<Self>>;
}

macro_rules! resident {
    ($actor:ty, $key:ty, $kind:ident, $shelf:ident) => {
        impl Resident for $actor {
            type Key = $key;
            fn key(id: &EntityId) -> Option<$key> {
                if let EntityId::$kind(key) = id { Some(key.clone()) } else { None }
            }
            fn shelf(shelves: &Shelves) -> &HashMap<$key, Post<Self>> {
                &shelves.$shelf
            }
            fn shelf_mut(shelves: &mut Shelves) -> &mut HashMap<$key, Post<Self>> {
                &mut shelves.$shelf
            }
        }
    };
}
resident!(HypervisorActor, HypervisorName, Hypervisor, hypervisors);
resident!(DomainActor, DomainId, Domain, domains);
resident!(NetworkActor, NetworkId, Network, networks);
resident!(PoolActor, PoolId, StoragePool, pools);
resident!(TaskActor, TaskId, Task, tasks);

/// Who lives where.
#[derive(Default)]
pub struct Directory {
    shelves: RwLock<Shelves>,
    arrivals: Notify,
}

impl Directory {
    /// The way to an actor, if it lives.
    pub fn find<A: Resident>(&self, id: &EntityId) -> Option<Post<A>> {
        let key = A::key(id)?;
        A::shelf(&self.shelves.read()).get(&key).cloned()
    }

    /// Whether the actor of this entity lives.
    pub fn lives(&self, id: &EntityId) -> bool {
        let shelves = self.shelves.read();
        match id {
            EntityId::Hypervisor(name) => shelves.hypervisors.contains_key(name),
            EntityId::Domain(id) => shelves.domains.contains_key(id),
            EntityId::Network(id) => shelves.networks.contains_key(id),
            EntityId::StoragePool(id) => shelves.pools.contains_key(id),
            EntityId::Task(id) => shelves.tasks.contains_key(id),
        }
    }

    /// An actor begins.
    pub fn enter<A: Resident>(&self, id: &EntityId, post: Post<A>) {
        if let Some(key) = A::key(id) {
            A::shelf_mut(&mut self.shelves.write()).insert(key, post);
            self.arrivals.notify_waiters();
        }
    }

    /// An actor ended. A life that was replaced already is left alone.
    pub fn leave(&self, id: &EntityId, life: &Arc<Life>) {
        fn remove<A: Resident>(shelves: &mut Shelves, id: &EntityId, life: &Arc<Life>) -> Option<Post<A>> {
            let key = A::key(id)?;
            let shelf = A::shelf_mut(shelves);
            if shelf.get(&key).is_some_and(|p| p.is_of(life)) { shelf.remove(&key) } else { None }
        }
        // The removed way is dropped after the lock: it may be the last, and then the actor's own end begins.
        let mut shelves = self.shelves.write();
        let _kept: (Option<_>, Option<_>, Option<_>, Option<_>, Option<_>) = (
            remove::<HypervisorActor>(&mut shelves, id, life),
            remove::<DomainActor>(&mut shelves, id, life),
            remove::<NetworkActor>(&mut shelves, id, life),
            remove::<PoolActor>(&mut shelves, id, life),
            remove::<TaskActor>(&mut shelves, id, life),
        );
        drop(shelves);
    }

    /// The way to an actor that lives or begins within that time.
    pub async fn arrival<A: Resident>(&self, id: &EntityId, within: Duration) -> Option<Post<A>> {
        let wait = async {
            loop {
                let mut news = std::pin::pin!(self.arrivals.notified());
                news.as_mut().enable();
                if let Some(post) = self.find(id) {
                    return post;
                }
                news.await;
            }
        };
        tokio::time::timeout(within, wait).await.ok()
    }
}
