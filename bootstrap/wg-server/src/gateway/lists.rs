//! For which enclaves each list of `egress.lists` is: those that are peers now.

use anyhow::Result;

use super::{Gateway, State};
use crate::config::{Attestation, List};
use crate::enclaves::Enclaves;
use crate::firewall::Members;

impl Gateway {
    /// Closes to peers what is no longer for them. Before the kernel's peers change: an address that moves to another key must
    /// not take the former enclave's lists along.
    pub(super) async fn narrow_lists(&self, state: &State) -> Result<()> {
        self.shared.sets.narrow(&self.members(state)).await
    }

    /// Opens to peers what is for them, and to nobody else. After the kernel's peers have changed.
    pub(super) async fn settle_lists(&self, state: &State) -> Result<()> {
        self.shared.sets.admit(self.members(state)).await
    }

    fn members(&self, state: &State) -> Members {
        members(&self.shared.lists, &self.shared.attestation, &state.enclaves)
    }
}

fn members(lists: &[List], attestation: &Attestation, enclaves: &Enclaves) -> Members {
    let mut members = Members::default();
    for (id, enclave) in enclaves.entries() {
        let Some(peer) = &enclave.peer else { continue };
        // An earlier wg-server may have verified the document. Then the image is not known until the keys are renewed.
        let attested = peer.attested.as_deref();
        let images: Vec<&str> = attested.into_iter().flat_map(|it| attestation.policy.labels(&it.claims)).collect();
        for list in lists.iter().filter(|list| list.is_for(id.cid, &images)) {
            enclave.addresses.all().into_iter().for_each(|address| members.insert(&list.name, address));
        }
    }
    members
}

#[cfg(test)]
mod tests;
