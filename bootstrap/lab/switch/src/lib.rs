//! The vsock switch: plays the Nitro hypervisor between the parent VM and the enclave VMs.
//!
//! One process, one vhost-user socket per guest (`DIR/vsock-CID.sock`, QEMU connects to it), one control
//! socket (`DIR/switch.sock`) for faults on command.
//!
//! ```text
//! QEMU --vhost-user--> device --+                      packet  the header
//! QEMU --vhost-user--> device --+--> hub --> engine --> router  what happens to a packet
//! lab fault ---------> control -+           (rings)    shaper  faults of one direction
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod buffer;
mod connection;
mod control;
mod device;
mod engine;
mod fault;
mod hub;
mod packet;
mod ring;
mod router;
mod shaper;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use tracing::info;
use tunnel::port::Cid;

use self::hub::Hub;

/// Asks the switch that runs in a folder.
pub use self::control::{ask, socket_path as control_socket_path};
/// What can be asked, and the answers.
pub use self::fault::{ConnectionState, Fault, FaultState, Filter, GuestState, Request, Response, State, Traffic};
/// One end of a connection.
pub use self::packet::Address;

/// Where a switch lives and for whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The folder of its sockets.
    #[arg(long)]
    pub dir: PathBuf,
    /// A guest it serves; once for each.
    #[arg(long = "cid", required = true, value_parser = parse_cid)]
    pub cids: Vec<Cid>,
}

/// Runs the switch until one of its parts cannot go on. Guests may come and go.
pub fn run(options: Options) -> anyhow::Result<()> {
    let Options { dir, mut cids } = options;
    cids.sort_unstable();
    cids.dedup();
    let hub = Arc::new(Hub::new(&cids));
    let (ended, end) = mpsc::channel();

    let control_path = control_socket_path(&dir);
    if control_path.exists() {
        std::fs::remove_file(&control_path).with_context(|| format!("remove {}", control_path.display()))?;
    }
    let listener =
        UnixListener::bind(&control_path).with_context(|| format!("listen on {}", control_path.display()))?;

    for &cid in &cids {
        let socket_path = guest_socket_path(&dir, cid);
        let hub = Arc::clone(&hub);
        start(format!("guest {cid}"), &ended, move || device::serve(cid, &socket_path, &hub))?;
    }
    let clock = Arc::clone(&hub);
    start("clock".to_owned(), &ended, move || clock.keep_time())?;
    start("control".to_owned(), &ended, move || control::serve(&listener, &hub))?;
    info!(dir = %dir.display(), ?cids, "switch runs");

    drop(ended);
    end.recv().context("every part of the switch panicked")?
}

/// The vhost-user socket of a guest's vsock device, in the switch's folder.
pub fn guest_socket_path(dir: &Path, cid: Cid) -> PathBuf {
    dir.join(format!("vsock-{cid}.sock"))
}

/// Starts a part of the switch; when it ends, so does the switch.
fn start(
    name: String,
    ended: &mpsc::Sender<anyhow::Result<()>>,
    part: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let ended = ended.clone();
    thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let result = part().with_context(|| format!("switch: {name}"));
            // Nobody receives it if another part ended first.
            drop(ended.send(result));
        })
        .context("start a thread of the switch")?;
    Ok(())
}

fn parse_cid(text: &str) -> Result<Cid, String> {
    match text.parse() {
        Ok(cid @ 3..=0xffff_fffe) => Ok(Cid(cid)),
        Ok(_) | Err(_) => Err("a guest's CID is a number from 3 to 4294967294".to_owned()),
    }
}
