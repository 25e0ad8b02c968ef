//! The heartbeat: the byte that a booting enclave sends and gets back.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use vsock::{VsockAddr, VsockListener};

use crate::failure::{Failure, Number, Result};

/// aws-nitro-enclaves-cli: `VMADDR_CID_PARENT`.
const PARENT_CID: u32 = 3;
/// `ENCLAVE_READY_VSOCK_PORT`.
const PORT: u32 = 9000;
/// `enclave_proc`: the byte in both directions.
const HEARTBEAT: u8 = 0xb7;
/// `calculate_necessary_timeout`, for images of less than 6 GiB and less than 100 GiB of memory.
const PATIENCE: Duration = Duration::from_secs(120);

/// The listener for the byte.
pub(crate) struct Heartbeat(VsockListener);

impl Heartbeat {
    /// Only one process at a time can listen.
    pub(crate) fn listen() -> Result<Self> {
        let address = VsockAddr::new(PARENT_CID, PORT);
        let failed = Failure::of(Number::EnclaveBoot, "listen for the enclave's heartbeat: vsock port 9000");
        VsockListener::bind(&address).map(Self).map_err(failed)
    }

    /// Waits for the enclave's byte. Like AWS's, it does not notice if the enclave ends in the meantime.
    pub(crate) fn wait(self, cid: u32) -> Result<()> {
        let failed = |why: String| Failure::new(Number::EnclaveBoot, format!("wait for enclave {cid} to boot: {why}"));
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).map_err(|error| failed(error.to_string()))?;
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout).map_err(|error| failed(error.to_string()))? == 0 {
                return Err(failed(format!("no heartbeat within {} s", PATIENCE.as_secs())));
            }
            let (mut stream, peer) = self.0.accept().map_err(|error| failed(error.to_string()))?;
            let mut byte = [0];
            let answer = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
            answer.map_err(|error| failed(error.to_string()))?;
            if byte != [HEARTBEAT] {
                return Err(failed(format!("it sent {byte:02x?}, expected [{HEARTBEAT:02x}]")));
            }
            if peer.cid() == cid {
                return Ok(());
            }
        }
    }
}
