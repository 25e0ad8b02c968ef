//! TCP and TLS to a hub, and TCP to an upstream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use home::ALPN;
use home::url::HomeUrl;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{MAX_ADDRESSES, Patience, Stream, within};
use crate::keys::Resolve;
use crate::service::budget::TLS_OUT;
use crate::service::prompt::Prompt;

/// Connects to the first of the server's addresses that answers.
pub(in crate::service) async fn tcp<R: Resolve>(url: &HomeUrl, resolver: &R, patience: &Patience) -> Result<TcpStream> {
    let addresses = match url.host().parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => {
            let resolving = async { Ok(resolver.addresses(url.host()).await?) };
            within(patience.resolve, &format!("resolve {}", url.host()), resolving).await?
        }
    };
    let mut last = None;
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        let connecting = async {
            let stream = TcpStream::connect((address, url.port())).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match within(patience.connect, &format!("connect to {url} at {address}"), connecting).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => bail!("resolve {}: no addresses, expected at least one", url.host()),
    }
}

/// The handshake, after which the hub is who it should be.
pub(super) async fn tls(
    url: &HomeUrl,
    config: Arc<ClientConfig>,
    stream: Prompt<TcpStream>,
    limit: Duration,
) -> Result<Stream> {
    let shaking = async {
        let connector = TlsConnector::from(config);
        let bound = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(TLS_OUT));
        Ok(connector.connect_with(url.server_name(), stream, bound).await?)
    };
    let stream = within(limit, &format!("TLS handshake with {url}, expected TLS 1.3"), shaking).await?;
    ensure!(
        stream.get_ref().1.alpn_protocol() == Some(ALPN),
        "TLS handshake with {url}: the server does not speak this protocol, expected `wallet hub` at this port"
    );
    Ok(stream)
}
