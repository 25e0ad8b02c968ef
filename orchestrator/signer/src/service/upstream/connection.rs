//! One HTTPS connection to a node, and one question at a time on it.

use std::pin::{Pin, pin};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::MAX_ANSWER;
use super::reply::Reply;
use crate::keys::Resolve;
use crate::service::budget::{MAX_HEAD, MAX_HEADERS, TLS_OUT};
use crate::service::home::{Patience, tcp};
use crate::upstream::UpstreamUrl;

type Driver = http1::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>>;

/// The connection is driven while a question is under way, and rests in between.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
}

impl Connection {
    /// The caller has a deadline.
    pub(super) async fn open<R: Resolve>(url: &UpstreamUrl, tls: Arc<ClientConfig>, names: &R) -> Result<Self> {
        let server = url.server();
        let stream = tcp(server, names, &Patience::default()).await?;
        let bound = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(TLS_OUT));
        let stream = TlsConnector::from(tls).connect_with(server.server_name(), stream, bound).await;
        let stream = stream.with_context(|| format!("TLS handshake with {url}, expected TLS 1.3"))?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .context("HTTP")?;
        Ok(Self { sender, driver: Box::pin(driver) })
    }

    /// Sends a question, and reads the answer up to [`MAX_ANSWER`].
    pub(super) async fn post(&mut self, url: &UpstreamUrl, question: String) -> Result<Reply> {
        let server = url.server();
        let host = if server.port() == 443 { server.host().to_owned() } else { server.authority() };
        let request = Request::post(url.expose_path())
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::from(question))
            .context("the request")?;
        let Self { sender, driver } = self;
        let asking = async {
            sender.ready().await.context("HTTP")?;
            let response = sender.send_request(request).await.context("HTTP")?;
            read(response).await
        };
        drive(driver, asking).await
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// What `work` comes to while the connection moves.
async fn drive<T>(driver: &mut Pin<Box<Driver>>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    let mut is_over = false;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            ended = driver.as_mut(), if !is_over => match ended {
                // What has been read before the end is still to be had.
                Ok(()) => is_over = true,
                Err(error) => bail!("HTTP: {}", anyhow::Error::from(error)),
            },
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply> {
    let status = response.status();
    let mut incoming = response.into_body();
    let too_long = || format!("the answer is too long, expected at most {MAX_ANSWER} bytes");
    ensure!(incoming.size_hint().lower() <= MAX_ANSWER as u64, "{}", too_long());
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.context("the answer")?.into_data() else { continue };
        ensure!(body.len() + data.len() <= MAX_ANSWER, "{}", too_long());
        body.extend_from_slice(&data);
    }
    Ok(Reply { status, body })
}
