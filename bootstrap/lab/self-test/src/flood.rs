//! Connection requests in a number that no honest peer sends: each makes the other side's kernel queue a reply.
//!
//! Two guests that do this to each other, wired back to back, are the `queued_replies` deadlock of Linux 6.12
//! (enclave-kernel/patches).

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

/// Sends `count` connection requests without waiting for any answer, `after` that time.
///
/// The port should be one that nobody listens on.
///
/// # Errors
/// No vsock, or one that refuses at once.
pub async fn flood(cid: u32, port: u32, count: u32, after: Duration) -> Result<()> {
    tokio::time::sleep(after).await;
    let address = VsockAddr::new(cid, port);
    for _ in 0..count {
        let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)
            .map_err(io::Error::from)
            .context("open a vsock socket")?;
        match connect(socket.as_raw_fd(), &address) {
            // The socket goes at once, the request stays on its way.
            Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNRESET) => {}
            Err(error) => {
                return Err(io::Error::from(error)).with_context(|| format!("connect to vsock CID {cid} port {port}"));
            }
        }
    }
    Ok(())
}
