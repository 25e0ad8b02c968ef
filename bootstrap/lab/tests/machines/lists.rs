//! What one of two enclaves may reach, because a list is for its CID.

use std::time::Duration;

use super::shared_lab::{SharedLab, lab_with, wait};
use lab::{Attempt, EnclaveId, Report, Test};
use parent_vm::{OFF_LIST_NAME, OFF_LIST_SERVER};

const PARENT_TOML: &str = "/etc/wg-server/parent.toml";
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the enclave with CID 17 reach a name that is on no other list.
fn add_list(shared: &SharedLab) {
    let list = format!("[[egress.lists]]\\nname = \"second\"\\nnames = [\"{OFF_LIST_NAME}\"]\\ncids = [17]\\n");
    let line = format!(
        "cp {PARENT_TOML} {PARENT_TOML}.right && printf '{list}' >>{PARENT_TOML} && \
         /usr/local/bin/wg-server check && systemctl restart wg-server"
    );
    shared.lab.parent().unwrap().shell(&line).unwrap();
}

fn restore(shared: &SharedLab) {
    let line =
        format!("[ ! -e {PARENT_TOML}.right ] || mv {PARENT_TOML}.right {PARENT_TOML}; systemctl restart wg-server");
    shared.lab.parent().unwrap().shell(&line).unwrap();
    for id in ["16", "17"] {
        shared.lab.enclave(id.parse().unwrap()).wait_tunnel().unwrap();
    }
    // The tests of renewal count peers.
    shared.lab.enclave("17".parse().unwrap()).stop().unwrap();
}

#[test]
fn an_enclave_reaches_a_name_of_its_list_and_the_other_one_only_resolves_it() {
    let shared = lab_with(2);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reaches_its_list(&shared)));
    restore(&shared);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn reaches_its_list(shared: &SharedLab) {
    add_list(shared);
    let ids: [EnclaveId; 2] = ["16".parse().unwrap(), "17".parse().unwrap()];
    let status = || shared.lab.parent().unwrap().output(&["/usr/local/bin/wg-server", "status"]).unwrap_or_default();
    wait("the list's enclave", PATIENCE, || {
        status().contains("  lists: second\n") && status().contains("  lists: (none)\n")
    });
    let resolve = |id: EnclaveId| {
        let report = shared.lab.enclave(id).self_test(&Test::Resolve { name: format!("{OFF_LIST_NAME}.") }).unwrap();
        let Report::Resolved(resolved) = report else { panic!("{report:?}") };
        resolved.addresses
    };
    let reach = |id: EnclaveId| {
        let test = Test::Reach { to: OFF_LIST_SERVER, by: Attempt::Tcp };
        let report = shared.lab.enclave(id).self_test(&test).unwrap();
        let Report::Reached(error) = report else { panic!("{report:?}") };
        error
    };
    // The other one asks first, and gets an answer that both share.
    for id in ids {
        wait("an answer", PATIENCE, || resolve(id) == [OFF_LIST_SERVER.ip()]);
    }
    let error = reach(ids[0]).expect("an enclave that the list is not for reaches its address");
    assert!(error.contains("no answer"), "{error}");
    assert_eq!(reach(ids[1]), None);
    let because = format!("  open: {} (list second: {OFF_LIST_NAME}, for ", OFF_LIST_SERVER.ip());
    assert_eq!(status().matches(&because).count(), 1, "{}", status());
    let (_, second) = status().split_once("enclave: CID 17\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(second.contains(&because), "{second}");
}
