//! Up, status, exec, down.

use std::time::{Duration, Instant};

use super::shared_lab::{PROGRAM, lab_with};
use lab::Lab;

#[test]
fn the_exit_status_and_output_of_a_command_on_the_parent_are_ours() {
    let shared = lab_with(0);
    let output = shared.run(&["exec", "parent", "--", "sh", "-c", "echo \"$1\"; exit 7", "x", "it's  here"]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"it's  here\n"[..]));
}

#[test]
fn a_second_up_says_what_already_runs() {
    let shared = lab_with(0);
    let output = shared.run(&["up", "--enclaves", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("switch is already running") && said.contains("parent is already running"), "{said}");
}

#[test]
fn an_image_that_is_not_there_is_named_before_the_enclave_ends_for_it() {
    let shared = lab_with(1);
    let pids = || shared.lab.status().unwrap().pieces.into_iter().map(|piece| piece.pid).collect::<Vec<_>>();
    let before = pids();
    for verb in ["restart", "start"] {
        let output = shared.run(&["enclave", verb, "16", "--eif", "/no/such.eif"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("there is no image /no/such.eif"), "{verb}: {said}");
    }
    assert_eq!(pids(), before, "it runs on");
}

#[test]
fn what_has_died_is_noticed_and_down_leaves_nothing_behind() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    // -no-reboot ends the VM, with or without an answer to ssh.
    drop(parent.shell("sync; echo b >/proc/sysrq-trigger"));
    let end = Instant::now() + Duration::from_secs(20);
    while shared.run(&["status"]).status.success() {
        assert!(Instant::now() < end, "a dead parent is not noticed");
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = shared.run(&["up", "--enclaves", "0"]);
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("parent has ended"), "{said:?}");

    assert!(shared.lab.down().unwrap());
    assert!(!shared.lab.dir().exists() && !shared.lab.dir().with_extension("lock").exists());
    assert!(!shared.lab.down().unwrap(), "there is nothing any more");
}

#[test]
fn a_fault_is_set_listed_and_cleared() {
    let shared = lab_with(0);
    let fault = |words: &str| shared.lab.fault(&words.parse().unwrap()).unwrap();
    assert!(fault("slow --rate 1000 --port 820").contains("fault "));
    assert!(fault("list").contains("bytes_per_second"));
    fault("clear");
    assert!(!fault("list").contains("bytes_per_second"));
}

#[test]
fn a_folder_with_something_else_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "").unwrap();
    let lab = Lab::open(Some(dir.path().into()), None, Some(PROGRAM.into())).unwrap();
    assert!(!lab.down().unwrap());
    assert!(dir.path().join("precious").exists());
}
