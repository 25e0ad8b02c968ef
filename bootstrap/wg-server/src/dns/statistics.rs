//! What named has counted since its start, from its statistics channel on the loopback interface (BIND 9 ARM, "statistics-channels").

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATH: &str = "/json/v1/server";
/// The answer has some kilobytes. While named is down, any program of this host may have its port.
const MAX_LEN: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(1);

/// named's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Questions of enclaves, and of wg-server, which looks up a name now and then.
    pub(crate) questions: u64,
    /// Answers that a name is not on the list.
    pub(crate) denied: u64,
    /// Answers SERVFAIL: no forwarder gave an answer that named could use.
    pub(crate) failed: u64,
}

/// `nsstats` has no counter that is still zero.
#[derive(Deserialize)]
struct Server {
    #[serde(default, rename = "QryUDP")]
    qry_udp: u64,
    #[serde(default, rename = "QryTCP")]
    qry_tcp: u64,
    #[serde(default, rename = "RPZRewrites")]
    rewrites: u64,
    #[serde(default, rename = "QrySERVFAIL")]
    servfail: u64,
}

#[derive(Deserialize)]
struct Page {
    nsstats: Server,
}

/// A port of 127.0.0.1 that nobody has now. If another program takes it before named does, there are no counts.
pub(super) fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.context("find a port for named's statistics")
}

/// Asks named.
pub(super) async fn read(channel: SocketAddr) -> Result<Counts> {
    let counts = timeout(DEADLINE, ask(channel)).await.context("no answer in time").flatten();
    counts.with_context(|| format!("named's statistics at {channel}"))
}

async fn ask(channel: SocketAddr) -> Result<Counts> {
    let stream = TcpStream::connect(channel).await.context("connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("connect")?;
    let request = Request::get(PATH).header(HOST, channel.to_string()).body(Empty::<Bytes>::new()).context("ask")?;
    let answer = async {
        let answer = sender.send_request(request).await.context("ask")?;
        ensure!(answer.status() == StatusCode::OK, "HTTP status {}", answer.status());
        let body = Limited::new(answer.into_body(), MAX_LEN).collect().await;
        Ok(body.map_err(anyhow::Error::from_boxed).context("read the answer")?.to_bytes())
    };
    let bytes = tokio::select! {
        bytes = answer => bytes?,
        ended = connection => {
            ended.context("ask")?;
            anyhow::bail!("the connection ended before the answer");
        }
    };
    let Page { nsstats } = serde_json::from_slice(&bytes).context("read the answer")?;
    let Server { qry_udp, qry_tcp, rewrites, servfail } = nsstats;
    Ok(Counts { questions: qry_udp.saturating_add(qry_tcp), denied: rewrites, failed: servfail })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The counts, or the error, of a server that answers with this.
    async fn answered(answer: Vec<u8>) -> Result<Counts, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel = listener.local_addr().unwrap();
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            drop(stream.write_all(&answer).await);
            stream
        };
        let (counts, _stream) = tokio::join!(read(channel), server);
        counts.map_err(|error| format!("{error:#}").replace(&channel.to_string(), "CHANNEL"))
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn a_counter_that_is_missing_is_zero() {
        let body = r#"{"boot-time":"x","nsstats":{"Requestv4":9,"QryUDP":5,"QryTCP":2,"RPZRewrites":3}}"#;
        assert_eq!(answered(ok(body)).await, Ok(Counts { questions: 7, denied: 3, failed: 0 }));
    }

    #[tokio::test]
    async fn whoever_else_answers_gives_an_error_that_says_what_was_wrong() {
        for (answer, expected) in [
            (ok("{}"), "named's statistics at CHANNEL: read the answer: missing field `nsstats`"),
            (ok(r#"{"nsstats":{"QryUDP":-1}}"#), "named's statistics at CHANNEL: read the answer: invalid value"),
            (
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "named's statistics at CHANNEL: HTTP status 404",
            ),
            (b"SSH-2.0-x\r\n".to_vec(), "named's statistics at CHANNEL: "),
            (ok(&"x".repeat(MAX_LEN + 1)), "named's statistics at CHANNEL: read the answer: "),
        ] {
            let error = answered(answer).await.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
