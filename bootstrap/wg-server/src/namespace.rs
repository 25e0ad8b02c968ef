//! Tests that need a network of their own: each runs this test binary again, under unshare(1), for one test in it.

use std::process::Command;

/// Runs the ignored test of this name with its own users, network and mounts, and fails as it fails.
pub(crate) fn alone(test: &str) {
    unshared(&["--map-root-user"], test);
}

/// As [`alone`], where this host's other users exist too: they do as long as nobody makes users of one's own, which takes root, or
/// user IDs that newuidmap(1) lends.
pub(crate) fn alone_with_users(test: &str) {
    let users: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--map-root-user", "--map-auto"] };
    unshared(users, test);
}

fn unshared(users: &[&str], test: &str) {
    let status = Command::new("unshare")
        .args(users)
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
}

/// Runs a command, which has to succeed, and gives its output.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{out}{err}", output.status);
    out.into_owned()
}
