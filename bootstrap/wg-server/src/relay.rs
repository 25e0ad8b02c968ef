//! `wg-server relay`: the parent's part of blind mode. The enclaves' WireGuard peer is a gateway elsewhere. This host has no key,
//! no wg0 and no named, and relays bytes that it cannot read.
//!
//! Datagrams go between an enclave's data stream and a UDP socket that belongs to the enclave and outlives its streams. The bytes
//! of a control stream, including its preface, go over TCP behind a [`Via`](tunnel::via::Via). All that this host can do to either
//! is to lose them.

mod config;
mod control;
mod enclaves;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tunnel::port::Cid;
use tunnel::preface::Role;
use tunnel::vsock::Stream;

use crate::accept::{self, Waiting};
use crate::datagram_relay::DatagramRelay;
use crate::enclave_id::is_enclave;
use crate::ports::Ports;
use crate::preface::{self, within_deadline};
use crate::streams::OpenStream;
use crate::{service_manager, signals};
use config::Config;
use enclaves::Enclaves;

/// What both ports share. Clones share the same state.
#[derive(Clone)]
struct Relay {
    config: Config,
    enclaves: Arc<Mutex<Enclaves<DatagramRelay>>>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config_path: &Path) -> Result<()> {
    let config = Config::load(config_path)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(signals::run_until_signal(|stop| carry(config, stop)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Checks the configuration and returns a summary.
pub(crate) fn check(config_path: &Path) -> Result<String> {
    let Config { data, control } = Config::load(config_path)?;
    Ok(format!("{} is valid: datagrams go to {data} (UDP), control streams to {control} (TCP)", config_path.display()))
}

async fn carry(config: Config, stop: CancellationToken) -> Result<()> {
    // Binding them also proves that no other wg-server runs here.
    let Ports { data, control } = Ports::bind()?;
    let relay = Relay { config, enclaves: Arc::default() };
    tracing::info!(data = %config.data, control = %config.control, "carrying for a gateway elsewhere");
    service_manager::ready();
    let carried = async {
        tokio::join!(
            accept::each(&data, Role::Data, &stop, |stream, cid, waiting| relay.clone().serve(
                stream,
                cid,
                Role::Data,
                waiting
            )),
            accept::each(&control, Role::Control, &stop, |stream, cid, waiting| relay.clone().serve(
                stream,
                cid,
                Role::Control,
                waiting
            )),
        )
    };
    tokio::select! {
        _ = carried => {}
        never = service_manager::watch(|| true) => match never {},
    }
    service_manager::stopping();
    tracing::info!("stopped");
    Ok(())
}

impl Relay {
    async fn serve(self, stream: Stream, cid: Cid, role: Role, waiting: Waiting<Cid>) {
        let end = match role {
            Role::Data => self.data(stream, cid, waiting).await,
            Role::Control => self.control(stream, cid, waiting).await,
        };
        match end {
            Ok(reason) => tracing::info!(%cid, ?role, reason, "stream ended"),
            Err(error) => tracing::info!(%cid, ?role, reason = format!("{error:#}"), "stream ended"),
        }
    }

    async fn data(&self, mut connection: Stream, cid: Cid, waiting: Waiting<Cid>) -> Result<String> {
        within_deadline(preface::exchange(&mut connection, Role::Data)).await?;
        let (stream, relay) = self.open(cid, Role::Data)?;
        drop(waiting);
        tracing::info!(%cid, role = ?Role::Data, "stream open");
        let end = stream.run(async { Ok(relay.carry(connection).await) }).await;
        self.close(cid, &stream);
        let carried = relay.counters();
        tracing::info!(
            %cid,
            from_enclave = carried.to_udp_datagrams,
            to_enclave = carried.to_stream_frames,
            to_enclave_dropped = carried.to_stream_dropped,
            foreign = carried.to_stream_foreign,
            udp_errors = carried.udp_errors,
            "datagrams carried so far"
        );
        end
    }

    async fn control(&self, connection: Stream, cid: Cid, waiting: Waiting<Cid>) -> Result<String> {
        let (stream, _) = self.open(cid, Role::Control)?;
        let end = stream.run(control::carry(connection, cid, self.config.control, waiting)).await;
        self.close(cid, &stream);
        end
    }

    fn open(&self, cid: Cid, role: Role) -> Result<(OpenStream, Arc<DatagramRelay>)> {
        ensure!(is_enclave(cid), "refused: CID {cid} is not an enclave's");
        let make =
            || DatagramRelay::elsewhere(self.config.data).with_context(|| format!("make the UDP socket of CID {cid}"));
        self.enclaves().open(cid, role, make)
    }

    fn close(&self, cid: Cid, stream: &OpenStream) {
        self.enclaves().close(cid, stream);
    }

    fn enclaves(&self) -> MutexGuard<'_, Enclaves<DatagramRelay>> {
        self.enclaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
