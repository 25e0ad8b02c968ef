//! A proxy, the signers behind it, and programs that ask it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::test_root::TestRoot;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wallet::pool::{self, Front, Rules};
use wallet::proxy::{Limits, run};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;

use crate::enclave::trust;
use crate::program::{PATIENCE, ask};
use crate::real_signer::{Signer, image};

/// A running proxy.
pub(super) struct Site {
    pub(super) root: Arc<TestRoot>,
    pub(super) signers: Vec<Signer>,
    pub(super) urls: Vec<String>,
    pub(super) front: SocketAddr,
    pub(super) trust: watch::Sender<Arc<Trust>>,
    pub(super) stop: CancellationToken,
    pub(super) proxy: JoinSet<anyhow::Result<()>>,
    _identity: watch::Sender<Option<ClientIdentity>>,
}

/// As usual but for these.
pub(super) fn with(change: impl FnOnce(&mut pool::Limits)) -> Limits {
    let short = Duration::from_millis(50);
    let mut limits = Limits { first_pause: short / 2, longest_pause: short, ..Limits::default() };
    change(&mut limits.pool);
    limits
}

impl Site {
    pub(super) async fn of_one() -> Self {
        Self::of(1).await
    }

    /// In front of so many real signers.
    pub(super) async fn of(count: usize) -> Self {
        Self::with(count, with(|_| ())).await
    }

    pub(super) async fn with(count: usize, limits: Limits) -> Self {
        let root = Arc::new(TestRoot::new(SystemTime::now()));
        let mut signers = Vec::new();
        for number in 0..count {
            let name = format!("i-{number}-enc{number}");
            let address = "127.0.0.1:0".parse().unwrap();
            signers.push(Signer::with(address, &root, move |fields| fields.module_id = name.clone()).await);
        }
        let urls = signers.iter().map(Signer::url).collect();
        let site = Self::at(urls, Arc::clone(&root), None, limits).await;
        Self { signers, ..site }
    }

    /// In front of whatever is at these URLs.
    pub(super) async fn at(
        urls: Vec<String>,
        root: Arc<TestRoot>,
        identity: Option<ClientIdentity>,
        limits: Limits,
    ) -> Self {
        let front = Front::listen("127.0.0.1:0", Rules::default()).await.unwrap();
        let address = front.to_string().strip_prefix("http://").unwrap().parse().unwrap();
        let (trust, trusted) = watch::channel(Arc::new(trust(root.trust_root())));
        let (identity, identified) = watch::channel(identity);
        let (stop, mut proxy) = (CancellationToken::new(), JoinSet::new());
        let parsed = urls.iter().map(|url| url.parse().unwrap()).collect();
        proxy.spawn(run(parsed, front, identified, trusted, limits, stop.clone()));
        Self { root, signers: Vec::new(), urls, front: address, trust, stop, proxy, _identity: identity }
    }

    /// The answer to a program's request on a connection of its own: its status, and its body.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(method, path, "", body).await
    }

    pub(super) async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        ask(TcpStream::connect(self.front).await.unwrap(), method, path, headers, body).await
    }

    pub(super) async fn metrics(&self) -> String {
        self.ask("GET", "/proxy/metrics", "").await.1
    }

    /// The value of a metric; 0 if there is none.
    pub(super) async fn count(&self, name: &str) -> u64 {
        let page = self.metrics().await;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub(super) async fn counts_at_least(&self, name: &str, least: u64) {
        let counting = timeout(PATIENCE, async {
            while self.count(name).await < least {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(counting.await.is_ok(), "expected {least} of {name} in:\n{}", self.metrics().await);
    }

    /// Waits for a number of connections to enclaves.
    pub(super) async fn has(&self, connections: u64) {
        let having = timeout(PATIENCE, async {
            while self.count("proxy_connections ").await != connections {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(having.await.is_ok(), "expected {connections} connections in:\n{}", self.metrics().await);
    }

    /// From now on only enclaves with this PCR2 are allowed.
    pub(super) fn allow_only(&self, pcr2: u8) {
        let trust = Trust::new(self.root.trust_root(), [("other.json".to_owned(), image(pcr2))], []).unwrap();
        self.trust.send_replace(Arc::new(trust));
    }

    /// The problem with the enclave at the first URL, once there is one.
    pub(super) async fn problem(&self) -> String {
        let finding = timeout(PATIENCE, async {
            loop {
                let table: serde_json::Value = serde_json::from_str(&self.ask("GET", "/enclaves", "").await.1).unwrap();
                if let Some(problem) = table["problems"][&self.urls[0]].as_str() {
                    break problem.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        finding.await.expect("no problem")
    }
}

/// A program with one connection, which it keeps.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) async fn connect(site: &Site) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(site.front).await.unwrap()) }
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send_head(method, path, body.len()).await;
        self.send(body.as_bytes()).await;
        self.answer(method == "HEAD").await
    }

    pub(super) async fn send_head(&mut self, method: &str, path: &str, len: usize) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n");
        self.send(head.as_bytes()).await;
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    pub(super) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// The next answer, whose length its head says.
    pub(super) async fn answer(&mut self, is_head: bool) -> (u16, String) {
        let reading = async {
            let (mut head, mut len) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                assert!(self.stream.read_line(&mut head).await.unwrap() > 0, "closed after {head:?}");
                if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length: ") {
                    len = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; if is_head { 0 } else { len }];
            self.stream.read_exact(&mut body).await.unwrap();
            (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
        };
        timeout(PATIENCE, reading).await.expect("no answer")
    }

    pub(super) async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _end = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("still open");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
