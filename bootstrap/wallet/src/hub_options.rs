//! `wallet hub`: its options, and what happens on signals.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::RangedU64ValueParser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use wallet::hub::{Credentials, Front, Limits, run};
use wallet::tls::HubIdentity;
use wallet::trust::Trust;

use crate::options::TrustOptions;

/// For `--renew`. Enclaves close a connection after an hour.
fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(10..=3000)
}

/// Where enclaves call, where this host's programs connect, and which enclaves are allowed.
#[derive(Debug, clap::Args)]
pub(crate) struct HubOptions {
    /// Where enclaves call.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    listen: SocketAddr,
    /// The hub's certificate and its intermediates in PEM. Enclaves check it with `ca` or `key_sha256` of `[[home]]`.
    #[arg(long, value_name = "PEM")]
    certificate: PathBuf,
    /// The certificate's private key in PEM, mode 0600.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// Where this host's programs send requests, as plain HTTP: an address on loopback, or unix:PATH. Everyone who
    /// reaches it may ask what `[[home]]` permits.
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH", default_value = "127.0.0.1:8080")]
    serve: String,
    /// After this many seconds, an enclave proves itself again on a new connection.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    renew: u64,
    #[command(flatten)]
    trust: TrustOptions,
}

impl HubOptions {
    /// Serves until SIGTERM or SIGINT. SIGHUP reads the files again.
    pub(crate) async fn run(&self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
        let mut reload = signal(SignalKind::hangup()).context("watch SIGHUP")?;
        let credentials = self.credentials()?;
        warn_of_root(&credentials.trust);
        let calls = TcpListener::bind(self.listen).await.with_context(|| format!("listen on {}", self.listen))?;
        let front = Front::listen(&self.serve).await.context("--serve")?;
        let address = calls.local_addr().context("the address that enclaves call")?;
        let key_sha256 = credentials.identity.key_sha256();
        info!(%address, key_sha256, trust_root = %credentials.trust.root(), "enclaves call here");
        info!("programs send requests to {front}");
        let (sender, receiver) = watch::channel(credentials);
        let limits = Limits { renew: Duration::from_secs(self.renew), ..Limits::default() };
        let stop = CancellationToken::new();
        let signals = async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = reload.recv() => match self.credentials() {
                        Ok(credentials) => {
                            info!("read the certificate and the list of images again");
                            sender.send_replace(credentials);
                        }
                        Err(error) => error!("read the files again: {error:#}; everything stays as it was"),
                    },
                }
            }
            info!("ending");
            stop.cancel();
            // Its end would look like a change.
            sender
        };
        let (served, _sender) = tokio::join!(run(calls, front, receiver, limits, stop.clone()), signals);
        served
    }

    fn credentials(&self) -> Result<Credentials> {
        let identity = HubIdentity::load(&self.certificate, &self.key)?;
        Ok(Credentials { identity, trust: Arc::new(self.trust.trust()?) })
    }
}

fn warn_of_root(trust: &Trust) {
    if !trust.root().is_aws() {
        warn!(trust_root = %trust.root(), "attestation documents are verified against a root other than AWS's");
    }
}
