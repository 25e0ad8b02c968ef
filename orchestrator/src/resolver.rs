//! The resolver process: the only one that may query the name servers. It answers each process only for the names of
//! that process's destinations, so that a process cannot send data out in the names that it asks for.
//!
//! Each process has its own loopback address to ask at, and the egress rules let no other process send there.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use futures_util::future::select_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::op::{MessageType, Metadata, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::Semaphore;

use crate::budget::Budget;
use crate::config::{CONFIG_PATH, Config, Lookups};
use crate::role::Role;
use crate::{dns, sandbox, sys};

/// The first of the inherited descriptors: a UDP and a TCP socket for each process.
const FIRST_FD: i32 = 3;

/// The queries of one process that wait for a name server. A process with more gets `SERVFAIL`.
const MAX_WAITING: usize = 32;

/// Refused names that are logged: a process may ask for many.
const REFUSALS_PER_SECOND: u32 = 5;

/// For a TCP connection that sends nothing.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that wait for a TCP client to read.
const TCP_ANSWERS: usize = 4;

/// Answers until the process is killed.
///
/// # Errors
/// The configuration, a missing descriptor, the sandbox, or a socket that closed.
pub(crate) fn run() -> Result<()> {
    let config = Config::load(Path::new(CONFIG_PATH))?;
    crate::runtime::single_threaded()?.block_on(async {
        let upstream = Arc::new(dns::resolver(&config.name_servers)?);
        let mut servers = Vec::new();
        for (lookups, first) in config.lookups.into_iter().zip((FIRST_FD..).step_by(2)) {
            let inherited = |fd| sys::inherited(fd).with_context(|| format!("a socket for the {}", lookups.process));
            let (udp, tcp) = (inherited(first)?, inherited(first + 1)?);
            servers.push(serve(lookups, Arc::clone(&upstream), udp, tcp)?);
        }
        sandbox::enter(Role::Resolver)?;
        let waiting = servers.iter_mut().map(|server| Box::pin(server.block_until_done()));
        let (ended, _, _) = select_all(waiting).await;
        ended.context("answer queries")?;
        bail!("answer queries: a socket closed")
    })
}

fn serve(lookups: Lookups, upstream: Arc<TokioResolver>, udp: OwnedFd, tcp: OwnedFd) -> Result<Server<Answers>> {
    let Lookups { process, names, .. } = lookups;
    let refusals = Mutex::new(Refusals { lines: Budget::new(REFUSALS_PER_SECOND), unsaid: 0 });
    let answers = Answers { process, names, upstream, waiting: Semaphore::new(MAX_WAITING), refusals };
    let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let mut server = Server::new(answers);
    server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
    server.register_listener(tokio::net::TcpListener::from_std(tcp)?, TCP_TIMEOUT, TCP_ANSWERS);
    Ok(server)
}

/// What one process is answered.
struct Answers {
    process: String,
    names: BTreeSet<String>,
    upstream: Arc<TokioResolver>,
    waiting: Semaphore,
    refusals: Mutex<Refusals>,
}

/// Refused queries on the console.
struct Refusals {
    lines: Budget,
    /// Since the last line.
    unsaid: u64,
}

#[async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let (code, records) = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = code;
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = to.send_response(builder.build(metadata, &records, [], [], [])).await;
        sent.unwrap_or_else(|error| {
            tracing::debug!("resolver: answer the {}: {error}", self.process);
            failed(request)
        })
    }
}

impl Answers {
    /// The addresses of a name on the list. Nothing of the query but its name and type goes further.
    async fn answer(&self, request: &Request) -> (ResponseCode, Vec<Record>) {
        if request.metadata.op_code != OpCode::Query {
            return (ResponseCode::NotImp, Vec::new());
        }
        let Ok(info) = request.request_info() else { return (ResponseCode::FormErr, Vec::new()) };
        let name = Name::from(info.query.name());
        if info.query.query_class() != DNSClass::IN || !self.allows(&name) {
            self.log_refusal(&name);
            return (ResponseCode::Refused, Vec::new());
        }
        let kind = info.query.query_type();
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            // No such records.
            return (ResponseCode::NoError, Vec::new());
        }
        let Ok(_turn) = self.waiting.try_acquire() else { return (ResponseCode::ServFail, Vec::new()) };
        match self.upstream.lookup(name.clone(), kind).await {
            Ok(found) => {
                let found = found.answers().iter().filter(|record| record.record_type() == kind);
                // Under the name that was asked for: aliases are resolved.
                let renamed = found.map(|record| Record::from_rdata(name.clone(), record.ttl, record.data.clone()));
                (ResponseCode::NoError, renamed.collect())
            }
            Err(error) if error.is_nx_domain() => (ResponseCode::NXDomain, Vec::new()),
            Err(error) if error.is_no_records_found() => (ResponseCode::NoError, Vec::new()),
            Err(error) => {
                tracing::warn!("resolver: look up {} for {}: {error}", printable(&name), self.process);
                (ResponseCode::ServFail, Vec::new())
            }
        }
    }

    fn log_refusal(&self, name: &Name) {
        let now = Instant::now();
        let mut refusals = self.refusals.lock().expect("no holder panics");
        if refusals.lines.open_at().is_some_and(|open| now < open) {
            refusals.unsaid += 1;
            return;
        }
        refusals.lines.spend(now);
        let unsaid = std::mem::take(&mut refusals.unsaid);
        tracing::warn!(unsaid, "egress: refused a query from {} for {}", self.process, printable(name));
    }

    fn allows(&self, name: &Name) -> bool {
        let text = name.to_lowercase().to_ascii();
        self.names.contains(text.trim_end_matches('.'))
    }
}

fn printable(name: &Name) -> String {
    name.to_ascii().escape_debug().to_string()
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(hickory_resolver::proto::op::Header { metadata, counts: Default::default() })
}

#[cfg(test)]
mod tests;
