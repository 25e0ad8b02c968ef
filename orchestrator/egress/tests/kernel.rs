//! The rules in a real kernel, each test in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../../../bootstrap/wg-server/src/namespace.rs"]
mod namespace;

use std::collections::HashMap;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use egress::{Firewall, Process, Refusals, Rules};
use namespace::{alone, alone_with_users, sh};

const HELLO: u32 = 1100;
/// A destination of `hello`, and hosts and ports that are none.
const LISTED: &str = "198.51.100.7/5432";
const OTHER_PORT: &str = "198.51.100.7/5433";
const OTHER_HOST: &str = "198.51.100.201/5432";

/// A destination that answers, or does not, is at once there: this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn process(name: &str, user: u32, destinations: &[&str]) -> Process {
    let destinations = destinations.iter().map(|text| text.parse().unwrap()).collect();
    Process { name: name.to_owned(), user, destinations }
}

fn rules() -> Rules {
    Rules {
        processes: vec![
            process("probe", 1002, &["203.0.113.1:ping", "[fd3b::1]:ping", "aws.com:ping"]),
            process("signer", 1003, &["anywhere"]),
            process(
                "hello",
                HELLO,
                &[
                    "198.51.100.0/25:5432",
                    "[2001:db8::/32]:53/udp",
                    "198.51.100.200:53/udp",
                    "example.com:443",
                    "0.0.0.0/0:80",
                ],
            ),
        ],
        listen: vec![443],
    }
}

/// The hosts that the tests reach are addresses of the loopback interface: the rules for what goes out hold there, too.
fn network() {
    sh("ip link set lo up
        for a in 198.51.100.7/25 198.51.100.200/32 198.51.100.201/32 203.0.113.1/32; do ip address add $a dev lo; done
        sysctl -qw net.ipv4.ping_group_range='0 2000'");
}

/// Runs a script as a user.
fn as_user(user: u32, script: &str) -> Output {
    let user = format!("--reuid={user}");
    let setpriv = [user.as_str(), "--regid=1000", "--clear-groups", "--inh-caps=-all", "bash", "-ec", script];
    Command::new("setpriv").args(setpriv).output().unwrap()
}

fn connect(user: u32, to: &str) -> Result<(), String> {
    let output = as_user(user, &format!("exec 3<>/dev/tcp/{to}"));
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn send(user: u32, to: &str) -> Result<(), String> {
    let output = as_user(user, &format!("echo x >/dev/udp/{to}"));
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn listen(to: &str) -> TcpListener {
    TcpListener::bind(to.replace('/', ":")).unwrap()
}

#[test]
fn the_kernel_has_the_rules_as_nft_shows_them() {
    alone("shows_the_rules");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn shows_the_rules() {
    Firewall::load(&rules()).unwrap();
    assert_eq!(sh("nft list ruleset"), include_str!("rules.txt"));
    let error = Firewall::load(&rules()).unwrap_err();
    assert_eq!(format!("{:#}", Chain(&error)), "nf_tables: add the table: File exists (os error 17)");
}

#[test]
fn a_process_reaches_its_destinations_alone() {
    alone_with_users("reaches_destinations");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn reaches_destinations() {
    network();
    let _listeners = [LISTED, OTHER_PORT, OTHER_HOST].map(listen);
    Firewall::load(&rules()).unwrap();
    connect(HELLO, LISTED).unwrap();
    for to in [OTHER_PORT, OTHER_HOST] {
        let start = Instant::now();
        let error = connect(HELLO, to).unwrap_err();
        assert!(error.contains("Connection refused"), "{to}: {error}");
        assert!(start.elapsed() < PATIENCE, "{to}: not refused at once");
        connect(1003, to).unwrap();
    }
    send(HELLO, "198.51.100.200/53").unwrap();
    let error = send(HELLO, "198.51.100.200/123").unwrap_err();
    assert!(error.contains("Operation not permitted"), "{error}");
    let ping = |user| as_user(user, "ping -c 1 -w 1 203.0.113.1").status.success();
    assert!(ping(1002));
    assert!(!ping(HELLO));
    // A user that is no process of the enclave.
    assert!(send(1200, "198.51.100.200/53").is_err());
}

#[test]
fn refused_packets_are_counted_and_logged_with_process_and_destination() {
    alone_with_users("counts_refused_packets");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn counts_refused_packets() {
    network();
    let firewall = Firewall::load(&rules()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut refusals = runtime.block_on(async { Refusals::open() }).unwrap();
    connect(HELLO, OTHER_PORT).unwrap_err();
    for _ in 0..3 {
        send(HELLO, "198.51.100.200/123").unwrap_err();
    }
    let mut seen: HashMap<String, u32> = HashMap::new();
    let expected = HashMap::from([
        ("hello: TCP to 198.51.100.7:5433".to_owned(), 1),
        ("hello: UDP to 198.51.100.200:123".to_owned(), 3),
    ]);
    runtime.block_on(async {
        let gather = async {
            while seen != expected {
                for (refusal, packets) in refusals.next().await.unwrap() {
                    *seen.entry(format!("{}: {refusal}", refusal.process)).or_default() += packets;
                }
            }
        };
        tokio::time::timeout(PATIENCE, gather).await.ok();
    });
    assert_eq!(seen, expected);
    let refused: HashMap<String, u64> = firewall.refused().unwrap().into_iter().collect();
    let expected = [("probe", 0), ("signer", 0), ("hello", 4), ("kernel", 0)];
    assert_eq!(refused, expected.map(|(name, packets)| (name.to_owned(), packets)).into());
}

#[test]
fn a_flood_of_refused_packets_is_read_in_parts() {
    alone_with_users("reads_in_a_flood");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn reads_in_a_flood() {
    network();
    let _firewall = Firewall::load(&rules()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut refusals = runtime.block_on(async { Refusals::open() }).unwrap();
    let flood = "timeout 2 python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try: s.sendto(b\"x\", (\"198.51.100.200\", 123))
    except PermissionError: pass'; true";
    as_user(HELLO, flood);
    // The kernel gathers the last ones for a second.
    std::thread::sleep(Duration::from_millis(1500));
    runtime.block_on(async {
        for part in ["some", "more"] {
            let next = tokio::time::timeout(Duration::from_millis(500), refusals.next()).await;
            let packets = next.unwrap_or_else(|_| panic!("{part}: all were read at once")).unwrap();
            assert!(packets.values().sum::<u32>() > 0, "{part}");
        }
    });
}

#[test]
fn data_that_is_queued_when_a_program_ends_still_arrives() {
    alone_with_users("delivers_queued_data");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn delivers_queued_data() {
    const LEN: usize = 3_000_000;
    network();
    let listener = listen(LISTED);
    Firewall::load(&rules()).unwrap();
    let writer = std::thread::spawn(|| as_user(HELLO, &format!("head -c {LEN} /dev/zero >/dev/tcp/{LISTED}")));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 64 * 1024];
    // Slowly at first, so that the program has ended with much of it still in the kernel.
    std::thread::sleep(Duration::from_millis(300));
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => received += len,
            Err(error) => panic!("after {received} bytes: {error}"),
        }
    }
    assert!(writer.join().unwrap().status.success());
    assert_eq!(received, LEN);
}

#[test]
fn a_process_cannot_use_the_connection_of_another_for_datagrams() {
    alone_with_users("keeps_connections_apart");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn keeps_connections_apart() {
    network();
    Firewall::load(&rules()).unwrap();
    let server = UdpSocket::bind("198.51.100.201:53").unwrap();
    let from = |user| {
        as_user(
            user,
            "python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((\"198.51.100.7\", 4000))
s.sendto(b\"x\", (\"198.51.100.201\", 53))'",
        )
    };
    let mut buffer = [0; 8];
    // So that the kernel takes the connection as established.
    for _ in 0..2 {
        assert!(from(1003).status.success());
        let (_, client) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"y", client).unwrap();
    }
    let error = String::from_utf8_lossy(&from(HELLO).stderr).into_owned();
    assert!(error.contains("Operation not permitted"), "{error}");
}

#[test]
fn the_network_reaches_the_listed_ports_alone() {
    alone("lets_in_listed_ports");
}

#[test]
#[ignore = "runs in a namespace of its own"]
fn lets_in_listed_ports() {
    sh("mount -t tmpfs tmpfs /run
        ip netns add outside
        ip link set lo up
        ip link add inside0 type veth peer name outside0 netns outside
        ip address add 192.0.2.1/24 dev inside0
        ip link set inside0 up
        ip -n outside address add 192.0.2.2/24 dev outside0
        ip -n outside link set outside0 up");
    let _listeners = ["192.0.2.1/443", "192.0.2.1/444"].map(listen);
    let datagrams = UdpSocket::bind("192.0.2.1:443").unwrap();
    let firewall = Firewall::load(&rules()).unwrap();
    let outside = |script: &str| {
        let script = ["netns", "exec", "outside", "timeout", "1", "bash", "-ec", script];
        Command::new("ip").args(script).output().unwrap().status.success()
    };
    assert!(outside("exec 3<>/dev/tcp/192.0.2.1/443"));
    assert!(!outside("exec 3<>/dev/tcp/192.0.2.1/444"));
    assert!(outside("echo x >/dev/udp/192.0.2.1/443"));
    assert!(outside("ping -c 1 192.0.2.1"));
    datagrams.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(datagrams.recv_from(&mut [0; 8]).is_err());
    // Its answers, and nothing else, went out.
    let refused = firewall.refused().unwrap();
    assert!(refused.iter().all(|(name, packets)| name == "kernel" || *packets == 0), "{refused:?}");
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
