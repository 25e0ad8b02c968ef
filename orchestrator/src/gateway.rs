//! PID 1's side of the control handshake: checks what the gateway offers, and sets wg0 up for it.

use std::time::{Duration, Instant};

use anyhow::Result;
use tunnel::control::Offer;

use crate::config::Tunnel;
use crate::link::ToRelay;
use crate::network::{Device, Links};
use crate::offer::Assignment;

/// How long the gateway has to speak first.
///
/// It does as soon as it knows our key. An initiation of ours that comes before is lost, one that crosses its own
/// makes both fail, and either way the next is due only 5 s later (REKEY_TIMEOUT).
const GATEWAY_FIRST: Duration = Duration::from_secs(3);

/// What the gateway and we agree on.
pub(crate) struct Gateway {
    tunnel: Tunnel,
    /// What wg0 is set up for.
    current: Option<Assignment>,
    voice: Voice,
}

/// Whether wg0 speaks without being spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// The gateway does not know our key.
    Silent,
    /// The gateway knows it, and has until then to speak first.
    From(Instant),
    /// The keepalive is set.
    Speaking,
}

impl Voice {
    /// A gateway that accepts us again finds us speaking.
    fn accepted(self, now: Instant) -> Self {
        match self {
            Self::Silent => Self::From(now + GATEWAY_FIRST),
            Self::From(_) | Self::Speaking => self,
        }
    }

    fn is_due(self, now: Instant, has_handshake: bool) -> bool {
        matches!(self, Self::From(time) if has_handshake || now >= time)
    }
}

impl Gateway {
    pub(crate) const fn new(tunnel: Tunnel) -> Self {
        Self { tunnel, current: None, voice: Voice::Silent }
    }

    /// Answers an offer; one that repeats the last changes nothing, so that a session survives its relay.
    ///
    /// # Errors
    /// The kernel refused what the measured configuration allows.
    pub(crate) async fn offered(&mut self, offer: &Offer, links: &Links, device: &Device) -> Result<ToRelay> {
        let assignment = match Assignment::check(offer, &self.tunnel, device.public_key) {
            Ok(assignment) => assignment,
            Err(misfit) => {
                tracing::warn!("tunnel: the gateway's offer does not fit the measured configuration: {misfit}");
                return Ok(ToRelay::Rejected);
            }
        };
        if self.current.as_ref() != Some(&assignment) {
            if self.current.as_ref().is_none_or(|current| current.gateway != assignment.gateway) {
                device.set_peer(assignment.gateway)?;
                self.voice = Voice::Silent;
            }
            self.assign(&assignment, links).await?;
            self.current = Some(assignment);
        }
        // The attestation document has its place here.
        Ok(ToRelay::Answer { public_key: device.public_key, document: Vec::new() })
    }

    async fn assign(&self, assignment: &Assignment, links: &Links) -> Result<()> {
        let Assignment { gateway, addresses } = assignment;
        links.assign(&self.tunnel, addresses).await?;
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(%addresses, %gateway, "tunnel: wg0 is set up as the gateway offered");
        Ok(())
    }

    /// The gateway knows our key now.
    pub(crate) fn accepted(&mut self, now: Instant) {
        if self.current.is_some() {
            self.voice = self.voice.accepted(now);
        } else {
            tracing::warn!("tunnel: the gateway accepts what it was never told");
        }
    }

    /// Sets the keepalive once there was a handshake, or should have been.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn speak(&mut self, device: &Device, now: Instant, has_handshake: bool) -> Result<()> {
        if let Some(current) = self.current.as_ref().filter(|_| self.voice.is_due(now, has_handshake)) {
            device.keep_alive(current.gateway, self.tunnel.persistent_keepalive)?;
            self.voice = Voice::Speaking;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wg0_is_silent_until_the_gateway_has_spoken_or_had_its_time() {
        let now = Instant::now();
        assert!(!Voice::Silent.is_due(now, true));
        let accepted = Voice::Silent.accepted(now);
        assert!(!accepted.is_due(now, false));
        assert!(accepted.is_due(now, true));
        assert!(accepted.is_due(now + GATEWAY_FIRST, false));
    }

    #[test]
    fn a_gateway_that_accepts_again_changes_nothing() {
        let now = Instant::now();
        let accepted = Voice::Silent.accepted(now);
        assert_eq!(accepted.accepted(now + Duration::from_secs(1)), accepted);
        assert_eq!(Voice::Speaking.accepted(now), Voice::Speaking);
        assert!(!Voice::Speaking.is_due(now + GATEWAY_FIRST, true));
    }
}
