//! An HTTP server on this host, with TLS or without, whose answers a test decides and which remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// `None` is silence.
pub(crate) type Answer = Option<Response<String>>;

/// Lives as long as the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Counted from 0, as they were accepted.
    pub(crate) connection: usize,
    /// Method and path, without a query.
    pub(crate) what: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) async fn start<F>(tls: Option<ServerConfig>, answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let mut tasks = JoinSet::new();
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        tasks.spawn(accept(listener, tls, Arc::clone(&seen), Arc::new(answer)));
        Self { address, seen, _tasks: tasks }
    }

    /// What it was asked until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn answer(status: u16, body: impl ToString) -> Answer {
    Some(Response::builder().status(status).body(body.to_string()).unwrap())
}

async fn accept<F>(listener: TcpListener, tls: Option<TlsAcceptor>, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<F>)
where
    F: Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, seen, answer) = (tls.clone(), Arc::clone(&seen), Arc::clone(&answer));
        connections.spawn(async move { connection(stream, tls, number, &seen, &*answer).await });
    }
}

async fn connection<F>(stream: TcpStream, tls: Option<TlsAcceptor>, number: usize, seen: &Mutex<Vec<Seen>>, answer: &F)
where
    F: Fn(Request<Bytes>) -> Answer,
{
    match tls {
        None => serve(stream, number, seen, answer).await,
        // A client that does not trust us ends here, as its test expects.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, number, seen, answer).await;
            }
        }
    }
}

async fn serve<S, F>(stream: S, number: usize, seen: &Mutex<Vec<Seen>>, answer: &F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Bytes>) -> Answer,
{
    let service = service_fn(async |request: Request<Incoming>| {
        let what = format!("{} {}", request.method(), request.uri().path());
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        seen.lock().unwrap().push(Seen { connection: number, what, body: text });
        match answer(Request::from_parts(parts, body)) {
            Some(response) => Ok::<_, Infallible>(response.map(|text| Full::new(Bytes::from(text)))),
            None => std::future::pending().await,
        }
    });
    // A client may leave whenever it likes.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}
