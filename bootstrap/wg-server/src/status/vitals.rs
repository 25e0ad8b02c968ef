//! What the watchdog judges an enclave by.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::unix_seconds;
use crate::enclave_id::EnclaveId;
use crate::gateway::Gateway;
use crate::health::{Health, Topic};

/// One enclave, connected or not, and what else could explain that it does not work.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vitals {
    pub(crate) has_control: bool,
    pub(crate) has_data: bool,
    pub(crate) is_peer: bool,
    /// In seconds since 1970.
    pub(crate) latest_handshake: Option<u64>,
    /// The address of an enclave that has proved to have a signer.
    pub(crate) signer: Option<IpAddr>,
    /// Why its last document was refused.
    pub(crate) refused: Option<String>,
    /// Problems of this host without which tunnels do not work.
    pub(crate) tunnel_problems: Vec<String>,
    /// Problems of this host with which a signer may not be reached.
    pub(crate) path_problems: Vec<String>,
}

impl Vitals {
    /// Those of the enclave with this CID on this host.
    pub(crate) async fn of(gateway: &Gateway, health: &Health, cid: u32) -> Self {
        let mut tunnel_problems = health.problems_of(&[Topic::Firewall, Topic::Interface]);
        let peers = gateway.interface().peers().await.unwrap_or_else(|error| {
            tunnel_problems.push(format!("{error:#}"));
            Vec::new()
        });
        let seen = gateway.seen().await;
        let is_it = |id: &EnclaveId| id.via.is_none() && id.cid.0 == cid;
        let enclave = seen.iter().find(|seen| is_it(&seen.id)).map(|seen| &seen.enclave);
        let member = enclave.and_then(|enclave| enclave.peer.as_ref());
        let peer = member.and_then(|member| peers.iter().find(|peer| peer.public_key == member.public_key));
        let attested = member.and_then(|member| member.attested.as_ref());
        let has_signer = attested.is_some_and(|attested| attested.binding.tls_key.is_some());
        let refused = gateway.refusals().await.into_iter().find(|(id, _)| is_it(id)).map(|(_, reason)| reason);
        Self {
            has_control: enclave.is_some_and(|enclave| enclave.streams.control().is_some()),
            has_data: enclave.is_some_and(|enclave| enclave.streams.data().is_some()),
            is_peer: member.is_some(),
            latest_handshake: peer.and_then(|peer| peer.latest_handshake).map(unix_seconds),
            signer: enclave.filter(|_| has_signer).and_then(|enclave| enclave.addresses.all().first().copied()),
            refused,
            tunnel_problems,
            path_problems: health.problems_of(&[Topic::ForeignFirewall, Topic::Connections]),
        }
    }
}
