//! An HTTP server on this host, with TLS or without, whose answers a test decides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Lives as long as the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// `None` is silence.
pub(crate) type Answer = Option<(u16, String)>;

impl Server {
    pub(crate) async fn start<F>(tls: Option<Arc<ServerConfig>>, answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls.map(TlsAcceptor::from), Arc::new(answer)));
        Self { address, _tasks: tasks }
    }

    pub(crate) fn https(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

async fn accept<F>(listener: TcpListener, tls: Option<TlsAcceptor>, answer: Arc<F>)
where
    F: Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, answer) = (tls.clone(), Arc::clone(&answer));
        connections.spawn(async move { connection(stream, tls, answer).await });
    }
}

async fn connection<F>(stream: TcpStream, tls: Option<TlsAcceptor>, answer: Arc<F>)
where
    F: Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
{
    match tls {
        None => serve(stream, answer).await,
        // A client that does not trust us ends here, as its test expects.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, answer).await;
            }
        }
    }
}

async fn serve<S, F>(stream: S, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Bytes>) -> Answer,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            match answer(Request::from_parts(parts, body)) {
                Some((status, text)) => {
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(response.unwrap())
                }
                None => std::future::pending().await,
            }
        }
    });
    // A client may leave whenever it likes.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}
