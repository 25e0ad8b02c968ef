//! `GET /ready` of a signer, through the tunnel. Whether it answers is all that matters here: its identity is not verified, and
//! nothing it says is used but the status.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::judge::Ready;

/// `HTTP/1.1 200`.
const STATUS_LEN: usize = 12;

/// Asks once.
pub(super) async fn ask(signer: SocketAddr, within: Duration) -> Ready {
    match timeout(within, exchange(signer)).await {
        Ok(Ok(status)) => Ready::Answered(status),
        Ok(Err(error)) => Ready::Silent(format!("{error:#}")),
        Err(_elapsed) => Ready::Silent(format!("no answer within {} s", within.as_secs())),
    }
}

async fn exchange(signer: SocketAddr) -> Result<u16> {
    let stream = TcpStream::connect(signer).await.context("connect")?;
    let name = ServerName::IpAddress(signer.ip().into());
    let mut stream = TlsConnector::from(Arc::new(config()?)).connect(name, stream).await.context("TLS handshake")?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {signer}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("send the request")?;
    let mut start = [0; STATUS_LEN];
    stream.read_exact(&mut start).await.context("read the answer")?;
    status_in(start)
}

fn status_in(start: [u8; STATUS_LEN]) -> Result<u16> {
    let status = start.strip_prefix(b"HTTP/1.1 ").or_else(|| start.strip_prefix(b"HTTP/1.0 "));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.with_context(|| format!("{:?}, expected HTTP/1.1 and a status", start.escape_ascii().to_string()))
}

fn config() -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let anybody = Arc::new(Anybody(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().context("TLS")?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    // Each look is a whole handshake: that is part of the question.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts any server.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn acceptor() -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["anybody".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
    }

    /// A server that anybody could be, and what a client learns from it. `None`: it accepts and says nothing.
    async fn asked(answer: Option<&str>) -> Ready {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Some(answer) = answer else { return std::future::pending().await };
            let mut stream = acceptor().accept(stream).await.unwrap();
            let mut request = [0; 20];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET /ready HTTP/1.1\r");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            std::future::pending().await
        };
        let within = if answer.is_some() { SOON } else { Duration::from_millis(300) };
        tokio::select! {
            ready = ask(address, within) => ready,
            () = serve => unreachable!("the server waits"),
        }
    }

    #[tokio::test]
    async fn any_server_with_any_status_has_answered() {
        assert_eq!(asked(Some("HTTP/1.1 200 OK\r\n\r\n")).await, Ready::Answered(200));
        assert_eq!(
            asked(Some("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")).await,
            Ready::Answered(503)
        );
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_hangs_a_port_that_nobody_has_and_nonsense_are_silence() {
        let Ready::Silent(why) = asked(None).await else { panic!("a hung signer has answered") };
        assert_eq!(why, "no answer within 0 s");
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let Ready::Silent(why) = ask(free, SOON).await else { panic!("nobody has answered") };
        assert!(why.starts_with("connect: Connection refused"), "{why}");
        let Ready::Silent(why) = asked(Some("SSH-2.0-OpenSSH\r\n")).await else { panic!("nonsense is an answer") };
        assert_eq!(why, "\"SSH-2.0-Open\", expected HTTP/1.1 and a status");
        let Ready::Silent(why) = asked(Some("HTTP/1.1")).await else { panic!("half an answer is one") };
        assert!(why.starts_with("read the answer"), "{why}");
    }
}
