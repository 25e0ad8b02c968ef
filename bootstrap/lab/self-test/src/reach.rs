//! One attempt to reach a host, for what must be refused.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::Attempt;

/// For a connection. A firewall that drops packets gives no other sign.
const PATIENCE: Duration = Duration::from_secs(3);

/// Type 8, code 0, and the identifier that the kernel replaces (RFC 792).
const ECHO_REQUEST: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 1];

pub(crate) async fn reach(to: SocketAddr, by: Attempt) -> io::Result<()> {
    match by {
        Attempt::Tcp => match timeout(PATIENCE, TcpStream::connect(to)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
        },
        Attempt::Udp => {
            let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
            socket.send_to(&[0], &to.into()).map(drop)
        }
        Attempt::Ping => {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
            socket.send_to(&ECHO_REQUEST, &to.into()).map(drop)
        }
    }
}
