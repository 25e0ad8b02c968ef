use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::{A, CNAME};

use super::*;

/// The tunnel's name server. Knows every name, and counts the queries.
struct Upstream {
    queries: Arc<AtomicUsize>,
    delay: Duration,
    waiting: AtomicUsize,
    /// The most that waited at the same time.
    peak: Arc<AtomicUsize>,
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[async_trait]
impl RequestHandler for Upstream {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(waiting, Ordering::Relaxed);
        tokio::time::sleep(self.delay).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let info = request.request_info().unwrap();
        let name = Name::from(info.query.name());
        let target = Name::from_ascii("elsewhere.example.net.").unwrap();
        let many = name.to_ascii().starts_with("many");
        let mut records: Vec<_> = (0..if many { 200 } else { 1 })
            .map(|last| {
                let [a, b, c, d] = ADDRESS.octets();
                Record::from_rdata(target.clone(), 60, RData::A(A::new(a, b, c, d + last)))
            })
            .collect();
        records.insert(0, Record::from_rdata(name.clone(), 60, RData::CNAME(CNAME(target))));
        let mut metadata = Metadata::response_from_request(&request.metadata);
        if name.to_ascii().starts_with("missing") {
            metadata.response_code = ResponseCode::NXDomain;
            records.clear();
        }
        let builder = MessageResponseBuilder::from_message_request(request);
        to.send_response(builder.build(metadata, &records, [], [], [])).await.unwrap()
    }
}

/// UDP and TCP on the same free port.
fn sockets() -> (SocketAddr, OwnedFd, OwnedFd) {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    (address, UdpSocket::bind(address).unwrap().into(), tcp.into())
}

fn client_of(server: SocketAddr) -> TokioResolver {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = server.port());
    assert!(connections.iter().all(|one| matches!(one.protocol, ProtocolConfig::Udp | ProtocolConfig::Tcp)));
    let config =
        ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(server.ip(), true, connections)]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.build().unwrap()
}

/// The resolver for a process that may look up these names, with an upstream that takes this long.
struct Setting {
    client: TokioResolver,
    queries: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    _servers: (Server<Answers>, Server<Upstream>),
}

fn setting(names: &[&str], delay: Duration) -> Setting {
    let (queries, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (upstream_address, udp, tcp) = sockets();
    let mut upstream = Server::new(Upstream {
        queries: Arc::clone(&queries),
        delay,
        waiting: AtomicUsize::new(0),
        peak: Arc::clone(&peak),
    });
    let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    upstream.register_socket(tokio::net::UdpSocket::from_std(udp).unwrap());
    upstream.register_listener(tokio::net::TcpListener::from_std(tcp).unwrap(), TCP_TIMEOUT, TCP_ANSWERS);
    let (address, udp, tcp) = sockets();
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let lookups = Lookups { process: "hello".to_owned(), address: Ipv4Addr::LOCALHOST, names };
    let server = serve(lookups, Arc::new(client_of(upstream_address)), udp, tcp).unwrap();
    Setting { client: client_of(address), queries, peak, _servers: (server, upstream) }
}

async fn addresses(setting: &Setting, name: &str) -> Result<Vec<IpAddr>, NetError> {
    Ok(setting.client.ipv4_lookup(name).await?.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
}

#[tokio::test]
async fn a_name_on_the_list_is_resolved_through_its_aliases() {
    let setting = setting(&["api.example.com"], Duration::ZERO);
    for name in ["api.example.com.", "API.Example.com."] {
        assert_eq!(addresses(&setting, name).await.unwrap(), [IpAddr::from(ADDRESS)]);
    }
    let found = setting.client.ipv4_lookup("api.example.com.").await.unwrap();
    assert!(found.answers().iter().all(|record| record.name.to_ascii() == "api.example.com."), "{found:?}");
}

#[tokio::test]
async fn no_other_name_reaches_the_name_server() {
    let setting = setting(&["api.example.com"], Duration::ZERO);
    for name in ["example.com.", "secret.api.example.com.", "elsewhere.example.net.", "com."] {
        let error = addresses(&setting, name).await.unwrap_err();
        assert!(!error.is_nx_domain() && !error.is_no_records_found(), "{name}: {error}");
    }
    let other = setting.client.lookup("api.example.com.", RecordType::TXT).await.unwrap_err();
    assert!(other.is_no_records_found(), "{other}");
    assert_eq!(setting.queries.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_one_that_is_refused() {
    let setting = setting(&["missing.example.com"], Duration::ZERO);
    assert!(addresses(&setting, "missing.example.com.").await.unwrap_err().is_nx_domain());
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_udp_comes_over_tcp() {
    let setting = setting(&["many.example.com"], Duration::ZERO);
    assert_eq!(addresses(&setting, "many.example.com.").await.unwrap().len(), 200);
}

#[tokio::test]
async fn queries_that_wait_are_limited() {
    // Different ones: the library asks once for many that are the same.
    let names: Vec<_> = (0..3 * MAX_WAITING).map(|number| format!("n{number}.example.com")).collect();
    let list: Vec<_> = names.iter().map(String::as_str).collect();
    let setting = setting(&list, Duration::from_secs(1));
    let all = list.iter().map(|name| addresses(&setting, name));
    futures_util::future::join_all(all).await;
    // The library may send one question twice.
    let peak = setting.peak.load(Ordering::Relaxed);
    assert!((1..names.len()).contains(&peak), "{peak} at the same time");
}
