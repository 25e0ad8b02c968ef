//! A running named: a child of this process, or of `wg-server named`.

use std::process::ExitStatus;

use anyhow::{Context, Result};
use tokio::process;

use super::starter::Life;
use super::termination::terminate;

#[derive(Debug)]
pub(super) enum Child {
    Own(process::Child),
    Started(Life),
}

impl Child {
    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Own(child) => child.id(),
            Self::Started(life) => Some(life.pid()),
        }
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        match self {
            Self::Own(child) => child.wait().await.context("wait for named"),
            Self::Started(life) => life.wait().await,
        }
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        match self {
            Self::Own(child) => child.kill().await.context("kill named"),
            Self::Started(life) => life.kill().await,
        }
    }

    /// Ends it with SIGTERM, or kills it if it does not end.
    pub(super) async fn terminate(&mut self) -> Result<()> {
        match self {
            Self::Own(child) => terminate(child).await,
            Self::Started(life) => life.terminate().await,
        }
    }
}
