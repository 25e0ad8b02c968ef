//! vsock: the enclave's only way out must exist before anything tries it for ever.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use tunnel::port::Cid;

const VSOCK_PATH: &str = "/dev/vsock";

/// Context ids below this are nobody's own: hypervisor, local, host (vm_sockets.h).
const FIRST_CID: u32 = 3;

/// Checks the device; the context id that its transport gave this machine.
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
