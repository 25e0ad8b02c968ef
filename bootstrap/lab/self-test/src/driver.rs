//! The side of the lab: sends commands to an agent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Command, MAX_DURATION, Reply, Report};
use crate::line;

const CONNECT: Duration = Duration::from_secs(10);
/// For the answer's own way back.
const GRACE: Duration = Duration::from_secs(10);

/// A connection to an agent.
#[derive(Debug)]
pub struct Driver {
    socket: TcpStream,
}

impl Driver {
    /// Connects to the agent of an enclave.
    ///
    /// # Errors
    /// No answer within ten seconds, or a refusal.
    pub async fn connect(agent: SocketAddr) -> Result<Self> {
        let socket = timeout(CONNECT, TcpStream::connect(agent))
            .await
            .with_context(|| format!("connect to the self-test agent on {agent}: no answer"))?
            .with_context(|| format!("connect to the self-test agent on {agent}"))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket })
    }

    /// Sends one command and waits for its report.
    ///
    /// # Errors
    /// What the agent says went wrong, or no answer in time.
    pub async fn run(&mut self, command: &Command) -> Result<Report> {
        line::write(&mut self.socket, command).await.context("send the command")?;
        let reply = timeout(MAX_DURATION + GRACE, line::expect(&mut self.socket)).await;
        match reply.context("the agent does not answer")?? {
            Reply::Ok(report) => Ok(report),
            Reply::Error(reason) => bail!("{reason}"),
        }
    }
}
