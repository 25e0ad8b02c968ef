//! Relays one enclave's datagrams between WireGuard and the enclave's present data stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tunnel::counters::{Counters, Snapshot};
use tunnel::pump::{Pump, Settings};
use tunnel::udp::UdpSocket;
use tunnel::vsock::Stream;

/// A replaced stream releases the socket within this time.
const HANDOVER: Duration = Duration::from_secs(2);

/// The UDP socket that is the endpoint of a peer. It outlives the streams.
#[derive(Debug)]
pub(crate) struct DatagramRelay {
    endpoint: SocketAddr,
    counters: Counters,
    carrier: Mutex<Carrier>,
}

/// What only one stream can use at a time.
struct Carrier {
    socket: UdpSocket,
    pump: Pump,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl DatagramRelay {
    /// Binds a socket on loopback, for a WireGuard on this host. Accepts only its datagrams: any local user can send to the socket.
    pub(crate) fn here(wireguard: SocketAddr) -> io::Result<Self> {
        Self::new(Ipv4Addr::LOCALHOST.into(), wireguard)
    }

    /// Binds a socket for a WireGuard elsewhere. Accepts only its datagrams.
    pub(crate) fn elsewhere(wireguard: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if wireguard.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::new(any, wireguard)
    }

    fn new(address: IpAddr, wireguard: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((address, 0))?;
        let endpoint = socket.local_addr()?;
        let carrier = Carrier { socket: UdpSocket::new(socket, wireguard)?, pump: Pump::new(Settings::default()) };
        Ok(Self { endpoint, counters: Counters::default(), carrier: Mutex::new(carrier) })
    }

    /// The address at which WireGuard reaches the enclave.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    pub(crate) fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Relays datagrams until the stream ends. Returns the reason.
    pub(crate) async fn carry(&self, mut stream: Stream) -> String {
        let Ok(mut carrier) = timeout(HANDOVER, self.carrier.lock()).await else {
            return "the previous stream does not release the socket".to_owned();
        };
        let Carrier { socket, pump } = &mut *carrier;
        let (mut reader, mut writer) = stream.split();
        let (mut receiver, mut sender) = socket.split();
        pump.run(&mut reader, &mut writer, &mut receiver, &mut sender, &self.counters).await.to_string()
    }
}
