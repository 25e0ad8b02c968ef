//! TCP between a parent that only relays and the gateway: the gateway's listening side, and how both ends notice that the
//! other machine is gone.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout};
use tokio::net::{TcpListener, TcpStream};

use crate::accept::Acceptor;
use crate::config::Remote;

/// A control stream is silent between two renewals: only probes detect that the other machine has vanished.
const SILENT_BEFORE_PROBE: Duration = Duration::from_secs(15);
const BETWEEN_PROBES: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// The same for unacknowledged bytes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The listening socket for parents that relay their enclaves' control streams.
#[derive(Debug)]
pub(crate) struct Parents {
    listener: TcpListener,
    networks: Vec<IpNet>,
}

impl Parents {
    pub(crate) async fn bind(config: &Remote) -> Result<Self> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("remote.listen: listen on {}", config.listen))?;
        Ok(Self { listener, networks: config.parents.clone() })
    }
}

impl Acceptor for Parents {
    type Stream = TcpStream;
    type From = IpAddr;
    /// All enclaves of a parent reconnect at once when the gateway restarts.
    const MAX_SILENT: usize = 16;

    async fn accept(&self) -> Result<(TcpStream, IpAddr)> {
        loop {
            let (stream, from) = self.listener.accept().await?;
            // A listener on `::` sees IPv4-mapped IPv6 addresses.
            let parent = from.ip().to_canonical();
            if self.networks.iter().any(|network| network.contains(&parent)) {
                watch(&stream)?;
                return Ok((stream, parent));
            }
            tracing::debug!(%parent, "not in remote.parents: closed");
        }
    }
}

/// Makes the kernel end the connection when the other machine has vanished.
pub(crate) fn watch(stream: &TcpStream) -> Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).expect("the constants above are below a minute");
    setsockopt(stream, KeepAlive, &true)
        .and_then(|()| setsockopt(stream, TcpKeepIdle, &seconds(SILENT_BEFORE_PROBE)))
        .and_then(|()| setsockopt(stream, TcpKeepInterval, &seconds(BETWEEN_PROBES)))
        .and_then(|()| setsockopt(stream, TcpKeepCount, &PROBES))
        .and_then(|()| setsockopt(stream, TcpUserTimeout, &(seconds(UNACKNOWLEDGED) * 1000)))
        .context("set TCP keepalive")?;
    // Each message waits for the answer to the previous one.
    stream.set_nodelay(true).context("set TCP_NODELAY")
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    async fn parents(networks: &[&str]) -> Parents {
        let parents = networks.iter().map(|network| network.parse().unwrap()).collect();
        Parents::bind(&Remote { listen: "127.0.0.1:0".parse().unwrap(), parents }).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_from_a_parent_is_taken_and_watched() {
        let parents = parents(&["127.0.0.0/8"]).await;
        let _client = TcpStream::connect(parents.listener.local_addr().unwrap()).await.unwrap();
        let (stream, parent) = parents.accept().await.unwrap();
        assert_eq!(parent.to_string(), "127.0.0.1");
        assert!(getsockopt(&stream, KeepAlive).unwrap());
        assert_eq!(getsockopt(&stream, TcpKeepIdle).unwrap(), 15);
        assert_eq!(getsockopt(&stream, TcpUserTimeout).unwrap(), 30_000);
    }

    #[tokio::test]
    async fn a_connection_from_elsewhere_is_closed_and_the_next_is_taken() {
        use tokio::io::AsyncReadExt;
        let parents = parents(&["127.0.0.2/32"]).await;
        let to = parents.listener.local_addr().unwrap();
        let mut other = TcpStream::connect(to).await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let _client = socket.connect(to).await.unwrap();
        assert_eq!(parents.accept().await.unwrap().1.to_string(), "127.0.0.2");
        assert_eq!(other.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn an_address_that_is_not_this_host_s_is_named_with_its_key() {
        let config = Remote { listen: "192.0.2.77:821".parse().unwrap(), parents: vec![] };
        let error = format!("{:#}", Parents::bind(&config).await.unwrap_err());
        assert!(error.starts_with("remote.listen: listen on 192.0.2.77:821: "), "{error}");
    }
}
