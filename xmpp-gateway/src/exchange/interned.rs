//! Texts that many entities share (`kvm`, `booted`, ...), kept once. Bounded, so that a node cannot fill the memory with them.

use archipel_contract::Facts;
use std::collections::HashSet;
use std::sync::Arc;

/// How many are kept.
const MAX_WORDS: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Words(HashSet<Arc<str>>);

impl Words {
    /// Replaces the words in these facts by the copies that are kept.
    pub(super) fn share(&mut self, facts: &mut Facts) {
        match facts {
            Facts::Domain(f) => {
                self.word(&mut f.virtualization);
                if let Some(reason) = &mut f.reason {
                    self.word(reason);
                }
            }
            Facts::Network(f) => self.word(&mut f.forward),
            Facts::StoragePool(f) => self.word(&mut f.pool_type),
            Facts::Task(f) => {
                self.word(&mut f.command);
                self.word(&mut f.caller);
            }
            Facts::Hypervisor(_) => {}
        }
    }

    fn word(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.0.get(&**text) {
            *text = known.clone();
        } else if text.len() <= 64 && self.0.len() < MAX_WORDS {
            self.0.insert(text.clone());
        }
    }
}
