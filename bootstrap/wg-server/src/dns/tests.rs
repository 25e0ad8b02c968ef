use std::process::{Child, Command as StdCommand};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::namespace::{alone, sh};

const LAB: &str = include_str!("../../../lab/config/parent/parent.toml");

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
";
/// named as its supervisor starts it, and neither the upstream nor the shell that asks.
const PGREP: &str = "pgrep -x -f '/usr/sbin/named -f -c .*/named/named.conf'";
const LIST: &str = "aws.com\nalias.example\n*.wild.example\n";

struct Setup {
    dir: tempfile::TempDir,
    config: Config,
    _upstream: KillOnDrop,
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
    let toml = LAB
        .replace("/var/log/wg-server", dir.path().to_str().unwrap())
        .replace("/etc/wg-server/dns-allow-list.txt", path("list.txt").to_str().unwrap())
        .replace("\"nxdomain\"", &format!("\"{deny}\""));
    Setup { config: Config::parse(&toml).unwrap(), dir, _upstream: KillOnDrop(upstream) }
}

impl Setup {
    /// Runs named under its supervisor while `test` goes on, and stops it.
    fn run(&self, test: impl AsyncFnOnce(&Named)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let conf_path = prepare(&self.config, &self.dir.path().join("named")).await.unwrap();
            let named = Named::new(self.config.dns.named_path.clone(), conf_path, "203.0.113.1".parse().unwrap());
            let stop = CancellationToken::new();
            let tested = async {
                named.states().wait_for(|state| *state == State::Running).await.unwrap();
                test(&named).await;
                stop.cancel();
            };
            tokio::join!(named.run(stop.clone()), tested);
            assert_eq!(named.state(), State::Stopped);
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

#[test]
fn names_on_the_list_are_answered_and_others_do_not_exist() {
    alone("dns::tests::inside_nxdomain");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_nxdomain() {
    let setup = setup("nxdomain");
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("+tcp aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("AWS.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("alias.example"), "NOERROR 198.51.100.80");
        assert_eq!(dig("a.wild.example"), "NOERROR 198.51.100.82");
        assert_eq!(dig("b.a.wild.example"), "NOERROR 198.51.100.83");
        for name in ["x.aws.com", "evil.com", "com", "evil.test", "wild.example", "example", "a.alias.example"] {
            assert_eq!(dig(name), "NXDOMAIN ", "{name}");
            assert_eq!(dig(&format!("+dnssec {name} TXT")), "NXDOMAIN ", "{name}");
        }
        // Nothing that was denied has left the host.
        let asked = setup.log("upstream/query.log");
        assert!(
            asked.contains("(a.wild.example)") && !asked.contains("evil") && !asked.contains("x.aws.com"),
            "{asked}"
        );

        let log = setup.log("query.log");
        let line = log.lines().find(|line| line.contains("query: aws.com IN A")).unwrap();
        assert!(line.contains(" client @0x") && line.contains(" 203.0.113.2#"), "{line}");
        assert!(line.contains(" (aws.com): query: aws.com IN A +") && line.ends_with("(203.0.113.1)"), "{line}");

        assert_eq!(dig("-c CH -t TXT version.bind"), "NOERROR ");
        assert_eq!(dig("-t AXFR wg-policy"), "none ");
        assert_eq!(dig("wg-policy SOA"), "REFUSED ");
        // From outside of the enclaves' networks.
        let outside = sh("dig -b 198.51.100.53 @203.0.113.1 +tries=1 +time=3 aws.com");
        assert!(outside.contains("status: REFUSED"), "{outside}");
        // Only where the enclaves are.
        let listening = sh("ss -Hlnu sport = 53; ss -Hlnt sport = 53");
        assert!(!listening.contains("127.0.0.1") && !listening.contains("0.0.0.0:53"), "{listening}");
        assert!(sh("ss -Hlnt sport = 953").is_empty(), "no control channel");
    });
}

#[test]
fn names_off_the_list_are_refused_where_configured() {
    alone("dns::tests::inside_refused");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refused() {
    let setup = setup("refused");
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("alias.example"), "NOERROR 198.51.100.80");
        assert_eq!(dig("b.a.wild.example"), "NOERROR 198.51.100.83");
        for name in ["evil.com", "com", "evil.test", "example", "."] {
            assert_eq!(dig(name), "REFUSED ", "{name}");
        }
        // Below a listed name the policy zone decides, which cannot refuse.
        for name in ["x.aws.com", "wild.example", "a.alias.example"] {
            assert_eq!(dig(name), "NXDOMAIN ", "{name}");
        }
        let asked = setup.log("upstream/query.log");
        assert!(asked.contains("aws.com") && !asked.contains("evil") && !asked.contains("x.aws.com"), "{asked}");
    });
}

#[test]
fn a_killed_named_is_started_again_and_ends_with_its_parent() {
    alone("dns::tests::inside_killed");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_killed() {
    let setup = setup("nxdomain");
    setup.run(async |named| {
        let pid = || sh(PGREP).trim().to_owned();
        let (first, mut state) = (pid(), named.states());
        let killed = Instant::now();
        sh(&format!("kill -KILL {first}"));
        state.wait_for(|state| *state != State::Running).await.unwrap();
        state.wait_for(|state| *state == State::Running).await.unwrap();
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        assert_ne!(pid(), first);
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
    });
    assert_eq!(sh(&format!("{PGREP} || true")), "", "stopped in order");
}

#[test]
fn a_configuration_that_named_refuses_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let conf_path = dir.path().join("named.conf");
    std::fs::write(&conf_path, "options { nonsense yes; };").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(check(Path::new("/usr/sbin/named"), &conf_path)).unwrap_err().to_string();
    assert!(error.contains("unknown option 'nonsense'"), "{error}");
}
