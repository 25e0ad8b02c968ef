//! Services: what a service cannot do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{EnclaveId, Lab};

use super::shared_lab::{lab_with, restart_own, restoring};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const INTRUDER: &str = include_str!("services/intruder.rs");

#[test]
fn a_service_has_the_rights_of_its_table_and_no_others() {
    let shared = lab_with(1);
    restoring(|| run_intruder(&shared.lab), || restart_own(&shared.lab));
}

fn run_intruder(lab: &Lab) {
    let dir = lab.dir().join("intruder");
    let config_dir = dir.join("config");
    fs::create_dir_all(&config_dir).unwrap();
    let source = dir.join("intruder.rs");
    fs::write(&source, INTRUDER).unwrap();
    let program = config_dir.join("intruder");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .args([&program, &source])
        .status();
    assert!(compiled.unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let hello = fs::read_to_string(root().join("bootstrap/lab/hello/enclave.toml")).unwrap();
    let (rest, _) = hello.split_once("[[services]]").unwrap();
    let service = |name: &str, arguments: &str, keys: &str| {
        format!("[[services]]\nname = \"{name}\"\nprogram = \"intruder\"\narguments = [{arguments}]\n{keys}\n")
    };
    let services = [
        service(
            "intruder",
            "\"rights\"",
            "listen = [8080]\nmemory_mib = 32\nrestart = \"never\"\nenvironment = { A = \"1\" }",
        ),
        service("once", "\"end\"", "restart = \"on-failure\""),
        service("stubborn", "\"fail\"", "restart = \"on-failure\""),
    ];
    let egress = "[egress]\nintruder = [\"198.51.100.10:7008\", \"aws.com:443\"]\n";
    fs::write(config_dir.join("enclave.toml"), format!("{rest}{}{egress}", services.concat())).unwrap();
    let image = Command::new(root().join("bootstrap/eif/image.sh")).args([&config_dir, &dir]).status();
    assert!(image.unwrap().success());
    let eif = dir.join("enclave.eif");
    let enclave = lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    lab.parent().unwrap().trust(&eif).unwrap();
    enclave.start(Some(&eif)).unwrap();
    let patience = Duration::from_secs(60);
    for line in [
        "started the service intruder pid=",
        "intruder: variables: A=1",
        "intruder: root directory: etc intruder",
        "intruder: /config: No such file or directory",
        "intruder: /proc: No such file or directory",
        "intruder: write /intruder: Function not implemented",
        "intruder: bind 8080: allowed",
        "intruder: bind 8081: Permission denied",
        "intruder: bind 0: Permission denied",
        "intruder: bind UDP 5353: allowed",
        "intruder: connect 198.51.100.10:7008: allowed",
        "intruder: connect 198.51.100.80:443: allowed",
        "intruder: connect 198.51.100.80:80: Connection refused",
        "intruder: resolve aws.com:443: allowed",
        "intruder: resolve off-list.example:443: failed to lookup address information",
        "egress: refused a query from intruder for off-list.example.",
        "intruder: send 127.0.53.2:53: allowed",
        "intruder: send 127.0.53.1:53: Operation not permitted",
        "intruder: send 203.0.113.1:53: Operation not permitted",
        "egress: refused TCP to 198.51.100.80:80 from intruder packets=1 total=",
        "egress: refused UDP to 203.0.113.1:53 from intruder packets=1 total=",
        "intruder: thread: allowed",
        "intruder: process: Function not implemented",
        "intruder: 16 MiB: allowed",
        "intruder: 64 MiB: memory allocation failed",
        "intruder: \\u{1b}[2J is escaped",
        "the service intruder ended with status 0; not restarting it",
        "the service once ended with status 0; not restarting it",
        "the service stubborn ended with status 1; restarting it",
    ] {
        enclave.wait_console(line, patience).unwrap();
    }
}
