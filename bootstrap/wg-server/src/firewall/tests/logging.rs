//! A kernel without nfnetlink_log.

use std::path::PathBuf;

use super::*;

/// An nft that refuses what `pattern` matches, as a kernel without the module does, and is the real one otherwise.
fn without(dir: &Path, pattern: &str) -> PathBuf {
    let path = dir.join("nft");
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\ncase $input in\n*'{pattern}'*) echo 'Error: Could not process rule: No such file or \
         directory' >&2; exit 1 ;;\nesac\nprintf %s \"$input\" | {NFT} \"$@\"\n"
    );
    std::fs::write(&path, script).unwrap();
    sh(&format!("chmod +x {}", path.display()));
    path
}

#[test]
fn without_the_module_that_names_packets_the_table_is_there_and_counts_them() {
    alone("firewall::tests::logging::inside_counts");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_counts() {
    sh(super::sets::NETWORK);
    let dir = tempfile::tempdir().unwrap();
    let nft = without(dir.path(), "\"log\"");
    let mut firewall = wait(Firewall::apply(&nft, &plan(LAB), |_, _| true)).unwrap();
    assert!(!firewall.drops().is_logged());
    assert!(!sh("nft list table inet wg_server").contains("log prefix"));
    let _listener = within("internet", || TcpListener::bind("198.51.100.66:443").unwrap());
    assert!(within("enclave", || connects("198.51.100.66:443")).is_err());
    assert!(wait(firewall.drops().unlisted()).unwrap() >= 1);
    sh("nft flush ruleset");
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
    assert!(within("enclave", || connects("198.51.100.66:443")).is_err());
}

#[test]
fn with_the_module_refused_packets_are_named_and_a_check_changes_nothing() {
    alone("firewall::tests::logging::inside_names");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_names() {
    let before = generation::read().unwrap();
    assert!(wait(crate::firewall::logging::is_possible(&Nft::new(NFT.into()))).unwrap());
    assert_eq!((sh("nft list tables").as_str(), generation::read().unwrap()), ("", before));
    let firewall = apply();
    assert!(firewall.drops().is_logged());
    assert_eq!(sh("nft list table inet wg_server").matches("log prefix \"unlisted\"").count(), 2);
}

#[test]
fn a_kernel_that_refuses_every_rule_is_an_error_and_not_one_without_the_module() {
    alone("firewall::tests::logging::inside_refuses");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let nft = without(dir.path(), "\"rule\"");
    let error = format!("{:#}", wait(Firewall::apply(&nft, &plan(LAB), |_, _| true)).unwrap_err());
    assert!(error.starts_with("set the firewall table inet wg_server: check a table: "), "{error}");
}
