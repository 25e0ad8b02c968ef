//! vsock, the enclave's only connection to the parent. Checked at boot: without it, the relay would dial for ever.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use tunnel::port::Cid;

const VSOCK_PATH: &str = "/dev/vsock";

/// Lower context ids are reserved: hypervisor, local, host (vm_sockets.h).
const FIRST_CID: u32 = 3;

/// Checks the device; returns the machine's context id.
pub(super) fn check() -> Result<Cid> {
    let device = File::open(VSOCK_PATH).context(VSOCK_PATH)?;
    let cid = crate::sys::local_cid(&device).with_context(|| format!("{VSOCK_PATH}: ask for the context id"))?;
    ensure!(
        (FIRST_CID..u32::MAX).contains(&cid),
        "{VSOCK_PATH}: the context id is {cid}: this machine has no vsock device"
    );
    tracing::info!(cid, "vsock");
    Ok(Cid(cid))
}
