//! PID 1's child processes, and whether each is restarted when it ends.

use std::fmt;

use service::{Restart, Service};

use super::reaper::How;
use crate::role::Role;

/// A child process of PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Child {
    Role(Role),
    Service(&'static Service),
}

impl Child {
    pub(super) const fn user(self) -> u32 {
        match self {
            Self::Role(role) => role.user(),
            Self::Service(service) => service.user,
        }
    }

    /// Whether PID 1 restarts it after this end. It restarts roles always.
    pub(super) const fn starts_again(self, how: &How) -> bool {
        match self {
            Self::Role(_) | Self::Service(Service { restart: Restart::Always, .. }) => true,
            Self::Service(Service { restart: Restart::OnFailure, .. }) => !matches!(how, How::Exited(0)),
            Self::Service(Service { restart: Restart::Never, .. }) => false,
        }
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn what_ends_is_started_again_as_its_configuration_says() {
        let service = |restart| Child::Service(Box::leak(Box::new(Service { restart, ..Service::default() })));
        let again = |child: Child| {
            [How::Exited(0), How::Exited(1), How::Killed(Signal::SIGKILL)].map(|how| child.starts_again(&how))
        };
        assert_eq!(again(Child::Role(Role::Relay)), [true; 3]);
        assert_eq!(again(service(Restart::Always)), [true; 3]);
        assert_eq!(again(service(Restart::OnFailure)), [false, true, true]);
        assert_eq!(again(service(Restart::Never)), [false; 3]);
    }
}
