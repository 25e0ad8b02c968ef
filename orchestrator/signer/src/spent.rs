//! What has been spent since this process started: nonces and windows, both or neither.

use thiserror::Error;
use tokio::time::Instant;

use crate::nonces::{NonceError, NonceMetrics, Nonces, Payer, Wanted};
use crate::windows::{Plan, Spending, WindowError, WindowMetrics, Windows};

/// The memory of both, which is behind one lock.
#[derive(Debug)]
pub struct Spent {
    nonces: Nonces,
    windows: Windows,
}

/// Why something cannot be spent. Nothing has been spent then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpendError {
    /// Its nonce.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// What it adds to a window.
    #[error(transparent)]
    Window(#[from] Box<WindowError>),
}

impl Spent {
    /// An empty memory.
    #[must_use]
    pub fn new(nonces: Nonces, windows: Windows) -> Self {
        Self { nonces, windows }
    }

    /// Spends a nonce, if it is wanted, and what is signed with it of its windows, if there are any. The same request may come again.
    ///
    /// # Errors
    /// One of them cannot be spent.
    pub fn spend(
        &mut self,
        payer: Payer<'_>,
        nonce: Option<&Wanted<'_>>,
        windows: Option<&Spending<'_>>,
        now: Instant,
    ) -> Result<(), SpendError> {
        let plan = windows.map(|spending| self.windows.plan(spending, now)).transpose()?;
        if let Some(wanted) = nonce {
            self.nonces.spend(payer, wanted)?;
        }
        if let Some(plan) = plan {
            self.windows.spend(plan);
        }
        Ok(())
    }

    /// Checks that all windows have room here, before a ledger is asked.
    pub(crate) fn plan<'a>(&mut self, spending: &Spending<'a>, now: Instant) -> Result<Plan<'a>, SpendError> {
        Ok(self.windows.plan(spending, now)?)
    }

    /// Counts what a ledger has counted, so that the same request counts once.
    pub(crate) fn count(&mut self, plan: Plan<'_>) {
        self.windows.spend(plan);
    }

    /// Drops what no window counts any more.
    pub fn expire(&mut self, now: Instant) {
        self.windows.expire(now);
    }

    /// Metrics of both.
    #[must_use]
    pub fn metrics(&self, now: Instant) -> (NonceMetrics, WindowMetrics) {
        (self.nonces.metrics(), self.windows.metrics(now))
    }
}
