//! PID 1's side of the control handshake: makes keys for what the gateway offers, has the module vouch for them, and takes
//! them into use once the gateway knows them.
//!
//! Every exchange makes new keys: the first, each renewal that the gateway asks for, and each reconnect. Until the gateway has
//! accepted them the old ones stay in use, so that an exchange that fails costs nothing.

use anyhow::{Context, Result};
use tunnel::binding::{self, Binding};
use tunnel::control::{Answer, KemCiphertext, Offer, PublicKey, ToGateway};
use tunnel::internal::ToRelay;
use tunnel::port::Cid;
use tunnel::preshared::Decapsulator;
use wireguard::link::Netlink;

use crate::assignment::Assignment;
use crate::config::Config;
use crate::network::{self, Device, KeyPair, Session};
use crate::nsm::Nsm;

/// What the gateway and we agree on.
pub(crate) struct KeyExchange {
    config: Config,
    nsm: Nsm,
    cid: Cid,
    /// The signer's, while there is one.
    tls_key: Option<[u8; 32]>,
    /// What wg0 is set up for.
    current: Option<Current>,
    /// An answer that the gateway has not accepted yet.
    pending: Option<Pending>,
}

/// What wg0 is set up for.
struct Current {
    assignment: Assignment,
    public_key: PublicKey,
}

/// One exchange under way.
struct Pending {
    offer: Offer,
    assignment: Assignment,
    keys: KeyPair,
    decapsulator: Decapsulator,
}

impl KeyExchange {
    pub(crate) const fn new(config: Config, nsm: Nsm, cid: Cid) -> Self {
        Self { config, nsm, cid, tls_key: None, current: None, pending: None }
    }

    /// The security module.
    pub(crate) const fn nsm(&self) -> &Nsm {
        &self.nsm
    }

    /// The documents from now on bind this TLS key too.
    pub(crate) const fn set_tls_key(&mut self, tls_key: [u8; 32]) {
        self.tls_key = Some(tls_key);
    }

    /// Answers an offer with new keys and the module's document over them; wg0 stays as it is.
    pub(crate) async fn offered(&mut self, offer: Offer) -> ToRelay {
        self.pending = None;
        let own = self.current.as_ref().map(|current| current.public_key);
        let assignment = match Assignment::check(&offer, &self.config.tunnel, own) {
            Ok(assignment) => assignment,
            Err(misfit) => {
                tracing::warn!("tunnel: the gateway's offer does not fit the measured configuration: {misfit}");
                return ToRelay::Rejected;
            }
        };
        match self.prove(offer, assignment).await {
            Ok(answer) => ToRelay::Send(ToGateway::Answer(answer)),
            Err(error) => {
                tracing::error!("tunnel: answer the gateway's offer: {error:#}");
                ToRelay::Rejected
            }
        }
    }

    async fn prove(&mut self, offer: Offer, assignment: Assignment) -> Result<Answer> {
        let keys = KeyPair::generate()?;
        let (decapsulator, kem_key) = Decapsulator::generate()?;
        let binding = Binding {
            public_key: keys.public,
            kem_key: binding::kem_key_digest(&kem_key),
            tls_key: self.tls_key,
            config: self.config.digest,
            gateway: offer.public_key,
            cid: self.cid,
        };
        let document = self.nsm.attest(offer.nonce, binding.encode().to_vec()).await?;
        let answer = Answer { public_key: keys.public, kem_key, document };
        self.pending = Some(Pending { offer, assignment, keys, decapsulator });
        Ok(answer)
    }

    /// The gateway knows the keys of the last answer: wg0 gets them, and speaks.
    ///
    /// # Errors
    /// The kernel refused what the measured configuration allows.
    pub(crate) async fn accepted(
        &mut self,
        ciphertext: &KemCiphertext,
        netlink: &Netlink,
        device: &Device,
    ) -> Result<()> {
        let Some(Pending { offer, assignment, keys, decapsulator }) = self.pending.take() else {
            tracing::warn!("tunnel: the gateway accepts what it was never told");
            return Ok(());
        };
        let public_key = keys.public;
        let preshared_key = decapsulator.open(ciphertext, &offer, public_key).context("the gateway's ciphertext")?;
        let former = self.current.as_ref().map(|current| &current.assignment);
        if former != Some(&assignment) {
            network::assign(netlink, &self.config.tunnel, &assignment.addresses).await?;
        }
        let is_same_peer = former.is_some_and(|former| former.gateway == assignment.gateway);
        let keepalive = self.config.tunnel.persistent_keepalive;
        device.start(&keys, &Session { gateway: assignment.gateway, preshared_key, keepalive, is_same_peer })?;
        let addresses = assignment.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = if is_same_peer { "new keys" } else { "set up as the gateway offered" };
        tracing::info!(%public_key, %addresses, gateway = %assignment.gateway, "tunnel: wg0: {what}");
        self.current = Some(Current { assignment, public_key });
        Ok(())
    }

    /// The gateway does not want the keys of the last answer: those in use stay.
    pub(crate) fn refused(&mut self) {
        self.pending = None;
        tracing::warn!("tunnel: the gateway refuses this enclave");
    }
}
