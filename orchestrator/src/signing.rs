//! The signer process: gets keys from KMS and signs for clients, and for the hubs that it calls. TLS terminates here.
//!
//! It runs in PID 1's network namespace, so it can reach the network only through wg0. The NSM is its only device.

mod keys;
mod ledger;
mod names;
mod witness;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use hickory_resolver::TokioResolver;
use signer::service::Service;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tunnel::internal::{FromSigner, ToSigner};

use crate::config::{CONFIG_PATH, Config, Signing};
use crate::link::Link;
use crate::nsm::witness::{Witness, witness};
use crate::role::Role;
use crate::{dns, sandbox, sys};
use keys::AwsKeys;
use names::Names;
use witness::Documents;

/// The descriptors that the signer inherits from PID 1.
const NSM_FD: i32 = 3;
const LINK_FD: i32 = 4;

/// Connections that may wait for accept(2).
const BACKLOG: u32 = 128;

/// Serves until SIGTERM.
///
/// # Errors
/// The configuration, the sandbox, a missing descriptor, or the listener.
pub(crate) fn run() -> Result<()> {
    let config = Config::load(Path::new(CONFIG_PATH))?;
    let name_servers = config.name_servers_of(Role::Signer.name());
    let signing = config.signing.context("the measured configuration has no [signer]")?;
    for warning in signing.service.policy.warnings() {
        tracing::warn!("config: {warning}");
    }
    let (witness, module) = witness(sys::inherited(NSM_FD).context("the NSM")?);
    let link = sys::inherited(LINK_FD).context("the link to PID 1")?;
    crate::runtime::single_threaded()?.block_on(async {
        let link = Link::new(link).context("the link to PID 1")?;
        let resolver = dns::resolver(&name_servers)?;
        let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let listener = listen(signing.service.port)?;
        let (port, key, roots) = (signing.service.port, signing.kms.key.clone(), signing.kms.roots.clone());
        let (keys, service) = prepare(signing, config.digest, resolver.clone(), Arc::new(witness))?;
        service.resolve_with(Names(resolver.clone()));
        let homes = service.homes(Names(resolver))?;
        // The cryptographic library has opened its devices by now: the sandbox forbids it.
        // The thread is not joined, because one that hangs in the driver would delay the exit.
        let _thread = sandbox::enter_with(Role::Signer, |filter| module.start(move || filter.apply()))?;
        let ready = FromSigner { tls_key: service.tls_key_digest() };
        link.send(&ready).await.context("send to PID 1")?;
        tokio::select! {
            told = link.receive() => match told.context("receive from PID 1")? {
                Some(ToSigner::Serve) => {}
                None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
        }
        let start = Instant::now();
        keys.prepare().context("the key that KMS encrypts to")?;
        let elapsed = start.elapsed();
        tracing::info!(port, %key, %roots, "signer: serving; the key that KMS encrypts to took {elapsed:.1?}");
        let stop = CancellationToken::new();
        let (served, (), ()) = tokio::join!(service.serve(listener, stop.clone()), homes.call(stop.clone()), async {
            terminate.recv().await;
            stop.cancel();
        });
        served
    })
}

/// Builds what needs neither the network nor much time.
fn prepare(
    signing: Signing,
    config_digest: [u8; 32],
    resolver: TokioResolver,
    witness: Arc<Witness>,
) -> Result<(AwsKeys, Service<AwsKeys, Documents>)> {
    let Signing { service, kms, secrets, imds, ledger } = signing;
    let keys = AwsKeys::new(kms, secrets, imds, Names(resolver), Arc::clone(&witness))?;
    let service = Service::new(service, config_digest, keys.clone(), Documents(witness))?;
    if let Some(bucket) = ledger {
        service.keep_ledger_in(keys.ledger(bucket));
    }
    Ok((keys, service))
}

/// Listens on every address of the enclave.
fn listen(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listening = || -> std::io::Result<TcpListener> {
        let socket = TcpSocket::new_v6()?;
        // A restarted signer must not wait for the connections of the previous one.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening().with_context(|| format!("listen on {address}"))
}

#[cfg(test)]
pub(crate) mod tests;
