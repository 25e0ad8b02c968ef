//! The enclave's side of the key exchange: makes keys for each offer, has the NSM sign a document over them, and
//! switches wg0 to them once the gateway has accepted them.
//!
//! Every exchange makes new keys: the first, each renewal that the gateway asks for, and each reconnect. The old keys
//! stay in use until the gateway accepts the new ones, so a failed exchange costs nothing.

use anyhow::{Context, Result};
use binding::tunnel::{Binding, kem_key_digest};
use tunnel::control::{Answer, KemCiphertext, Offer, PublicKey, ToGateway};
use tunnel::internal::ToRelay;
use tunnel::port::Cid;
use tunnel::preshared::Decapsulator;
use wireguard::link::Netlink;

use crate::assignment::Assignment;
use crate::config::Config;
use crate::network::{self, Device, KeyPair, Session};
use crate::nsm::Nsm;

/// The state of the exchange with the gateway.
pub(crate) struct KeyExchange {
    config: Config,
    nsm: Nsm,
    cid: Cid,
    /// SHA-256 of the signer's TLS key; none before the signer is ready.
    tls_key: Option<[u8; 32]>,
    /// The last exchange that the gateway accepted.
    current: Option<Current>,
    /// The last answer, until the gateway accepts or refuses it.
    pending: Option<Pending>,
}

/// What wg0 is configured for.
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

    /// Sets the TLS key that every later document binds.
    pub(crate) const fn set_tls_key(&mut self, tls_key: [u8; 32]) {
        self.tls_key = Some(tls_key);
    }

    /// Answers an offer with new keys and the NSM's document over them; does not change wg0.
    pub(crate) async fn answer(&mut self, offer: Offer) -> ToRelay {
        self.pending = None;
        let own = self.current.as_ref().map(|current| current.public_key);
        let assignment = match Assignment::check(&offer, &self.config.tunnel, own) {
            Ok(assignment) => assignment,
            Err(misfit) => {
                tracing::warn!("tunnel: the gateway's offer does not fit the measured configuration: {misfit}");
                return ToRelay::Rejected;
            }
        };
        match self.make_answer(offer, assignment).await {
            Ok(answer) => ToRelay::Send(ToGateway::Answer(answer)),
            Err(error) => {
                tracing::error!("tunnel: answer the gateway's offer: {error:#}");
                ToRelay::Rejected
            }
        }
    }

    async fn make_answer(&mut self, offer: Offer, assignment: Assignment) -> Result<Answer> {
        let keys = KeyPair::generate()?;
        let (decapsulator, kem_key) = Decapsulator::generate()?;
        let binding = Binding {
            public_key: keys.public,
            kem_key: kem_key_digest(&kem_key),
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

    /// Switches wg0 to the keys of the last answer, which the gateway has accepted, and sends first.
    ///
    /// # Errors
    /// The kernel refused what the measured configuration allows.
    pub(crate) async fn accept(
        &mut self,
        ciphertext: &KemCiphertext,
        netlink: &Netlink,
        device: &Device,
    ) -> Result<()> {
        let Some(Pending { offer, assignment, keys, decapsulator }) = self.pending.take() else {
            tracing::warn!("tunnel: unexpected Accepted message: no exchange is pending");
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
        let what = if is_same_peer { "new keys" } else { "configured as offered" };
        tracing::info!(%public_key, %addresses, gateway = %assignment.gateway, "tunnel: wg0: {what}");
        self.current = Some(Current { assignment, public_key });
        Ok(())
    }

    /// Drops the keys of the last answer, which the gateway has refused.
    pub(crate) fn refuse(&mut self) {
        self.pending = None;
        tracing::warn!("tunnel: the gateway refuses this enclave");
    }
}
