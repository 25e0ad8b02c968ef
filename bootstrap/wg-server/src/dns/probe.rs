//! Asks named whether it is there, without leaving a line in its query log.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A header with opcode 2, STATUS (RFC 1035, section 4.1.1), which servers answer with NOTIMP and log nowhere.
const fn status_request([hi, lo]: [u8; 2]) -> [u8; 12] {
    [hi, lo, 2 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Does a name server answer on port 53 of this address within the deadline?
pub(super) async fn answers(server: IpAddr, deadline: Duration) -> bool {
    timeout(deadline, ask(SocketAddr::new(server, 53))).await.is_ok_and(|answer| answer.is_ok())
}

async fn ask(server: SocketAddr) -> std::io::Result<()> {
    // From the gateway's own address: named answers the enclaves' networks only.
    let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).await?;
    socket.connect(server).await?;
    let id: [u8; 2] = rand::random();
    socket.send(&status_request(id)).await?;
    let mut answer = [0; 512];
    loop {
        let len = socket.recv(&mut answer).await?;
        if answer.get(..len).is_some_and(|answer| answer.starts_with(&id)) {
            return Ok(());
        }
    }
}
