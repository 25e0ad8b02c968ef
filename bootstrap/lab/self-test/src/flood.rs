//! A flood of connection requests: each makes the other side's kernel queue a reply.
//!
//! Two guests that do this to each other, wired back to back, are the `queued_replies` deadlock of Linux 6.12
//! (enclave-kernel/patches).

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

/// Sends `count` connection requests after the delay `after`, without waiting for answers.
///
/// No one should listen on the port.
///
/// # Errors
/// If there is no vsock, or it refuses at once.
pub async fn flood(cid: u32, port: u32, count: u32, after: Duration) -> Result<()> {
    tokio::time::sleep(after).await;
    let address = VsockAddr::new(cid, port);
    for _ in 0..count {
        let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)
            .map_err(io::Error::from)
            .context("open a vsock socket")?;
        match connect(socket.as_raw_fd(), &address) {
            // The socket is closed at once; the request is still sent.
            Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNRESET) => {}
            Err(error) => {
                return Err(io::Error::from(error)).with_context(|| format!("connect to vsock CID {cid} port {port}"));
            }
        }
    }
    Ok(())
}
