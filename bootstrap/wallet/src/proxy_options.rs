//! `wallet proxy`: its options.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::RangedU64ValueParser;
use tokio::sync::watch;
use tracing::info;
use wallet::enclave::EnclaveUrl;
use wallet::pool;
use wallet::proxy::{Limits, run};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;

use crate::options::{ClientOptions, FrontOptions, TrustOptions, warn_of_root};
use crate::signals::Signals;

/// Which enclaves, how to verify them, and where this host's programs connect.
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyOptions {
    /// An enclave's signer: https://HOST or https://HOST:PORT. Repeat it for several; a request goes to any of them, and
    /// they do not know each other's nonces.
    #[arg(long, value_name = "URL", required = true)]
    url: Vec<EnclaveUrl>,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    client: ClientOptions,
    /// Where this host's programs send requests, as plain HTTP: an address on loopback, or unix:PATH. Everyone who
    /// reaches it may ask what the enclave allows this client.
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH", default_value = "127.0.0.1:8545")]
    listen: String,
    #[command(flatten)]
    front: FrontOptions,
    /// Connections to each enclave. Each carries one request at a time.
    #[arg(long, value_name = "N", default_value = "8", value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    connections: usize,
    /// After this many seconds, an enclave proves itself again on a new connection. The signer itself ends a connection
    /// after 15 minutes.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = RangedU64ValueParser::<u64>::new().range(10..=840))]
    verify_every: u64,
}

impl ProxyOptions {
    /// Serves until SIGTERM or SIGINT. SIGHUP reads the files again.
    pub(crate) async fn run(&self) -> Result<()> {
        let signals = Signals::watch()?;
        let (identity, trust) = self.read()?;
        warn_of_root(&trust);
        let front = self.front.listen(&self.listen).await.context("--listen")?;
        info!("programs send requests to {front}; try: {}", front.curl("/health"));
        let ((set_identity, identity), (set_trust, trust)) = (watch::channel(identity), watch::channel(trust));
        let limits = Limits::default();
        let pool = pool::Limits {
            renew: Duration::from_secs(self.verify_every),
            clients: self.front.clients(),
            ..limits.pool
        };
        let limits = Limits { connections: self.connections, pool, ..limits };
        let reload = || {
            let (identity, trust) = self.read()?;
            set_identity.send_replace(identity);
            set_trust.send_replace(trust);
            Ok(())
        };
        signals.run(reload, |stop| run(self.url.clone(), front, identity, trust, limits, stop)).await
    }

    fn read(&self) -> Result<(Option<ClientIdentity>, Arc<Trust>)> {
        Ok((self.client.identity()?, Arc::new(self.trust.trust()?)))
    }
}
