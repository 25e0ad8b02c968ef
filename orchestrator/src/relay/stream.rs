//! A stream to the parent that is dialled again whenever it ends.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock::{self, Stream};

use super::retry::Retry;

/// For the connection, and once more for the preface.
const DEADLINE: Duration = Duration::from_secs(2);

/// Dials, has `serve` use the stream until it says why the stream ended, and dials again.
///
/// # Errors
/// Those of `serve`: no further stream is of use.
pub(super) async fn keep_open(role: Role, mut serve: impl AsyncFnMut(Stream) -> Result<String>) -> Result<Infallible> {
    let (name, port) = match role {
        Role::Data => ("data", Port::DATA),
        Role::Control => ("control", Port::CONTROL),
    };
    let mut retry = Retry::new(name);
    loop {
        match dial(role, port).await {
            Ok(stream) => {
                let start = Instant::now();
                retry.connected(start);
                let reason = serve(stream).await.context(name)?;
                retry.pause(reason, Some(start.elapsed())).await;
            }
            Err(error) => retry.pause(format_args!("{error:#}"), None).await,
        }
    }
}

async fn dial(role: Role, port: Port) -> Result<Stream> {
    let mut stream = vsock::connect(Cid::PARENT, port, DEADLINE).await?;
    let exchange = Preface::new(role).exchange(&mut stream);
    timeout(DEADLINE, exchange).await.context("wait for the preface")?.context("exchange prefaces")?;
    Ok(stream)
}
