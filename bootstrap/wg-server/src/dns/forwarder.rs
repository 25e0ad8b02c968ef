//! named's only resolver: passes its questions to `dns.forwarders`, and reads each answer before named gets it.
//!
//! named has decided by the name, and logged it. The forwarder decides by the answer. It checks the name again, because every
//! program on this host can ask it.

mod address;
mod aliases;
mod judgement;
mod question;
mod upstream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::address::Special;
use self::aliases::Aliases;
use self::judgement::{Judge, Judged};
use self::question::{Question, Received};
use self::upstream::{Upstreams, read_framed, write_framed};
use super::allow_list;
use super::allow_lists::AllowLists;
use crate::config::{Config, ListId};
use crate::firewall::Sets;

pub(super) use self::judgement::MAX_TTL;

/// named asks for at most 256 clients at once (recursive-clients), and repeats questions that take long.
const MAX_QUESTIONS: usize = 512;
/// named needs TCP for answers that do not fit into a datagram.
const MAX_CONNECTIONS: usize = 64;
/// For a client to send its question over TCP, and to read the answer.
const CLIENT_DEADLINE: Duration = Duration::from_secs(5);
/// Of one client over TCP, which then has to connect again.
const QUESTIONS_PER_CONNECTION: usize = 64;
/// A question has a name of at most 255 bytes. Options of EDNS may be longer.
const MAX_QUESTION_LEN: usize = 1500;
/// Both transports need the same port, and another program may have it for one.
const BIND_TRIES: usize = 16;
/// Of messages about refused answers.
const LOGS_PER_SECOND: u32 = 5;

/// Why addresses open: the name of each list that has resolved to them. Never empty.
pub(crate) type Reasons = BTreeMap<ListId, Arc<str>>;

/// Opens the way to addresses, before anybody knows them.
pub(crate) trait Opens: Clone + Send + Sync + 'static {
    /// Opens them to the enclaves of these lists, for their times to live and a margin.
    fn open(
        &self,
        reasons: &Reasons,
        addresses: &BTreeMap<IpAddr, Duration>,
    ) -> impl Future<Output = Result<()>> + Send;
}

impl Opens for Sets {
    async fn open(&self, reasons: &Reasons, addresses: &BTreeMap<IpAddr, Duration>) -> Result<()> {
        Sets::open(self, reasons, addresses).await
    }
}

/// The forwarder, listening.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    udp: Arc<UdpSocket>,
    tcp: Arc<TcpListener>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lists: AllowLists,
    upstreams: Upstreams,
    judge: Judge,
    aliases: Mutex<Aliases>,
    log: Mutex<(Instant, u32)>,
}

/// Why a question is passed on.
enum Purpose {
    /// The name, or one that leads to it as an alias, is on a list.
    Listed(Reasons),
    /// named wants to verify signatures.
    ZoneData,
}

impl Forwarder {
    /// Listens on a port of 127.0.0.1 that nobody else has.
    pub(crate) async fn bind(config: &Config, lists: AllowLists) -> Result<Self> {
        let (udp, tcp) = bind().await.context("listen for named's questions")?;
        let judge = Judge::new(Special::new(&config.wireguard.addresses), config.egress.clone());
        let shared = Shared {
            lists,
            upstreams: Upstreams::new(&config.dns.forwarders),
            judge,
            aliases: Mutex::default(),
            log: Mutex::new((Instant::now(), 0)),
        };
        Ok(Self { udp: Arc::new(udp), tcp: Arc::new(tcp), shared: Arc::new(shared) })
    }

    /// Whether a name is on this list.
    pub(crate) fn lists(&self, list: &ListId, name: &str) -> bool {
        self.shared.lists.has(list, name)
    }

    /// Where it listens, over UDP and TCP.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.udp.local_addr().context("read the forwarder's address")
    }

    /// Answers until `stop`, in a task of its own: what else runs in the caller's may take a while.
    pub(crate) async fn run(&self, sets: impl Opens, stop: CancellationToken) {
        let mut task = JoinSet::new();
        task.spawn(self.clone().serve(sets, stop));
        if let Some(Err(error)) = task.join_next().await {
            tracing::error!(%error, "the forwarder");
        }
    }

    async fn serve(self, sets: impl Opens, stop: CancellationToken) {
        let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        let mut buffer = [0; MAX_QUESTION_LEN];
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                received = self.udp.recv_from(&mut buffer) => match received {
                    Ok((len, client)) => {
                        // named repeats a question that is dropped.
                        let Ok(permit) = Arc::clone(&questions).try_acquire_owned() else { continue };
                        let question = buffer.get(..len).unwrap_or_default().to_vec();
                        tasks.spawn(answer_datagram(
                            Arc::clone(&self.udp), client, question, Arc::clone(&self.shared), sets.clone(), permit,
                        ));
                    }
                    Err(error) => pause("receive", &error).await,
                },
                accepted = accept(&self.tcp, &connections) => match accepted {
                    Ok((stream, permit)) => {
                        tasks.spawn(answer_stream(stream, Arc::clone(&self.shared), sets.clone(), permit));
                    }
                    Err(error) => pause("accept", &error).await,
                },
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a task of the forwarder");
                },
            }
        }
    }
}

async fn bind() -> Result<(UdpSocket, TcpListener)> {
    for _ in 0..BIND_TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("bind a UDP port of 127.0.0.1")?;
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().context("read the address")?).await {
            return Ok((udp, tcp));
        }
    }
    bail!("bind one port of 127.0.0.1 for UDP and TCP: none was free in {BIND_TRIES} tries")
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// An error of the host, such as too many open files.
async fn pause(doing: &'static str, error: &std::io::Error) {
    tracing::debug!("the forwarder: {doing}: {error}");
    sleep(Duration::from_millis(50)).await;
}

async fn answer_datagram(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    question: Vec<u8>,
    shared: Arc<Shared>,
    sets: impl Opens,
    permit: OwnedSemaphorePermit,
) {
    if let Some(answer) = shared.answer(&question, true, &sets).await
        && let Err(error) = socket.send_to(&answer, client).await
    {
        tracing::debug!("the forwarder: answer: {error}");
    }
    drop(permit);
}

async fn answer_stream(mut stream: TcpStream, shared: Arc<Shared>, sets: impl Opens, permit: OwnedSemaphorePermit) {
    for _ in 0..QUESTIONS_PER_CONNECTION {
        // An error is a client that has gone.
        let Ok(Ok(question)) = timeout(CLIENT_DEADLINE, read_framed(&mut stream)).await else { break };
        let Some(answer) = shared.answer(&question, false, &sets).await else { break };
        let Ok(Ok(())) = timeout(CLIENT_DEADLINE, write_framed(&mut stream, &answer)).await else { break };
    }
    drop(permit);
}

impl Shared {
    async fn answer(&self, bytes: &[u8], is_datagram: bool, sets: &impl Opens) -> Option<Vec<u8>> {
        let question = match Question::parse(bytes)? {
            Received::Question(question) => question,
            Received::Unusable(answer) => return answer.to_vec().ok(),
        };
        let answer = match self.purpose(&question) {
            Some(purpose) => self.resolve(&question, purpose, sets).await.unwrap_or_else(|error| {
                self.log(&question, &error);
                question.answer(ResponseCode::ServFail)
            }),
            None => question.answer(ResponseCode::Refused),
        };
        question.encode(&answer, is_datagram)
    }

    /// `None`: the name is on no list.
    fn purpose(&self, question: &Question) -> Option<Purpose> {
        let reasons = self.reasons(question.name());
        if !reasons.is_empty() {
            return Some(Purpose::Listed(reasons));
        }
        let is_zone_data =
            matches!(question.kind(), RecordType::DS | RecordType::DNSKEY | RecordType::NS | RecordType::SOA);
        is_zone_data.then_some(Purpose::ZoneData)
    }

    /// The lists that the name is on, or a name that leads to it as an alias.
    fn reasons(&self, name: &Name) -> Reasons {
        let mut reasons = self.aliases().reasons(name, Instant::now());
        if let Ok(known) = allow_list::Name::parse(&name.to_ascii()) {
            let text: Arc<str> = known.to_string().into();
            reasons.extend(self.lists.of(&known).map(|list| (list.clone(), Arc::clone(&text))));
        }
        reasons
    }

    async fn resolve(&self, question: &Question, purpose: Purpose, sets: &impl Opens) -> Result<Message> {
        let answer = self.upstreams.ask(question).await?;
        let Purpose::Listed(mut reasons) = purpose else { return Ok(judgement::zone_data(question, &answer)) };
        let judged = self.judge.judge(question, answer, &reasons).context("refused the answer")?;
        let Judged { answer, targets, addresses } = judged;
        self.remember(&targets, &reasons)?;
        // named keeps the records of the targets too, and answers questions for them without asking again.
        for (list, name) in targets.iter().flat_map(|(target, _)| self.reasons(target)) {
            reasons.entry(list).or_insert(name);
        }
        sets.open(&reasons, &addresses).await?;
        Ok(answer)
    }

    fn remember(&self, targets: &[(Name, Duration)], reasons: &Reasons) -> Result<()> {
        let (mut aliases, now) = (self.aliases(), Instant::now());
        targets.iter().try_for_each(|(name, ttl)| aliases.add(name, reasons, *ttl, now))
    }

    fn aliases(&self) -> std::sync::MutexGuard<'_, Aliases> {
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, question: &Question, error: &anyhow::Error) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.0.elapsed() >= Duration::from_secs(1) {
            *log = (Instant::now(), 0);
        }
        log.1 = log.1.saturating_add(1);
        if log.1 <= LOGS_PER_SECOND {
            tracing::warn!(name = %question.name(), kind = %question.kind(), "no answer for named: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests;
