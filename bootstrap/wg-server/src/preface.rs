//! The first bytes of a connection, and how long wg-server waits for them.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tunnel::preface::{Preface, Role};

/// From the connection to the end of the peer's preface.
const DEADLINE: Duration = Duration::from_secs(5);

/// Exchanges prefaces. Refuses a peer of another role.
pub(crate) async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), role: Role) -> Result<()> {
    Preface::new(role).exchange(stream).await.context("exchange prefaces")
}

/// Waits for the first bytes, and not for ever.
pub(crate) async fn within_deadline<T>(first_bytes: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(DEADLINE, first_bytes).await.context("wait for the preface")?
}
