//! Queries the name server at an address: whether it is our named, and for a name's address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::cookie::{ClientCookie, Secret};
use super::message::{self, Rcode};

const PORT: u16 = 53;
/// The transport of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Which server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Our own named, everywhere.
    Ours,
    /// No answer over UDP at one address at least.
    Silence,
    /// The host has none of the addresses.
    Missing,
    /// Ours over UDP, no answer over TCP at this address. A client that occupies all of named's TCP slots must not get it killed.
    SilentTcp(IpAddr),
    /// The server at this address does not have the secret.
    Unverified(IpAddr, Transport),
}

/// Asks at every address over both transports at once. An unverified answer anywhere outweighs silence elsewhere.
pub(super) async fn who_answers(servers: &[IpAddr], secret: &Secret, deadline: Duration) -> Found {
    let at = async |server: Option<&IpAddr>| match server {
        Some(server) => who_answers_at(*server, secret, deadline).await,
        None => Found::Missing,
    };
    // At most one address of each IP version.
    let (first, second) = tokio::join!(at(servers.first()), at(servers.get(1)));
    first.or_worse(second)
}

async fn who_answers_at(server: IpAddr, secret: &Secret, deadline: Duration) -> Found {
    let over = async |transport| {
        let answer = timeout(deadline, ask(SocketAddr::new(server, PORT), transport, secret)).await;
        match (answer, transport) {
            (Ok(Ok(true)), _) => Found::Ours,
            (Ok(Ok(false)), _) => Found::Unverified(server, transport),
            (Ok(Err(error)), _) if error.kind() == io::ErrorKind::AddrNotAvailable => Found::Missing,
            (Ok(Err(_)) | Err(_), Transport::Udp) => Found::Silence,
            (Ok(Err(_)) | Err(_), Transport::Tcp) => Found::SilentTcp(server),
        }
    };
    let (udp, tcp) = tokio::join!(over(Transport::Udp), over(Transport::Tcp));
    udp.or_worse(tcp)
}

impl Found {
    fn or_worse(self, other: Self) -> Self {
        let weight = |found: &Self| match found {
            Self::Missing => 0,
            Self::Ours => 1,
            Self::SilentTcp(_) => 2,
            Self::Silence => 3,
            Self::Unverified(..) => 4,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

/// Whether the server has the secret.
async fn ask(server: SocketAddr, transport: Transport, secret: &Secret) -> io::Result<bool> {
    let (id, cookie): ([u8; 2], ClientCookie) = (rand::random(), rand::random());
    let question = message::status_question(id, cookie);
    let is_ours = |answer: &[u8]| {
        let server_cookie = message::server_cookie(answer, id, cookie)?;
        Some(secret.made(server_cookie, cookie, server.ip()))
    };
    match transport {
        Transport::Udp => over_udp(server, &question, is_ours).await,
        Transport::Tcp => over_tcp(server, &question, is_ours).await,
    }
}

/// Asks for a name's address over UDP.
pub(super) async fn resolve(server: IpAddr, name: &str, is_unchecked: bool) -> io::Result<Rcode> {
    let id: [u8; 2] = rand::random();
    let question = message::address_question(id, name, is_unchecked)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a name that DNS cannot carry"))?;
    over_udp(SocketAddr::new(server, PORT), &question, |answer| message::rcode(answer, id)).await
}

async fn over_udp<T>(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
    // From the gateway's own address: named answers the enclaves' networks only.
    let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = [0; 1232];
    loop {
        let len = socket.recv(&mut answer).await?;
        if let Some(read) = answer.get(..len).and_then(&read) {
            return Ok(read);
        }
    }
}

async fn over_tcp<T>(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(server.ip(), 0))?;
    let mut stream: TcpStream = socket.connect(server).await?;
    let length = u16::try_from(question.len()).expect("our questions have fewer than 300 bytes");
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"))
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}
