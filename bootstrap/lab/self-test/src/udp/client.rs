//! The asking side: keeps a window of datagrams on the way until each is answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::assembly::Assembly;
use super::{WINDOW, payload_len};
use crate::command::{Datagrams, Hashes, RoundTrips, Transfer};
use crate::datagram::{Header, Kind};
use crate::pattern::Pattern;
use crate::stream::{same, statistics};

/// How long a first datagram may take to be answered; later ones get four times what the answers took so far.
const PATIENCE: Duration = Duration::from_secs(1);
const MIN_PATIENCE: Duration = Duration::from_millis(200);
/// One that is sent again gets twice the time, up to this.
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// A round trip without an answer for this long is lost.
const LOST: Duration = Duration::from_secs(1);

struct OnTheWay {
    sent_at: Instant,
    again_at: Instant,
    is_repeated: bool,
    patience: Duration,
}

/// Sends `bytes` in datagrams of `datagram` bytes while as many come back; hashes at both ends.
pub(crate) async fn transfer(server: SocketAddr, bytes: u64, datagram: u16, seed: u64) -> Result<Transfer> {
    let socket = connect(server).await?;
    let each = u64::from(datagram).saturating_sub(Header::LEN.try_into()?);
    let needed = u32::try_from(bytes.div_ceil(each)).context("so many datagrams cannot be numbered")?;
    let start = Instant::now();
    let mut sent = Assembly::default();
    let mut received = Assembly::default();
    let mut counts = Datagrams { needed: needed.into(), ..Datagrams::default() };
    let mut on_the_way = BTreeMap::new();
    let mut next = 0;
    let mut patience = PATIENCE;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let data = |number| {
        let mut payload = vec![0; payload_len(bytes, each, number)];
        Pattern::new(seed).at(number).fill(&mut payload);
        Header { kind: Kind::Data, transfer: seed, number }.with(&payload)
    };
    loop {
        // The oldest unanswered one decides how far ahead the server may keep.
        let first = on_the_way.keys().next().copied().unwrap_or(next);
        if next < needed && next < first + WINDOW {
            let datagram = data(next);
            sent.insert(next, datagram.get(Header::LEN..).expect("a datagram begins with its header"));
            send(&socket, &datagram).await?;
            counts.sent += 1;
            let sent_at = Instant::now();
            let again_at = sent_at + patience;
            on_the_way.insert(next, OnTheWay { sent_at, again_at, is_repeated: false, patience });
            next += 1;
            continue;
        }
        let Some(wake_at) = on_the_way.values().map(|waiting| waiting.again_at).min() else { break };
        if let Ok(n) = timeout_at(wake_at, receive(&socket, &mut buffer)).await {
            let Some((header, payload)) = Header::decode(buffer.get(..n?).expect("recv fills no more than the buffer"))
            else {
                continue;
            };
            if header.kind == Kind::DataAnswer
                && header.transfer == seed
                && let Some(waited) = on_the_way.remove(&header.number)
            {
                if !waited.is_repeated {
                    let mean = (patience / 4 * 7 + waited.sent_at.elapsed()) / 8;
                    patience = (mean * 4).clamp(MIN_PATIENCE, MAX_PATIENCE);
                }
                ensure!(
                    payload.len() == payload_len(bytes, each, header.number),
                    "datagram {} came back with another length",
                    header.number
                );
                received.insert(header.number, payload);
            }
            continue;
        }
        let now = Instant::now();
        for (number, waiting) in on_the_way.iter_mut().filter(|(_, waiting)| waiting.again_at <= now) {
            send(&socket, &data(*number)).await?;
            counts.sent += 1;
            counts.retransmitted += 1;
            waiting.is_repeated = true;
            waiting.patience = (waiting.patience * 2).min(MAX_PATIENCE);
            waiting.again_at = now + waiting.patience;
        }
    }
    let (server_sent, server_received) = end(&socket, seed, needed, &mut buffer).await?;
    let sent = Hashes { sender: sent.into_hex(), receiver: server_received };
    let received = Hashes { sender: server_sent, receiver: received.into_hex() };
    same(&sent).context("to the server")?;
    same(&received).context("from the server")?;
    Ok(Transfer { bytes, sent, received, elapsed: start.elapsed(), datagrams: Some(counts) })
}

/// Asks for the server's hashes: of what it sent, and of what it received.
async fn end(socket: &UdpSocket, transfer: u64, number: u32, buffer: &mut [u8]) -> Result<(String, String)> {
    let question = Header { kind: Kind::End, transfer, number };
    loop {
        send(socket, &question.encode()).await?;
        let until = Instant::now() + PATIENCE;
        while let Ok(n) = timeout_at(until, receive(socket, buffer)).await {
            let Some((header, payload)) = Header::decode(buffer.get(..n?).expect("recv fills no more than the buffer"))
            else {
                continue;
            };
            let Some((sent, received)) = payload.split_at_checked(32) else { continue };
            if header == (Header { kind: Kind::EndAnswer, ..question }) && received.len() == 32 {
                return Ok((const_hex::encode(sent), const_hex::encode(received)));
            }
        }
    }
}

/// `count` round trips, one at a time.
pub(crate) async fn round_trips(server: SocketAddr, count: u32, size: u16) -> Result<RoundTrips> {
    let socket = connect(server).await?;
    let mut payload = vec![0; usize::from(size).saturating_sub(Header::LEN)];
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut times = Vec::new();
    let mut lost = 0;
    for number in 0..count {
        Pattern::new(0).at(number).fill(&mut payload);
        let start = Instant::now();
        send(&socket, &Header { kind: Kind::Echo, transfer: 0, number }.with(&payload)).await?;
        let expected = Header { kind: Kind::EchoAnswer, transfer: 0, number };
        let answer = async {
            loop {
                let n = receive(&socket, &mut buffer).await?;
                match Header::decode(buffer.get(..n).expect("recv fills no more than the buffer")) {
                    Some((header, answer)) if header == expected => return Ok::<_, anyhow::Error>(answer == payload),
                    Some(_) | None => {}
                }
            }
        };
        match timeout(LOST, answer).await {
            Ok(intact) => {
                ensure!(intact?, "answer {number} is not what was sent");
                times.push(start.elapsed());
            }
            Err(_) => lost += 1,
        }
    }
    ensure!(!times.is_empty(), "none of {count} datagrams was answered within {LOST:?}");
    Ok(statistics(times, lost))
}

async fn connect(server: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.context("bind a UDP socket")?;
    socket.connect(server).await.with_context(|| format!("connect UDP to {server}"))?;
    Ok(socket)
}

/// Errors that ICMP reports about earlier datagrams are losses, not ends.
async fn send(socket: &UdpSocket, datagram: &[u8]) -> Result<()> {
    match socket.send(datagram).await {
        Err(error) if !is_loss(&error) => Err(error).context("send a datagram"),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match socket.recv(buffer).await {
            Err(error) if is_loss(&error) => {}
            result => return result.context("receive a datagram"),
        }
    }
}

fn is_loss(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable)
}
