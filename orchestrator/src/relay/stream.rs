//! A stream to the parent that is dialled again whenever it ends.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tunnel::log;
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
pub(super) async fn keep_open(
    name: &'static str,
    dial: impl AsyncFn() -> Result<Stream>,
    mut serve: impl AsyncFnMut(Stream) -> Result<String>,
) -> Result<Infallible> {
    let mut retry = Retry::new(name);
    loop {
        match dial().await {
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

/// Opens the data or the control stream.
pub(super) async fn dial(role: Role) -> Result<Stream> {
    let port = match role {
        Role::Data => Port::DATA,
        Role::Control => Port::CONTROL,
    };
    let mut stream = vsock::connect(Cid::PARENT, port, DEADLINE).await?;
    let exchange = Preface::new(role).exchange(&mut stream);
    timeout(DEADLINE, exchange).await.context("wait for the preface")?.context("exchange prefaces")?;
    Ok(stream)
}

/// Opens the log stream, on which the parent answers nothing.
pub(super) async fn dial_log() -> Result<Stream> {
    let mut stream = vsock::connect(Cid::PARENT, Port::LOG, DEADLINE).await?;
    timeout(DEADLINE, stream.write_all(&log::HEADER)).await.context("send the header")?.context("send the header")?;
    Ok(stream)
}
