//! The resolvers: asks them over UDP, and over TCP for answers that do not fit.
//!
//! Each question has a random ID and a socket, and so a random port, of its own. The socket is connected: the kernel drops what
//! comes from elsewhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::question::{Question, is_truncated};
use crate::config::Forwarder;

/// For one question to one resolver, over UDP and, if need be, over TCP.
const TRY: Duration = Duration::from_secs(2);
/// For all tries. named itself gives up after 10 s (resolver-query-timeout).
const DEADLINE: Duration = Duration::from_secs(8);
/// How often each resolver is asked.
const ROUNDS: usize = 3;
/// After this many datagrams that are not the answer, somebody is guessing: ask over TCP.
const MAX_FOREIGN: usize = 8;
/// More than is asked for.
const MAX_DATAGRAM_LEN: usize = 4096;

/// All resolvers of the configuration.
#[derive(Debug)]
pub(super) struct Upstreams {
    servers: Vec<SocketAddr>,
    /// The one that answered last.
    preferred: AtomicUsize,
}

impl Upstreams {
    /// In this order.
    pub(super) fn new(forwarders: &[Forwarder]) -> Self {
        let servers = forwarders.iter().map(|Forwarder { address, port }| SocketAddr::new(*address, *port)).collect();
        Self { servers, preferred: AtomicUsize::new(0) }
    }

    /// Asks one after the other, until one has an answer.
    pub(super) async fn ask(&self, question: &Question) -> Result<Message> {
        timeout(DEADLINE, self.ask_each(question)).await.with_context(|| format!("no answer within {DEADLINE:?}"))?
    }

    async fn ask_each(&self, question: &Question) -> Result<Message> {
        let mut last = Err(anyhow!("no resolvers"));
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        for at in (first..first + count).cycle().take(count * ROUNDS).map(|at| at % count) {
            let Some(server) = self.servers.get(at) else { continue };
            let tried = timeout(TRY, ask(*server, question)).await;
            let answer = tried.map_err(|_elapsed| anyhow!("no answer within {TRY:?}")).and_then(|answer| answer);
            match answer.with_context(|| format!("ask {server}")) {
                Ok(answer) if is_final(answer.metadata.response_code) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                // Another one may know. Otherwise named gets what this one said.
                Ok(answer) => last = Ok(answer),
                Err(error) => last = last.or(Err(error)),
            }
        }
        last
    }
}

fn is_final(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

async fn ask(server: SocketAddr, question: &Question) -> Result<Message> {
    let answer = ask_with(server, question, question.is_extended()).await?;
    let is_unknown = matches!(answer.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
    if is_unknown && question.is_extended() {
        return ask_with(server, question, false).await;
    }
    Ok(answer)
}

async fn ask_with(server: SocketAddr, question: &Question, is_extended: bool) -> Result<Message> {
    let id = rand::random();
    let bytes = question.forwarded(id, is_extended).to_vec().context("encode the question")?;
    match over_udp(server, &bytes, |answer| read(answer, question, id)).await? {
        Some(answer) => Ok(answer),
        None => over_tcp(server, &bytes, |answer| read(answer, question, id)).await,
    }
}

/// A datagram or a message over TCP.
enum Read {
    Answer(Message),
    /// The rest is missing, and the message may end within a record.
    Truncated,
    Foreign,
}

fn read(bytes: &[u8], question: &Question, id: u16) -> Read {
    let has_id = bytes.starts_with(&id.to_be_bytes());
    match Message::from_vec(bytes) {
        Ok(answer) if question.is_answered_by(&answer, id) => {
            if answer.metadata.truncation {
                Read::Truncated
            } else {
                Read::Answer(answer)
            }
        }
        Err(_) if has_id && is_truncated(bytes) => Read::Truncated,
        Ok(_) | Err(_) => Read::Foreign,
    }
}

/// `None`: ask over TCP.
async fn over_udp(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Read) -> io::Result<Option<Message>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; MAX_DATAGRAM_LEN];
    for _ in 0..MAX_FOREIGN {
        let len = socket.recv(&mut buffer).await?;
        match read(buffer.get(..len).unwrap_or_default()) {
            Read::Answer(answer) => return Ok(Some(answer)),
            Read::Truncated => return Ok(None),
            Read::Foreign => {}
        }
    }
    Ok(None)
}

async fn over_tcp(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Read) -> Result<Message> {
    let mut stream = TcpStream::connect(server).await.context("connect over TCP")?;
    write_framed(&mut stream, question).await.context("write over TCP")?;
    let answer = read_framed(&mut stream).await.context("read over TCP")?;
    match read(&answer) {
        Read::Answer(answer) => Ok(answer),
        Read::Truncated => bail!("a truncated answer over TCP, expected all of it"),
        Read::Foreign => bail!("an answer over TCP to something else, or one that is not DNS"),
    }
}

/// A message with its length (RFC 1035, section 4.2.2).
pub(super) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), message].concat()).await
}
