//! What the sets cost: a benchmark, which `make bench` runs.
//!
//! An enclave's first connections to names whose answers open addresses, and to names that another named, which asks the resolver
//! itself, has answered; those addresses are listed. In turns, so that drift of the host affects both alike.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use wireguard::device::PrivateKey;

use super::names::{KillOnDrop, RESOLVER, look_up};
use super::sets::NETWORK;
use super::*;
use crate::dns::{self, Named};
use crate::health::Health;
use crate::namespace::alone_with_users;

/// Where the results go, as JSON.
const OUT: &str = "WG_SERVER_COST_OUT";
const NAMES: u8 = 200;
const TRANSFERS: usize = 15;
const TRANSFER: usize = 256 << 20;
/// The zone and the network of names whose answers open their addresses, and of those whose addresses are listed.
const SIDES: [(&str, &str); 2] = [("opened.example", "198.51.101"), ("listed.example", "198.51.102")];
/// named answers 200 questions a second to one enclave.
const PACE: Duration = Duration::from_millis(8);
const LISTED_NAMED: &str = "198.51.100.80:5300";

#[test]
#[ignore = "a benchmark"]
fn bench() {
    assert!(std::env::var_os(OUT).is_some(), "{OUT} is not set, expected the path of a file for the results");
    alone_with_users("firewall::tests::cost::inside_bench");
}

#[test]
#[ignore = "run by the benchmark in a network of its own"]
fn inside_bench() {
    sh(NETWORK);
    for (_, network) in SIDES {
        sh(&format!(
            "ip -n internet route add local {network}.0/24 dev lo; ip route add {network}.0/24 via 198.51.100.80"
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let _resolver = resolver(&path("resolver"));
    fs::write(path("list.txt"), "*.example\n").unwrap();
    crate::key::create(&PrivateKey::new([7; 32]), &path("private.key")).unwrap();
    let listed = format!("\"{}.0/24\", \"198.51.100.80\"", SIDES[1].1);
    let toml = LAB
        .replace("/var/log/wg-server", path("log").to_str().unwrap())
        .replace("/etc/wg-server/private.key", path("private.key").to_str().unwrap())
        .replace("/etc/wg-server/dns-allow-list.txt", path("list.txt").to_str().unwrap())
        .replacen("\"198.51.100.80\"", &listed, 1);
    let config = Config::parse(&toml).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let firewall = Firewall::apply(Path::new(NFT), &plan(&toml), |_, _| true).await.unwrap();
        let (prepared, forwarder) = dns::prepare(&config, &path("named")).await.unwrap();
        let health = Health::default();
        let named = Named::new(&config, prepared, firewall.gate(), &health);
        let stop = CancellationToken::new();
        let (named_dir, direct_dir) = (path("named"), path("direct"));
        let measured = async {
            named.wait_running().await;
            let measure = move || {
                let conf = fs::read_to_string(named_dir.join("named.conf")).unwrap();
                let _direct = direct_named(&conf, &direct_dir);
                measure()
            };
            tokio::task::spawn_blocking(measure).await.unwrap();
            stop.cancel();
        };
        tokio::join!(named.run(stop.clone()), forwarder.run(firewall.sets(), stop.clone()), measured);
    });
}

/// The resolver of both zones.
fn resolver(dir: &Path) -> KillOnDrop {
    let mut zone = "$TTL 60\n@ SOA ns. ns. 1 60 60 60 60\n@ NS ns.\nns. A 198.51.100.53\n".to_owned();
    for (name, network) in SIDES {
        zone += &format!("$GENERATE 0-{} n$.{name}. A {network}.$\n", NAMES - 1);
    }
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("named.conf"), RESOLVER).unwrap();
    fs::write(dir.join("root.zone"), zone).unwrap();
    start_named(dir)
}

/// A named as wg-server's is, which asks the resolver itself.
fn direct_named(conf: &str, dir: &Path) -> KillOnDrop {
    let line = |start: &str| conf.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
    let conf = [
        (line("listen-on {"), "listen-on port 5300 { 198.51.100.80; };"),
        (line("listen-on-v6"), "listen-on-v6 { none; };"),
        (line("acl enclaves"), "acl enclaves { any; };"),
        (line("forwarders {"), "forwarders { 198.51.100.53; };"),
        (line("directory"), "directory \".\";"),
    ]
    .into_iter()
    .fold(conf.to_owned(), |conf, (from, to)| conf.replacen(from, to, 1));
    let from = line("file \"").trim();
    let conf = conf.replacen(from, "file \"query.log\";", 1);
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("named.conf"), conf).unwrap();
    start_named(dir)
}

fn start_named(dir: &Path) -> KillOnDrop {
    let named = ["netns", "exec", "internet", "/usr/sbin/named", "-f", "-c", "named.conf"];
    KillOnDrop(Command::new("ip").args(named).current_dir(dir).spawn().unwrap())
}

fn measure() {
    let listener = within("internet", || TcpListener::bind("0.0.0.0:443").unwrap());
    std::thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(std::io::copy(&mut stream.unwrap(), &mut std::io::sink())))
    });
    let (mut first, mut again, mut transfers) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    within("enclave", || {
        let servers: [SocketAddr; 2] = ["203.0.113.1:53".parse().unwrap(), LISTED_NAMED.parse().unwrap()];
        let ask = servers.map(|server| {
            let socket = UdpSocket::bind("203.0.113.2:0").unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            move |name: &str| look_up(&socket, name)
        });
        let end = Instant::now() + Duration::from_secs(20);
        for ask in &ask {
            while ask("n0.opened.example.").is_none() {
                assert!(Instant::now() < end, "no answer");
            }
        }
        for at in 1..NAMES {
            for side in [0, 1] {
                let name = format!("n{at}.{}.", SIDES[side].0);
                std::thread::sleep(PACE);
                let start = Instant::now();
                let address = ask[side](&name).unwrap_or_else(|| panic!("{name} has no address"));
                TcpStream::connect_timeout(&SocketAddr::new(address, 443), SOON).unwrap();
                first[side].push(start.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(PACE);
                let start = Instant::now();
                ask[side](&name).unwrap();
                again[side].push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let block = vec![0; 1 << 20];
        for _ in 0..TRANSFERS {
            for side in [0, 1] {
                let mut stream = TcpStream::connect(format!("{}.1:443", SIDES[side].1)).unwrap();
                let start = Instant::now();
                (0..TRANSFER / block.len()).for_each(|_| stream.write_all(&block).unwrap());
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                // The other end closes when it has everything.
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                transfers[side].push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    });
    let [first, again, transfers] = [first, again, transfers].map(|sides| sides.map(median));
    let row = |[sets, listed]: [f64; 2]| json!({"sets_ms": sets, "listed_ms": listed});
    let results = json!({
        "names": NAMES - 1, "first_connection": row(first), "cached_lookup": row(again), "transfer": row(transfers),
        "transfer_bytes": TRANSFER,
    });
    fs::write(std::env::var_os(OUT).unwrap(), results.to_string()).unwrap();
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
