//! HTTP/1.1 exchanges on one connection. Responses have a maximum length.

use std::error::Error as StdError;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

/// A connection, closed when dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// The task that moves the bytes. The exchange reports its errors.
    driver: JoinSet<()>,
}

/// A request. The owner of a body with a secret zeroes it.
#[derive(Clone)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Bytes,
    /// The longest response in bytes.
    pub(crate) max_answer: usize,
}

/// A response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// Why there is no response.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The request cannot be written as HTTP.
    #[error("write the request")]
    Request(#[from] hyper::http::Error),
    /// Not HTTP, or the connection ended.
    #[error("HTTP")]
    Protocol(#[source] hyper::Error),
    /// The connection ended before anything of the request was written.
    #[error("the connection ended")]
    Unsent(#[source] hyper::Error),
    /// The body ended early.
    #[error("read the answer")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    /// The body is too long.
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
}

impl Connection {
    /// Starts HTTP on `stream`, to the server `host`.
    pub(crate) async fn new<S>(stream: S, host: &str) -> Result<Self, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let host = HeaderValue::from_str(host).map_err(hyper::http::Error::from)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(HttpError::Protocol)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Self { sender, host, driver })
    }

    /// Waits until the other end has closed.
    pub(crate) async fn ended(&mut self) {
        // It has told its reason, if it has one.
        drop(self.driver.join_next().await);
    }

    /// Sends one request and returns its response, whatever its status.
    pub(crate) async fn ask(&mut self, question: Question<'_>) -> Result<Answer, HttpError> {
        let Question { method, path, headers, body, max_answer } = question;
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.exchange(request.body(Full::new(body))?, max_answer).await
    }

    /// The same with a request as it goes out, but for its `Host`.
    pub(crate) async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        max_answer: usize,
    ) -> Result<Answer, HttpError> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await.map_err(HttpError::Unsent)?;
        let answered = self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(_request) => HttpError::Unsent(error.into_error()),
            None => HttpError::Protocol(error.into_error()),
        });
        let (parts, incoming) = answered?.into_parts();
        let mut body = Zeroizing::new(Vec::new());
        let mut incoming = Limited::new(incoming, max_answer);
        while let Some(frame) = incoming.frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(error) if error.is::<LengthLimitError>() => return Err(HttpError::TooLong(max_answer)),
                Err(error) => return Err(HttpError::Body(error)),
            }
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}
