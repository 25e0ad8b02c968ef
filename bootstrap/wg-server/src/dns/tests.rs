use std::process::{Child, Command as StdCommand};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wireguard::device::PrivateKey;

use super::forwarder::Opens;
use super::supervisor::Phase;
use super::*;
use crate::firewall::Gate;
use crate::health::Health;
use crate::namespace::{alone_with_users, sh};

mod answers;
mod forwarding;
mod process;
mod starting;

const LAB: &str = include_str!("../../tests/parent.toml");

/// The lab's internet in small: two names, one an alias of the other.
const UPSTREAM_CONF: &str = r#"
options { directory "."; listen-on { 198.51.100.53; }; listen-on-v6 { none; }; pid-file none; session-keyfile none;
    recursion no; dnssec-validation no; allow-query { any; }; };
controls { };
logging { channel q { file "query.log"; }; category queries { q; }; };
zone "." { type primary; file "root.zone"; };
"#;
const UPSTREAM_ZONE: &str = "$TTL 60
@ SOA ns. ns. 1 60 60 60 60
@ NS ns.
ns. A 198.51.100.53
aws.com. A 198.51.100.80
x.aws.com. A 198.51.100.81
alias.example. CNAME aws.com.
a.wild.example. A 198.51.100.82
b.a.wild.example. A 198.51.100.83
wild.example. A 198.51.100.84
evil.test. A 198.51.100.66
evil.com. A 198.51.100.66
front.example. CNAME hidden.example.
hidden.example. A 198.51.100.66
long.wild.example. 86400 A 198.51.100.85
private.wild.example. A 10.0.0.1
tunnel.wild.example. A 203.0.113.2
metadata.wild.example. A 169.254.169.253
imds.wild.example. A 169.254.169.254
mixed.wild.example. A 198.51.100.87
mixed.wild.example. A 192.168.0.1
moved.wild.example. 600 CNAME elsewhere.test.
elsewhere.test. 1 A 198.51.100.86
";
/// named as its supervisor starts it, and neither the upstream nor the shell that asks.
const PGREP: &str = "pgrep -x -f '/usr/sbin/named -f -c .*/named/named.conf -L .*'";
const LIST: &str = "aws.com\nalias.example\nfront.example\n*.wild.example\n";

struct Setup {
    dir: tempfile::TempDir,
    config: Config,
    upstream: KillOnDrop,
}

/// Firewalls have tests of their own.
#[derive(Clone)]
struct Unwatched;

impl Opens for Unwatched {
    async fn open(&self, _: &Reasons, _: &std::collections::BTreeMap<std::net::IpAddr, Duration>) -> Result<()> {
        Ok(())
    }
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn setup(deny: &str) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    sh("ip link set lo up; ip addr add 203.0.113.1/24 dev lo; ip addr add 203.0.113.2/32 dev lo
        ip addr add 198.51.100.53/32 dev lo; ip addr add fd3b:74ac:9d21::1/64 dev lo nodad");
    std::fs::create_dir(path("upstream")).unwrap();
    std::fs::write(path("upstream/named.conf"), UPSTREAM_CONF).unwrap();
    std::fs::write(path("upstream/root.zone"), UPSTREAM_ZONE).unwrap();
    let mut upstream = StdCommand::new("/usr/sbin/named");
    let upstream = upstream.args(["-f", "-c", "named.conf"]).current_dir(path("upstream")).spawn().unwrap();
    // A question that comes before the upstream listens gets SERVFAIL, and for a second that stays the answer.
    let end = Instant::now() + Duration::from_secs(20);
    while !sh("dig -b 203.0.113.2 @198.51.100.53 +tries=1 +time=1 +short aws.com || true").contains("198.51.100.80") {
        assert!(Instant::now() < end, "the upstream does not answer");
    }
    std::fs::write(path("list.txt"), LIST).unwrap();
    crate::key::create(&PrivateKey::new([7; 32]), &path("private.key")).unwrap();
    let toml = LAB
        .replace("/var/log/wg-server", path("log").to_str().unwrap())
        .replace("/etc/wg-server/private.key", path("private.key").to_str().unwrap())
        .replace("/etc/wg-server/dns-allow-list.txt", path("list.txt").to_str().unwrap())
        .replace("\"nxdomain\"", &format!("\"{deny}\""));
    Setup { config: Config::parse(&toml).unwrap(), dir, upstream: KillOnDrop(upstream) }
}

impl Setup {
    /// Runs named under its supervisor while `test` goes on, and stops it.
    fn run(&self, test: impl AsyncFnOnce(&Named<'_>)) {
        self.run_with(Unwatched, test);
    }

    fn run_with(&self, sets: impl Opens, test: impl AsyncFnOnce(&Named<'_>)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (prepared, forwarder) = prepare(&self.config, &self.dir.path().join("named")).await.unwrap();
            let health = Health::default();
            let gate =
                Gate::to_port_53(self.config.nat.nft_path.clone(), self.config.wireguard.interface.as_str()).unwrap();
            let named = Named::new(&self.config, prepared, gate, &health);
            let stop = CancellationToken::new();
            let tested = async {
                named.states().wait_for(|state| state.phase == Phase::Running).await.unwrap();
                test(&named).await;
                stop.cancel();
            };
            tokio::join!(named.run(stop.clone()), forwarder.run(sets.clone(), stop.clone()), tested);
            assert_eq!(named.state().phase, Phase::Stopped);
        });
    }

    fn log(&self, dir: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(dir)).unwrap_or_default()
    }
}

/// The status and the last answer, as the enclave with address 203.0.113.2 gets them.
fn dig(question: &str) -> String {
    let text = sh(&format!("dig -b 203.0.113.2 @203.0.113.1 +tries=1 +time=3 {question}"));
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none");
    let answers = text.split(";; ANSWER SECTION:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or("");
    let last = answers.lines().last().and_then(|line| line.split_whitespace().last()).unwrap_or("");
    format!("{status} {last}")
}
