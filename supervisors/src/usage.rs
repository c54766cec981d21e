//! What the machines of an agent take, as seen from other threads.

use crate::tree::Agent;
use archipel_actors::usage::View;
use archipel_contract::{
    HypervisorName,
    usage::{Figures, Sample},
};
use std::sync::Arc;

impl Agent {
    /// What the machines of one hypervisor take, for whoever looks.
    pub fn figures_of(&self, host: &HypervisorName) -> Option<Arc<dyn Figures>> {
        self.usages.iter().find(|(name, _)| name == host).map(|(_, usage)| Arc::new(View(usage.clone())) as Arc<dyn Figures>)
    }

    /// What was measured last on each hypervisor, unless it is old; `renew`: another sample is made for whoever asks next.
    pub fn glance(&self, renew: bool) -> Vec<(HypervisorName, Arc<Sample>)> {
        self.usages.iter().filter_map(|(name, usage)| Some((name.clone(), usage.glance(renew)?))).collect()
    }
}
