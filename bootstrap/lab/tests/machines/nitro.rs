//! `enclave.service` in its sandbox, and nitro-cli, whose process and enclave end together.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::shared_lab::{SharedLab, lab_with, wait};
use lab::EnclaveId;

/// For systemd's delay of 5 s, and the boot of the enclave.
const ANOTHER: Duration = Duration::from_secs(60);

/// The pid of QEMU, while it is running.
fn machine(shared: &SharedLab) -> Option<i32> {
    let pieces = shared.lab.status().unwrap().pieces;
    pieces.into_iter().find(|piece| piece.name == "enclave-16").and_then(|piece| piece.pid)
}

fn main_pid(shared: &SharedLab) -> String {
    shared.lab.parent().unwrap().output(&["systemctl", "show", "-P", "MainPID", "enclave"]).unwrap()
}

/// stderr and the exit status.
fn nitro_cli(shared: &SharedLab, arguments: &[&str]) -> (String, i32) {
    let words = [&["exec", "parent", "--", "nitro-cli"], arguments].concat();
    let output = shared.run(&words);
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn run_enclave(cid: &str, memory: &str, image: &str) -> Vec<String> {
    words(&format!("run-enclave --cpu-count 2 --memory {memory} --eif-path {image} --enclave-cid {cid}"))
}

#[test]
fn the_service_holds_the_enclave_in_its_sandbox_and_describes_what_was_built() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    let status = parent.shell("cat /proc/$(systemctl show -P MainPID enclave)/status").unwrap();
    let uid = parent.output(&["id", "--user", "enclave"]).unwrap();
    for line in
        ["Name:\tnitro-cli".to_owned(), format!("Uid:\t{}\t", uid.trim()), "CapBnd:\t0000000000000000".to_owned()]
    {
        assert!(status.contains(&line), "{line}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");

    let described: serde_json::Value =
        serde_json::from_str(&parent.output(&["nitro-cli", "describe-enclaves"]).unwrap()).unwrap();
    let measured: serde_json::Value =
        serde_json::from_str(&parent.output(&["cat", "/etc/wg-server/measurements.json"]).unwrap()).unwrap();
    for pcr in ["PCR0", "PCR1", "PCR2"] {
        assert_eq!(described[0]["Measurements"][pcr], measured[pcr], "{pcr}");
    }
    assert_eq!(described[0]["EnclaveName"], "signer");
    assert_eq!(described[0]["ProcessID"].to_string(), main_pid(&shared).trim());
}

#[test]
fn an_enclave_that_ends_ends_its_process_and_the_service_starts_another() {
    let shared = lab_with(1);
    let (before, process) = (machine(&shared).unwrap(), main_pid(&shared));
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    wait("another enclave", ANOTHER, || machine(&shared).is_some_and(|now| now != before));
    assert_ne!(main_pid(&shared), process);
    shared.lab.enclave(EnclaveId::FIRST).wait_tunnel().unwrap();
}

#[test]
fn a_process_that_ends_takes_its_enclave_along() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    for signal in ["KILL", "TERM"] {
        let before = machine(&shared).unwrap();
        parent.signal("enclave", signal).unwrap();
        wait("the end of the enclave", Duration::from_secs(20), || machine(&shared) != Some(before));
        wait("another enclave", ANOTHER, || machine(&shared).is_some());
        shared.lab.enclave(EnclaveId::FIRST).wait_tunnel().unwrap();
    }
}

#[test]
fn what_cannot_be_has_the_number_and_the_status_of_aws_s_error_and_leaves_nothing_behind() {
    let shared = lab_with(1);
    let image = "/usr/local/lib/enclave/enclave.eif";
    let before = machine(&shared);
    // Either the process that would hold the enclave finds the error, or nitro-cli before it starts that process.
    for (arguments, number, is_of_process, said) in [
        (run_enclave("16", "512", image), 33, true, "CID 16 is in use by a running enclave"),
        (run_enclave("17", "16", image), 26, true, "--memory: 16 MiB; expected at least "),
        (run_enclave("17", "512", "/no/such.eif"), 19, true, "/no/such.eif: No such file or directory"),
        (run_enclave("17", "512", "/etc/hostname"), 59, true, "/etc/hostname"),
        (run_enclave("24", "512", image), 33, true, "16 to 23"),
        (run_enclave("2", "512", image), 3, false, "expected 3 or more"),
        (words("terminate-enclave --enclave-name nobody"), 58, false, "no enclave is called nobody"),
        (words("console --enclave-name signer"), 44, false, "was not started with --debug-mode"),
    ] {
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (stderr, status) = nitro_cli(&shared, &words);
        let numbers: Vec<_> =
            stderr.lines().filter(|line| line.starts_with("[ E") || line.starts_with("Failed")).collect();
        let own = format!("[ E{number:02} ] ");
        match (is_of_process, &numbers[..]) {
            (true, [first, "Failed connections: 1", last]) => {
                assert!(first.starts_with(&own) && last.starts_with("[ E39 ] "), "{words:?}: {stderr}");
                assert_eq!(status, 39, "{words:?}: {stderr}");
            }
            (false, [only]) => {
                assert!(only.starts_with(&own), "{words:?}: {stderr}");
                assert_eq!(status, number, "{words:?}: {stderr}");
            }
            (true | false, _) => panic!("{words:?}: {stderr}"),
        }
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
    assert_eq!(machine(&shared), before);
    let described = shared.lab.parent().unwrap().output(&["nitro-cli", "describe-enclaves"]).unwrap();
    assert_eq!(described.matches("\"EnclaveID\"").count(), 1, "{described}");
}
