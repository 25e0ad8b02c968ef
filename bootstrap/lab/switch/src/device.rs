//! One guest's vsock device, as QEMU talks to it over vhost-user.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tracing::{info, warn};
use tunnel::port::Cid;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserBackend, VhostUserDaemon, VringMutex, VringT};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::hub::Hub;
use super::ring::Rings;

/// The vhost-user backend for one connection of QEMU.
struct Device {
    cid: Cid,
    hub: Arc<Hub>,
    memory: Mutex<Option<GuestMemoryAtomic<GuestMemoryMmap>>>,
    exit: Mutex<Option<(EventConsumer, EventNotifier)>>,
}

/// Serves one guest after the other on the socket, until the socket fails.
pub(crate) fn serve(cid: Cid, socket_path: &Path, hub: &Arc<Hub>) -> anyhow::Result<()> {
    let mut listener =
        Listener::new(socket_path, true).with_context(|| format!("listen on {}", socket_path.display()))?;
    loop {
        let device = Arc::new(Device::new(cid, Arc::clone(hub)).context("make an event for the device")?);
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new(format!("vsock-{cid}"), device, memory)
            .map_err(|error| anyhow::anyhow!("make a device for guest {cid}: {error}"))?;
        daemon.start(&mut listener).map_err(|error| anyhow::anyhow!("accept on {}: {error}", socket_path.display()))?;
        info!(%cid, "connected");
        let end = daemon.wait();
        hub.guest_down(cid);
        match end {
            Ok(()) | Err(DaemonError::HandleRequest(VhostUserError::Disconnected | VhostUserError::PartialMessage)) => {
                info!(%cid, "disconnected");
            }
            Err(error) => warn!(%cid, %error, "disconnected"),
        }
    }
}

impl Device {
    const RECEIVE: usize = 0;
    const TRANSMIT: usize = 1;
    /// The event queue stays with QEMU (`hw/virtio/vhost-vsock-common.c`).
    const QUEUES: usize = 2;
    const MAX_QUEUE_SIZE: usize = 1024;

    fn new(cid: Cid, hub: Arc<Hub>) -> io::Result<Self> {
        let exit = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)?;
        Ok(Self { cid, hub, memory: Mutex::new(None), exit: Mutex::new(Some(exit)) })
    }

    fn rings(&self, vrings: &[VringMutex]) -> Option<Rings> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let receive = vrings.get(Self::RECEIVE)?.clone();
        let transmit = vrings.get(Self::TRANSMIT)?.clone();
        let is_running = |vring: &VringMutex| {
            let state = vring.get_ref();
            state.is_enabled() && state.get_queue().ready()
        };
        (is_running(&receive) && is_running(&transmit)).then_some(Rings { receive, transmit, memory })
    }
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        Self::QUEUES
    }

    fn max_queue_size(&self) -> usize {
        Self::MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | (1 << VIRTIO_RING_F_INDIRECT_DESC)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&self, _is_enabled: bool) {
        // The library sets it in the rings.
    }

    /// The whole configuration of a vsock device is the guest's CID (virtio 1.2, 5.10.4).
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = u64::from(self.cid.0).to_le_bytes();
        config.into_iter().skip(offset as usize).take(size as usize).collect()
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// QEMU stops the rings when the guest resets the device, resets itself, or ends.
    fn stop_vring(&self, _queue_index: u32) -> io::Result<()> {
        self.hub.guest_down(self.cid);
        Ok(())
    }

    // Never an error: it would end the library's worker, and the guest would have none.
    fn handle_event(
        &self,
        _device_event: u16,
        _events: EventSet,
        vrings: &[VringMutex],
        _thread_id: usize,
    ) -> io::Result<()> {
        if let Some(rings) = self.rings(vrings) {
            self.hub.kick(self.cid, &rings);
        }
        Ok(())
    }
}
