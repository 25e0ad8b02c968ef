//! The side in the enclave: does what a driver asks, nothing else. A driver may also be the client of a test over its own connection, for
//! then it is the enclave that is connected to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::command::{Command, MAX_DURATION, Reply, Report, Transport};
use crate::{line, reach, resolve, stream, udp};

/// Drivers served at once; a further one gets an error and is disconnected.
pub const MAX_DRIVERS: usize = 4;
/// A driver that sends no command for this long is disconnected.
const IDLE: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(10);
/// The parent as its enclaves see it (Nitro Enclaves user guide).
const PARENT_CID: u32 = 3;

/// Serves drivers on all `addresses` until listening fails; drop the future to stop.
///
/// # Errors
/// An address that cannot be listened on, or a listener that fails.
pub async fn serve(addresses: &[SocketAddr]) -> Result<()> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?);
    }
    serve_on(listeners).await
}

/// As [`serve`], on sockets that are already listening.
///
/// # Errors
/// A listener that fails.
pub async fn serve_on(listeners: Vec<TcpListener>) -> Result<()> {
    let room = Arc::new(Semaphore::new(MAX_DRIVERS));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, Arc::clone(&room)));
    }
    match accepting.join_next().await {
        Some(ended) => ended.context("a listener's task")?,
        None => bail!("no address to listen on"),
    }
}

async fn accept(listener: TcpListener, room: Arc<Semaphore>) -> Result<()> {
    let mut drivers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut socket, from) = accepted.context("accept a driver")?;
                let permit = Arc::clone(&room).try_acquire_owned();
                if permit.is_err() && drivers.len() > MAX_DRIVERS * 2 {
                    continue;
                }
                drivers.spawn(async move {
                    let result = match permit {
                        Ok(_permit) => drive(&mut socket).await,
                        Err(_) => refuse(&mut socket).await,
                    };
                    if let Err(error) = result {
                        tracing::debug!(%from, "a driver left: {error:#}");
                    }
                });
            }
            Some(ended) = drivers.join_next() => ended.context("a driver's task")?,
        }
    }
}

async fn refuse(socket: &mut TcpStream) -> Result<()> {
    let busy = Reply::Error(format!("{MAX_DRIVERS} drivers are connected already"));
    timeout(CONNECT, line::write(socket, &busy)).await?
}

/// What a driver writes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    Command(Command),
    /// The rest of the connection is the test.
    Stream(stream::Request),
}

async fn drive(socket: &mut TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    while let Some(asked) = timeout(IDLE, line::read::<Asked>(socket)).await.context("wait for a command")?? {
        let command = match asked {
            Asked::Command(command) => command,
            Asked::Stream(request) => return timeout(MAX_DURATION, stream::answer(socket, request)).await?,
        };
        let reply = match timeout(MAX_DURATION, run(&command)).await {
            Ok(Ok(report)) => Reply::Ok(report),
            Ok(Err(error)) => Reply::Error(format!("{error:#}")),
            Err(_) => Reply::Error(format!("not done after {} s", MAX_DURATION.as_secs())),
        };
        line::write(socket, &reply).await?;
    }
    Ok(())
}

/// Does one command.
///
/// # Errors
/// A command outside the limits, a server that cannot be reached, or bytes that changed on the way.
pub async fn run(command: &Command) -> Result<Report> {
    command.check()?;
    match *command {
        Command::Tcp { server, bytes, seed } => {
            let mut socket = tcp(server).await?;
            let transfer = stream::transfer(&mut socket, bytes, seed).await;
            Ok(Report::Transfer(transfer.with_context(|| format!("TCP with {server}"))?))
        }
        Command::Udp { server, bytes, datagram, seed } => {
            let transfer = udp::transfer(server, bytes, datagram, seed).await;
            Ok(Report::Transfer(transfer.with_context(|| format!("UDP with {server}"))?))
        }
        Command::TcpGoodput { server, direction, seconds } => {
            let mut socket = tcp(server).await?;
            Ok(Report::Goodput(stream::goodput(&mut socket, direction, seconds).await?))
        }
        Command::Rtt { server, transport: Transport::Tcp, count, size } => {
            let mut socket = tcp(server).await?;
            Ok(Report::RoundTrips(stream::round_trips(&mut socket, count, size).await?))
        }
        Command::Rtt { server, transport: Transport::Udp, count, size } => {
            Ok(Report::RoundTrips(udp::round_trips(server, count, size).await?))
        }
        Command::Vsock { port, direction, seconds } => {
            let address = VsockAddr::new(PARENT_CID, port);
            let mut socket = timeout(CONNECT, VsockStream::connect(address))
                .await
                .with_context(|| format!("connect vsock to {address}: no answer"))?
                .with_context(|| format!("connect vsock to {address}"))?;
            Ok(Report::Goodput(stream::goodput(&mut socket, direction, seconds).await?))
        }
        Command::VsockFlood { port, count, after_seconds } => {
            crate::flood(PARENT_CID, port, count, Duration::from_secs(after_seconds)).await?;
            Ok(Report::Flooded)
        }
        Command::Reach { to, by } => {
            Ok(Report::Reached(reach::reach(to, by).await.err().map(|error| error.to_string())))
        }
        Command::Resolve { ref name } => Ok(Report::Resolved(resolve::resolve(name).await?)),
    }
}

async fn tcp(server: SocketAddr) -> Result<TcpStream> {
    let socket = timeout(CONNECT, TcpStream::connect(server))
        .await
        .with_context(|| format!("connect to {server}: no answer within {} s", CONNECT.as_secs()))?
        .with_context(|| format!("connect to {server}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
