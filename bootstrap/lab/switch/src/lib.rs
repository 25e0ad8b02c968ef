//! The vsock switch: plays the Nitro hypervisor between the parent VM and the enclave VMs, and injects faults on
//! command.
//!
//! # virtio-vsock for readers who know sockets
//!
//! A vsock socket has an address of a context id and a port, where TCP has an IP address and a port. Programs call
//! `connect`, `accept`, `send` and `shutdown` on it as on TCP. There is no network below it: the guest's kernel hands
//! packets to a device, and the hypervisor carries them to the other guest. This crate is that device, for every
//! guest.
//!
//! **The device.** A virtio device and its driver share rings in the guest's memory (*virtqueues*). The driver puts a
//! *chain* of buffers into a ring and *kicks* the device. The device uses the buffers, marks the chain as *used* and
//! *interrupts* the guest. A vsock device has three rings. A chain of the transmit ring holds one packet from the
//! guest. A chain of the receive ring is empty: the device fills it. The event ring reports migrations, which the lab
//! does not have.
//!
//! **vhost-user.** QEMU shows the device to the guest, but leaves its rings to another process: it connects to that
//! process's Unix socket and sends file descriptors for the guest's memory, the kicks and the interrupts. From then
//! on the switch reads and writes the rings itself. QEMU keeps the event ring.
//!
//! **A packet** is a header of 44 bytes (see `packet::Header`) and up to 64 KiB of payload. The header has the
//! addresses of both ends, an operation, and the sender's credit.
//!
//! **Credit** is the flow control of one direction of one connection. Each header announces the size of its sender's
//! receive buffer (`buf_alloc`) and how many bytes the application has taken out of that buffer since the connection
//! began (`fwd_cnt`). The other end may have at most `buf_alloc` bytes under way, that is, sent but not yet in
//! `fwd_cnt`. An end that runs out of credit waits for a header with more, and may ask for one.
//!
//! **A connection's life:**
//!
//! ```text
//! opener                        listener
//!   Request  ------------------->          nobody listens: Reset
//!            <-------------------  Response
//!   Data     <------------------>  Data    CreditUpdate and CreditRequest whenever they are needed
//!   Shutdown ------------------->          flags: sends no more, receives no more, or both. If both:
//!            <-------------------  Reset   the end; either side may also send it at any time
//! ```
//!
//! Nothing is ever sent again: a device delivers each packet, in order, or resets the connection. So a fault delays a
//! direction, changes a byte, or resets.
//!
//! # The parts
//!
//! One process has one vhost-user socket for each guest (`DIR/vsock-CID.sock`, QEMU connects to it) and one control
//! socket (`DIR/switch.sock`) for faults.
//!
//! ```text
//! QEMU --vhost-user--> device --+
//! QEMU --vhost-user--> device --+--> hub --> engine --> router
//! lab fault ---------> control -+
//! ```
//!
//! | file         | content                                                             |
//! |--------------|---------------------------------------------------------------------|
//! | `device`     | one guest's device: the vhost-user messages                         |
//! | `control`    | the control socket                                                  |
//! | `fault`      | the lines of the control socket                                     |
//! | `hub`        | the engine under one lock, with a clock                             |
//! | `engine`     | moves packets between rings                                         |
//! | `ring`       | chains out of a ring, used buffers and interrupts back              |
//! | `buffer`     | the buffers of one chain                                            |
//! | `router`     | what happens to a packet: connections, resets, faults. No I/O       |
//! | `connection` | the open connections                                                |
//! | `shaper`     | what a fault does to one direction: what to hold, when to let it go |
//! | `packet`     | the header on the wire                                              |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

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

pub use self::control::{ask, socket_path as control_socket_path};
pub use self::fault::{ConnectionState, Fault, FaultState, Filter, GuestState, Request, Response, State, Traffic};
pub use self::packet::Address;

/// The folder and the guests of a switch.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of its sockets
    #[arg(long)]
    pub dir: PathBuf,
    /// CID of a guest; once for each guest
    #[arg(long = "cid", required = true, value_parser = parse_cid)]
    pub cids: Vec<Cid>,
}

/// Runs the switch until one of its parts fails. Guests may connect and disconnect.
///
/// # Errors
/// The part that failed.
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

/// Starts a part of the switch. The switch ends when a part ends.
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
        Ok(_) | Err(_) => Err("expected a CID from 3 to 4294967294".to_owned()),
    }
}
