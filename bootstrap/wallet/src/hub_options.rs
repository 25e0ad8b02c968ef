//! `wallet hub`: its options.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::RangedU64ValueParser;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;
use wallet::hub::{Limits, run};
use wallet::pool;
use wallet::tls::HubIdentity;
use wallet::trust::Trust;

use crate::options::{FrontOptions, TrustOptions, warn_of_root};
use crate::signals::Signals;

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
    front: FrontOptions,
    #[command(flatten)]
    trust: TrustOptions,
}

impl HubOptions {
    /// Serves until SIGTERM or SIGINT. SIGHUP reads the files again.
    pub(crate) async fn run(&self) -> Result<()> {
        let signals = Signals::watch()?;
        let (identity, trust) = self.read()?;
        warn_of_root(&trust);
        let calls = TcpListener::bind(self.listen).await.with_context(|| format!("listen on {}", self.listen))?;
        let front = self.front.listen(&self.serve).await.context("--serve")?;
        let address = calls.local_addr().context("the address that enclaves call")?;
        info!(%address, key_sha256 = identity.key_sha256(), trust_root = %trust.root(), "enclaves call here");
        info!("programs send requests to {front}; who is there: {}", front.curl("/enclaves"));
        let ((set_identity, identity), (set_trust, trust)) = (watch::channel(identity), watch::channel(trust));
        let limits = Limits::default();
        let pool =
            pool::Limits { renew: Duration::from_secs(self.renew), clients: self.front.clients(), ..limits.pool };
        let limits = Limits { pool, ..limits };
        let reload = || {
            let (identity, trust) = self.read()?;
            set_identity.send_replace(identity);
            set_trust.send_replace(trust);
            Ok(())
        };
        signals.run(reload, |stop| run(calls, front, identity, trust, limits, stop)).await
    }

    fn read(&self) -> Result<(HubIdentity, Arc<Trust>)> {
        Ok((HubIdentity::load(&self.certificate, &self.key)?, Arc::new(self.trust.trust()?)))
    }
}
