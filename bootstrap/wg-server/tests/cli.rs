//! The program as an operator calls it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use attestation::test_root::TestRoot;
use nix::fcntl::{Flock, FlockArg};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wg-server");
const LAB: &str = include_str!("parent.toml");

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// A folder with everything that the configuration names.
    fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        let dir = host.dir.path().to_str().unwrap();
        let toml = LAB.replace("/etc/wg-server", dir).replace("/var/log/wg-server", dir).replace("/var/lib", dir);
        // Whichever this host has.
        let toml = toml.replace("uplink = \"uplink0\"", "# uplink");
        fs::write(host.path("parent.toml"), format!("runtime_dir = \"{dir}/run\"\n{toml}")).unwrap();
        fs::write(host.path("dns-allow-list.txt"), "aws.com\n").unwrap();
        let [pcr0, pcr1, pcr2] = ["0a", "0b", "0c"].map(|byte| byte.repeat(48));
        let measurements = format!("{{\"PCR0\": \"{pcr0}\", \"PCR1\": \"{pcr1}\", \"PCR2\": \"{pcr2}\"}}");
        fs::write(host.path("measurements.json"), measurements).unwrap();
        fs::write(host.path("lab-root.pem"), TestRoot::new(SystemTime::now()).root_pem()).unwrap();
        assert!(call(&["keygen", host.path("private.key").to_str().unwrap()]).status.success());
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn check(&self) -> Output {
        self.check_after("true")
    }

    /// In a network of its own, whose sysctls are the kernel's defaults until `command` changes them.
    fn check_after(&self, command: &str) -> Output {
        let script = format!("{command} && exec {PROGRAM} check --config {}", self.path("parent.toml").display());
        Command::new("unshare").args(["--map-root-user", "--net", "sh", "-c", &script]).output().unwrap()
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("parent.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("parent.toml"), text.replace(from, to)).unwrap();
    }

    /// Runs in a network of its own, where this user is root.
    fn run_alone(&self) -> Output {
        let script = format!(
            "{PROGRAM} run --config {}; code=$?; nft list tables; exit $code",
            self.path("parent.toml").display()
        );
        let unshare = ["--map-root-user", "--net", "sh", "-c", &script];
        Command::new("unshare").args(unshare).env("RUST_LOG", "info").output().unwrap()
    }
}

fn call(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_refused(output: &Output, reason: &str) {
    assert!(!output.status.success(), "{}", text(output));
    assert!(text(output).contains(reason), "{reason:?} in {}", text(output));
}

#[test]
fn a_host_where_everything_is_right_passes_the_check() {
    let host = Host::new();
    let output = host.check();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("addresses for 253 enclaves, 1 names on the allow-list"), "{}", text(&output));
    assert!(text(&output).contains("; TCP port 443 is forwarded to 203.0.113.2:443"), "{}", text(&output));

    host.replace("[[nat.forwards]]\nport = 443\nto = \"203.0.113.2:443\"\n", "");
    let output = host.check();
    assert!(!text(&output).contains("TCP port"), "{}", text(&output));

    host.replace("[dns]", "[[egress.lists]]\nname = \"billing\"\nnames = [\"b.example\"]\ncids = [16]\n[dns]");
    let output = host.check();
    assert!(
        text(&output).contains("; the list billing has 1 names and 0 destinations for CID 16"),
        "{}",
        text(&output)
    );
    host.replace("cids = [16]", "measurements_paths = [\"/no.json\"]");
    assert_refused(
        &host.check(),
        "egress.lists.measurements_paths: the list billing is for /no.json, expected a file of",
    );
}

#[test]
fn the_check_names_what_is_missing_or_wrong() {
    let host = Host::new();
    host.replace("/usr/sbin/named", "/usr/sbin/nonamed");
    assert_refused(
        &host.check(),
        "dns.named_path: /usr/sbin/nonamed cannot be executed; install Debian's package bind9",
    );

    let host = Host::new();
    host.replace("# uplink", "nft_path = \"/usr/sbin/nonft\"");
    assert_refused(&host.check(), "nat.nft_path: /usr/sbin/nonft cannot be executed");

    for (from, to, expected) in [
        ("# uplink", "uplink = \"eht0\"", "nat.uplink: this host has no interface eht0; expected one that `ip link`"),
        (
            "/usr/sbin/named",
            "/usr/bin/dig",
            "dns.named_path: /usr/bin/dig is another program: `-v` prints \"\", expected \"BIND \"",
        ),
        (
            "# uplink",
            "nft_path = \"/usr/bin/yes\"",
            "nat.nft_path: /usr/bin/yes is another program: `--version` prints \"yes (",
        ),
        ("deny = ", "user = \"root\"\ndeny = ", "dns.user: root may read the gateway's private key"),
        ("deny = ", "user = \"nobody-here\"\ndeny = ", "dns.user: this host has no user \"nobody-here\""),
    ] {
        let host = Host::new();
        host.replace(from, to);
        assert_refused(&host.check(), expected);
    }

    let host = Host::new();
    assert_refused(
        &host.check_after("ip link add wg0 type veth"),
        "wireguard.interface: wg0 exists and is not a WireGuard interface but veth; expected",
    );

    let host = Host::new();
    fs::write(host.path("dns-allow-list.txt"), "aws.com\nbad name\n").unwrap();
    assert_refused(&host.check(), "dns-allow-list.txt: line 2: \"bad name\" contains characters other");

    let host = Host::new();
    fs::set_permissions(host.path("private.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(&host.check(), "mode 0644 lets others read it");

    let host = Host::new();
    fs::write(host.path("private.key"), "c2hvcnQ=\n").unwrap();
    assert_refused(&host.check(), "5 bytes, expected 32 bytes in base64");

    let host = Host::new();
    host.replace("mtu = 15360", "mtu = 15360\nmut = 1");
    assert_refused(&host.check(), "unknown field `mut`");
}

#[test]
fn the_check_names_the_sysctl_that_keeps_ipv6_out_of_the_tunnel() {
    let host = Host::new();
    let output = host.check_after("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    assert_refused(&output, "net.ipv6.conf.default.disable_ipv6 is 1, expected 0: `sysctl -w");
    host.replace(", \"fd3b:74ac:9d21::1/64\"", "");
    host.replace("ipv6_range", "# ipv6_range");
    assert!(host.check_after("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6").status.success());
}

#[test]
fn the_check_warns_of_probable_mistakes_in_the_list() {
    let host = Host::new();
    fs::write(host.path("dns-allow-list.txt"), "aws.com\nx.test\naws.com\n").unwrap();
    let output = host.check();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("warning: ") && text(&output).contains("line 3: aws.com is already on line 1"));
    fs::write(host.path("dns-allow-list.txt"), "").unwrap();
    let output = host.check();
    assert!(output.status.success() && text(&output).contains("so every name is denied"), "{}", text(&output));
}

#[test]
fn the_check_warns_where_outbound_connections_are_only_observed() {
    let host = Host::new();
    assert!(!text(&host.check()).contains("egress.mode"));
    host.replace("[egress]\n", "[egress]\nmode = \"observe\"\n");
    let output = host.check();
    let expected = "egress.mode: \"observe\" lets enclaves reach every address; expected \"enforce\"";
    assert!(output.status.success() && text(&output).contains(expected), "{}", text(&output));
}

#[test]
fn the_check_names_the_trust_root_and_what_is_wrong_with_it() {
    let host = Host::new();
    assert!(text(&host.check()).contains("trust root for enclaves: NOT AWS's root but another, SHA-256 "));
    host.replace("root_path = ", "# root_path = ");
    assert!(text(&host.check()).contains("trust root for enclaves: AWS's root, SHA-256 641a0321a3e244ef"));

    let host = Host::new();
    fs::remove_file(host.path("measurements.json")).unwrap();
    assert_refused(&host.check(), "attestation.measurements_paths: read ");
    fs::write(host.path("measurements.json"), "{}").unwrap();
    assert_refused(&host.check(), "measurements.json: PCR0 is missing, expected JSON with \"PCR0\", \"PCR1\" and");
    let zero = "00".repeat(48);
    let debug = format!("{{\"PCR0\": \"{zero}\", \"PCR1\": \"{zero}\", \"PCR2\": \"{zero}\"}}");
    fs::write(host.path("measurements.json"), debug).unwrap();
    assert_refused(&host.check(), "PCR0 is zero: this describes an enclave in debug mode");

    let host = Host::new();
    fs::write(host.path("lab-root.pem"), "no PEM").unwrap();
    assert_refused(&host.check(), "attestation.root_path: ");

    let host = Host::new();
    host.replace("key_lifetime = \"1h\"", "key_lifetime = \"1h\"\npcrs = { 8 = [\"12\"] }");
    assert_refused(&host.check(), "attestation.pcrs.8: \"12\", expected the 96 hex digits of a SHA-384");
}

#[test]
fn a_document_s_verdict_is_the_exit_status() {
    let host = Host::new();
    let document = include_bytes!("../../attestation/tests/nitro-2024-08.cbor");
    fs::write(host.path("document"), document).unwrap();
    let path = host.path("document");
    let path = path.to_str().unwrap();
    let output = call(&["attest", "--at", "2024-08-07T07:00:00Z", path]);
    assert!(output.status.success() && text(&output).contains("verdict: genuine"), "{}", text(&output));
    assert_refused(&call(&["attest", path]), "expired at ");
    let output = call(&["attest", "--json", path]);
    assert!(!output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json.get("verdict").and_then(serde_json::Value::as_str), Some("refused"));
    assert_refused(&call(&["attest", "--at", "yesterday", path]), "expected a time like");
    assert_refused(&call(&["attest", "/nowhere"]), "read /nowhere: No such file");
    let hex = const_hex::encode(document);
    for written in [format!("0x{hex}\n"), format!("{{\"document\": \"{hex}\"}}")] {
        fs::write(host.path("written"), written).unwrap();
        let script = format!("{PROGRAM} attest --at 1723014000 - < {}", host.path("written").display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && text(&output).contains("verdict: genuine"), "{}", text(&output));
    }
    fs::write(host.path("document"), document.split_last().unwrap().1).unwrap();
    assert_refused(&call(&["attest", "--at", "document", path]), "refused, with AWS's root");
}

#[test]
fn keygen_prints_the_public_key_and_never_replaces_a_file() {
    let host = Host::new();
    let before = fs::read(host.path("private.key")).unwrap();
    assert_refused(&call(&["keygen", host.path("private.key").to_str().unwrap()]), "File exists");
    assert_eq!(fs::read(host.path("private.key")).unwrap(), before);
    let output = call(&["keygen", host.path("other.key").to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim().len(), 44, "{}", text(&output));
}

#[test]
fn status_without_a_daemon_says_so() {
    let host = Host::new();
    assert_refused(
        &call(&["status", "--runtime-dir", host.dir.path().to_str().unwrap()]),
        "wg-server does not run: `systemctl status wg-server`",
    );
}

#[test]
fn every_name_that_cannot_be_looked_up_is_a_line_and_the_exit_status() {
    let host = Host::new();
    let config = host.path("parent.toml");
    let lookup = |arguments: &[&str]| call(&[&["lookup", "--config", config.to_str().unwrap()], arguments].concat());
    let output = lookup(&["evil.test", "aws.com"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(output.stdout.is_empty(), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    for (line, expected) in lines.iter().zip([
        "ERROR evil.test is not on dns.allow_list_path: add it and restart wg-server",
        "ERROR aws.com: named does not answer at 203.0.113.1: ",
    ]) {
        assert!(line.contains(expected), "{expected:?} in {stderr}");
    }

    let output = lookup(&["--json", "evil.test"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = "evil.test is not on dns.allow_list_path: add it and restart wg-server";
    assert_eq!(json, serde_json::json!([{"name": "evil.test", "problem": problem}]));

    assert_refused(&lookup(&["198.51.100.1"]), "is an address, expected a name like");
    assert_refused(&lookup(&[]), "<NAME>...");
}

#[test]
fn a_second_wg_server_names_the_first_and_touches_nothing() {
    let host = Host::new();
    fs::create_dir(host.path("run")).unwrap();
    fs::write(host.path("run/lock"), "4711\n").unwrap();
    let held = Flock::lock(fs::File::open(host.path("run/lock")).unwrap(), FlockArg::LockExclusive).unwrap();
    let output = host.run_alone();
    assert_refused(&output, "another wg-server runs, process 4711");
    assert!(!text(&output).contains("table inet wg_server"), "{}", text(&output));
    assert_eq!(entries(&host.path("run")), ["lock"]);
    drop(held);
}

#[test]
fn a_process_without_the_capabilities_is_told_which() {
    let host = Host::new();
    fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let config_path = host.path("parent.toml");
    // Under `unshare --map-root-user` even a user has capabilities that can be taken away.
    let script = format!(
        "exec setpriv --bounding-set -net_admin,-net_bind_service {PROGRAM} run --config {}",
        config_path.display()
    );
    let output = Command::new("unshare").args(["--map-root-user", "--net", "sh", "-c", &script]).output().unwrap();
    assert_refused(
        &output,
        "missing CAP_NET_ADMIN (for wg0, the firewall and the forwarding sysctls) and CAP_NET_BIND_SERVICE",
    );
    assert!(!host.path("run").exists());
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
