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

mod forwarding;
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
    async fn open(
        &self,
        _: &std::sync::Arc<str>,
        _: &std::collections::BTreeMap<std::net::IpAddr, Duration>,
    ) -> Result<()> {
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
            let gate = Gate::new(self.config.nat.nft_path.clone(), self.config.wireguard.interface.as_str()).unwrap();
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

#[test]
fn names_on_the_list_are_answered_and_others_do_not_exist() {
    alone_with_users("dns::tests::inside_nxdomain");
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

        let log = setup.log("log/query.log");
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
fn a_question_for_what_is_cached_is_judged_by_the_list_too() {
    alone_with_users("dns::tests::inside_cached");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_cached() {
    let setup = setup("nxdomain");
    setup.run(async |_| {
        // An allowed alias puts the address of a denied name into the cache.
        assert_eq!(dig("front.example"), "NOERROR 198.51.100.66");
        for question in ["+norecurse hidden.example", "+norecurse +tcp hidden.example", "hidden.example"] {
            assert_eq!(dig(question), "NXDOMAIN ", "{question}");
        }
        assert_eq!(dig("+norecurse front.example"), "NOERROR 198.51.100.66");
    });
}

#[test]
fn named_is_a_user_that_cannot_read_the_private_key() {
    alone_with_users("dns::tests::inside_user");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_user() {
    let setup = setup("nxdomain");
    let account = account(&setup.config).unwrap();
    setup.run(async |_| {
        let pid = sh(PGREP).trim().to_owned();
        assert_eq!(sh(&format!("ps -o user= -p {pid}")).trim(), account.name);
        let status = sh(&format!("cat /proc/{pid}/status"));
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (uid, gid) = (account.uid, account.gid);
        assert_eq!(of("Uid:"), format!("{uid} {uid} {uid} {uid}"));
        assert_eq!(of("Gid:"), format!("{gid} {gid} {gid} {gid}"));
        assert_eq!(of("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(of(set), "0000000000000400", "{set} CAP_NET_BIND_SERVICE and no other");
        }
        assert_eq!(of("NoNewPrivs:"), "1");
        // As named: its own files, and neither the key nor the folder of leases.
        let dir = setup.dir.path().display();
        let as_named = |command: &str| {
            sh(&format!("setpriv --reuid={uid} --regid={gid} --clear-groups sh -c '{command}' 2>&1 || true"))
        };
        assert_eq!(as_named(&format!("head -c 2 {dir}/named/named.conf")), "//");
        assert!(as_named(&format!("cat {dir}/private.key")).contains("Permission denied"));
        assert!(as_named(&format!("touch {dir}/named/named.conf")).contains("Permission denied"));
        assert!(as_named(&format!("touch {dir}/named/other")).contains("Permission denied"));
        // Nobody else's eyes but theirs.
        let other =
            sh(&format!("setpriv --reuid=65534 --regid=65534 --clear-groups cat {dir}/named/named.conf 2>&1 || true"));
        assert!(other.contains("Permission denied"), "{other}");
        // wg-server looks one listed name up at the start.
        let asked = setup.log("log/query.log");
        assert!(asked.lines().all(|line| line.contains(" query: alias.example IN A")), "health questions: {asked}");
    });
    // A log that systemd gave to wg-server, or that an earlier version wrote, goes on.
    sh(&format!("chown root: {0}/log/query.log; chmod 600 {0}/log/query.log", setup.dir.path().display()));
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert!(setup.log("log/query.log").contains("query: aws.com IN A"), "{}", setup.log("log/query.log"));
    });
}

#[test]
fn a_link_in_the_place_of_the_query_log_is_not_followed() {
    alone_with_users("dns::tests::inside_link");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_link() {
    let dir = tempfile::tempdir().unwrap();
    sh(&format!("chmod 755 {0}; mkdir {0}/log; echo secret >{0}/key; chmod 600 {0}/key", dir.path().display()));
    let account = Account::find(None, &[nix::unistd::geteuid()]).unwrap();
    sh(&format!("chown {} {}/log", account.uid, dir.path().display()));
    for make in ["ln -s", "ln"] {
        sh(&format!("{make} {0}/key {0}/log/query.log", dir.path().display()));
        let error = format!("{:#}", account.furnish_log(&dir.path().join("log/query.log")).unwrap_err());
        assert!(error.contains("let the user") && error.contains("query.log"), "{make}: {error}");
        assert_eq!(sh(&format!("stat -c '%a %g' {}/key", dir.path().display())), "600 0\n");
        sh(&format!("rm {}/log/query.log", dir.path().display()));
    }
}

/// Debian's bind9: every address of the host, as the same user.
const OTHER_CONF: &str = r#"
options { directory "/tmp"; pid-file none; session-keyfile none; listen-on { any; }; listen-on-v6 { any; };
    recursion no; dnssec-validation no; allow-query { any; }; };
controls { };
"#;

fn other_name_server(setup: &Setup) -> KillOnDrop {
    let path = setup.dir.path().join("other.conf");
    std::fs::write(&path, OTHER_CONF).unwrap();
    sh(&format!("chmod 644 {}", path.display()));
    let mut other = StdCommand::new("/usr/sbin/named");
    KillOnDrop(other.args(["-f", "-u", "bind", "-c"]).arg(&path).spawn().unwrap())
}

#[test]
fn another_name_server_in_named_s_place_is_named_and_gets_no_questions() {
    alone_with_users("dns::tests::inside_other_name_server");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_other_name_server() {
    let setup = setup("nxdomain");
    let gate_is_closed = || sh("nft list tables").contains("table inet wg_server_dns");
    setup.run(async |named| {
        assert!(!gate_is_closed());
        let mut states = named.states();
        let guest = other_name_server(&setup);
        let state = states.wait_for(|state| state.phase == Phase::Restarting).await.unwrap().clone();
        let problem = state.problem.unwrap();
        assert!(problem.contains("has UDP port 53 of ") || problem.contains("has TCP port 53 of "), "{problem}");
        assert!(gate_is_closed(), "enclaves ask the other name server");
        // named stays away, and says who has its place.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let problem = named.state().problem.unwrap();
        assert!(problem.contains("named (process ") && problem.contains("systemctl disable --now named"), "{problem}");
        let refused = ensure_port_is_free(&setup.config).await.unwrap_err().to_string();
        assert!(refused.contains("expected the port to be free: stop"), "{refused}");
        assert!(gate_is_closed());
        drop(guest);
        states.wait_for(|state| state.phase == Phase::Running && state.problem.is_none()).await.unwrap();
        assert!(!gate_is_closed());
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
    });
}

#[test]
fn questions_beyond_the_limit_are_truncated_and_not_lost() {
    alone_with_users("dns::tests::inside_limit");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_limit() {
    const QUESTIONS: u16 = 1000;
    let setup = setup("nxdomain");
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        for name in ["aws.com", "evil.com"] {
            let socket = std::net::UdpSocket::bind("203.0.113.2:0").unwrap();
            socket.connect("203.0.113.1:53").unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            for id in 0..QUESTIONS {
                socket.send(&message::address_question(id.to_be_bytes(), name, false).unwrap()).unwrap();
                std::thread::sleep(Duration::from_micros(500));
            }
            let (mut answered, mut truncated, mut answer) = (0, 0, [0; 512]);
            while socket.recv(&mut answer).is_ok() {
                if answer[2] & 2 == 0 { answered += 1 } else { truncated += 1 }
            }
            assert_eq!(answered + truncated, QUESTIONS, "{name}: {answered} answered, {truncated} truncated");
        }
    });
}

#[test]
fn forwarders_without_dnssec_records_are_named_where_signatures_are_checked() {
    alone_with_users("dns::tests::inside_dnssec");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_dnssec() {
    let mut setup = setup("nxdomain");
    setup.config.dns.dnssec = true;
    setup.run(async |named| {
        let state = named.states().wait_for(|state| state.problem.is_some()).await.unwrap().clone();
        assert_eq!(state.phase, Phase::Running, "a fault elsewhere ends nothing");
        let problem = state.problem.unwrap();
        assert!(problem.starts_with("alias.example: SERVFAIL, but an answer without DNSSEC"), "{problem}");
    });
}

#[test]
fn lookup_tells_an_answer_from_what_is_in_the_way_of_one() {
    alone_with_users("dns::tests::inside_lookup");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_lookup() {
    let setup = setup("nxdomain");
    let list = AllowList::load(&setup.config.dns.allow_list_path).unwrap();
    let problem = async |name: &str| {
        let looked_up = crate::lookup::look_up(&setup.config, &list, &Name::parse(name).unwrap()).await;
        looked_up.map_or_else(|error| format!("{error:#}"), |()| "none".to_owned())
    };
    setup.run(async |_| {
        assert_eq!(problem("aws.com").await, "none");
        assert_eq!(problem("a.wild.example").await, "none");
        let unknown = problem("unknown.wild.example").await;
        assert!(unknown.starts_with("unknown.wild.example: NXDOMAIN: dns.forwarders do not know this name"), "{unknown}");
        assert!(unknown.contains("`dig @198.51.100.53 unknown.wild.example`; if it answers, restart"), "{unknown}");

        sh(&format!("kill -KILL {}", setup.upstream.0.id()));
        let failed = problem("b.a.wild.example").await;
        let expected = "b.a.wild.example: SERVFAIL: dns.forwarders do not answer, or refuse; expected name servers that this host \
                        can reach: ask one as wg-server does, `dig @198.51.100.53 b.a.wild.example`; if it answers, wg-server's log \
                        says why wg-server refused the answer";
        assert_eq!(failed, expected);
        assert_eq!(problem("x.aws.com").await, "x.aws.com is not on dns.allow_list_path: add it and restart wg-server");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nobody = runtime.block_on(problem("aws.com"));
    assert!(nobody.starts_with("aws.com: named does not answer at 203.0.113.1: Connection refused"), "{nobody}");
}

#[test]
fn names_off_the_list_are_refused_where_configured() {
    alone_with_users("dns::tests::inside_refused");
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
            assert_eq!(dig(&format!("+norecurse {name}")), "REFUSED ", "{name}");
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
    alone_with_users("dns::tests::inside_killed");
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
        state.wait_for(|state| state.phase != Phase::Running).await.unwrap();
        state.wait_for(|state| state.phase == Phase::Running).await.unwrap();
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        assert_ne!(pid(), first);
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
    });
    assert_eq!(sh(&format!("{PGREP} || true")), "", "stopped in order");
}

#[test]
fn named_lives_on_while_an_address_is_gone_and_listens_when_it_is_back() {
    alone_with_users("dns::tests::inside_addresses");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_addresses() {
    let setup = setup("nxdomain");
    setup.run(async |named| {
        let first = sh(PGREP);
        let listens = || !sh("ss -Hlnu src 203.0.113.1:53").is_empty();
        let until_listening = async |wanted: bool| {
            let end = Instant::now() + Duration::from_secs(10);
            while listens() != wanted {
                assert!(Instant::now() < end, "named listens: {}, not {wanted}", !wanted);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // All, as with the interface itself, and one alone.
        for addresses in [&["203.0.113.1/24", "fd3b:74ac:9d21::1/64"][..], &["203.0.113.1/24"]] {
            let each =
                |verb: &str| addresses.iter().for_each(|net| drop(sh(&format!("ip addr {verb} {net} dev lo nodad"))));
            each("del");
            until_listening(false).await;
            // As long as the probes need to give named up.
            tokio::time::sleep(Duration::from_secs(4)).await;
            // A named that misses what the kernel says of addresses.
            let deaf = setup.dir.path().join("named/named.conf");
            let conf = std::fs::read_to_string(&deaf).unwrap();
            std::fs::write(&deaf, conf.replacen("options {", "options { automatic-interface-scan no;", 1)).unwrap();
            sh(&format!("kill -HUP {}", first.trim()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            each("add");
            until_listening(true).await;
            std::fs::write(&deaf, conf).unwrap();
            sh(&format!("kill -HUP {}; ip addr replace 203.0.113.2/32 dev lo", first.trim()));
            assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        }
        assert_eq!(sh(PGREP), first, "named was ended for it");
        assert_eq!(named.state().phase, Phase::Running);
    });
}

#[test]
fn a_configuration_that_named_refuses_is_not_started() {
    alone_with_users("dns::tests::inside_refused_configuration");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refused_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let conf_path = dir.path().join("named.conf");
    std::fs::write(&conf_path, "options { nonsense yes; };").unwrap();
    sh(&format!("chmod o+x {}", dir.path().display()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let account = Account::find(None, &[nix::unistd::geteuid()]).unwrap();
    let error =
        runtime.block_on(check(Path::new("/usr/sbin/named"), &conf_path, Some(&account))).unwrap_err().to_string();
    assert!(error.contains("unknown option 'nonsense'"), "{error}");
}
