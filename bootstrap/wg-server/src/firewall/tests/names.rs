//! From a name to a connection: an enclave, named, the forwarder, a resolver and the firewall.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command};
use std::time::Instant;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio_util::sync::CancellationToken;
use wireguard::device::PrivateKey;

use super::sets::NETWORK;
use super::*;
use crate::dns::{self, Named};
use crate::health::Health;
use crate::namespace::alone_with_users;

const NAMES: u8 = 50;
pub(super) const RESOLVER: &str = r#"options { directory "."; listen-on { 198.51.100.53; }; listen-on-v6 { none; }; pid-file none;
    session-keyfile none; recursion no; dnssec-validation no; allow-query { any; }; };
controls { };
zone "." { type primary; file "root.zone"; };
"#;

pub(super) struct KillOnDrop(pub(super) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// `name0.example` and so on, each with an address of its own.
fn resolver(dir: &Path) -> KillOnDrop {
    let mut zone = "$TTL 60\n@ SOA ns. ns. 1 60 60 60 60\n@ NS ns.\nns. A 198.51.100.53\n".to_owned();
    for at in 0..NAMES {
        let address = format!("198.51.100.{}", 100 + at);
        sh(&format!("ip -n internet addr add {address}/24 dev outer"));
        zone += &format!("name{at}.example. A {address}\n");
    }
    std::fs::create_dir(dir).unwrap();
    std::fs::write(dir.join("named.conf"), RESOLVER).unwrap();
    std::fs::write(dir.join("root.zone"), zone).unwrap();
    let named = ["netns", "exec", "internet", "/usr/sbin/named", "-f", "-c", "named.conf"];
    KillOnDrop(Command::new("ip").args(named).current_dir(dir).spawn().unwrap())
}

/// The address of a name, as the enclave gets it. Repeats the question while there is none.
pub(super) fn look_up(socket: &UdpSocket, name: &str) -> Option<IpAddr> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    socket.send(&question.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).ok()?;
    Message::from_vec(&buffer[..len]).ok()?.answers.iter().find_map(|record| record.data.ip_addr())
}

#[test]
fn whoever_connects_at_once_after_an_answer_loses_no_packet() {
    alone_with_users("firewall::tests::names::inside_names");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_names() {
    sh(NETWORK);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let _resolver = resolver(&path("resolver"));
    std::fs::write(path("list.txt"), "*.example\n").unwrap();
    crate::key::create(&PrivateKey::new([7; 32]), &path("private.key")).unwrap();
    let toml = LAB
        .replace("/var/log/wg-server", path("log").to_str().unwrap())
        .replace("/etc/wg-server/private.key", path("private.key").to_str().unwrap())
        .replace("/etc/wg-server/dns-allow-list.txt", path("list.txt").to_str().unwrap());
    let config = Config::parse(&toml).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let firewall = Firewall::apply(Path::new(NFT), &plan(&toml), |_, _| true).await.unwrap();
        let (prepared, forwarder) = dns::prepare(&config, &path("named")).await.unwrap();
        let health = Health::default();
        let named = Named::new(&config, prepared, firewall.gate(), &health);
        let stop = CancellationToken::new();
        let tested = async {
            named.wait_running().await;
            tokio::task::spawn_blocking(connect_to_each).await.unwrap();
            stop.cancel();
        };
        tokio::join!(named.run(stop.clone()), forwarder.run(firewall.sets(), stop.clone()), tested);
    });
}

fn connect_to_each() {
    let _listener = within("internet", || TcpListener::bind("0.0.0.0:443").unwrap());
    let mut slowest = Duration::ZERO;
    within("enclave", || {
        let socket = UdpSocket::bind("203.0.113.2:0").unwrap();
        socket.connect("203.0.113.1:53").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        assert!(connects("198.51.100.101:443").is_err(), "without an answer");
        for at in 0..NAMES {
            let name = format!("name{at}.example.");
            let address = loop {
                match look_up(&socket, &name) {
                    Some(address) => break address,
                    // The resolver may not have started yet.
                    None => assert!(Instant::now() < end, "{name} has no address"),
                }
            };
            let started = Instant::now();
            TcpStream::connect_timeout(&SocketAddr::new(address, 443), SOON).unwrap();
            slowest = slowest.max(started.elapsed());
        }
    });
    // The kernel repeats a lost SYN after a second.
    assert!(slowest < SOON / 2, "{slowest:?}");
}
