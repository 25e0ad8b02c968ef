//! `wg-server drain` on the parent: what a load balancer's lifecycle hook calls before an instance ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Result;
use lab::Parent;

use super::shared_lab::{lab_with, restoring, wait};

const BACK_WITHIN: Duration = Duration::from_secs(60);
/// A client in the lab's internet that holds its connection to the signer until its input ends.
const CLIENT: &str = "import socket, sys
client = socket.create_connection(('198.51.100.2', 443), 20)
print('connected', flush=True)
sys.stdin.read()";

fn wg_server(parent: &Parent, arguments: &[&str]) -> Result<String> {
    parent.output(&[&["/usr/local/bin/wg-server"], arguments].concat())
}

/// The exit status of a client's request, which is curl's.
fn request(parent: &Parent) -> String {
    let get = "ip netns exec internet curl -s -k -o /dev/null --max-time 10 https://198.51.100.2/health; echo $?";
    parent.shell(get).unwrap().trim().to_owned()
}

fn client(parent: &Parent) -> Child {
    let words = ["ip", "netns", "exec", "internet", "python3", "-c", CLIENT];
    let mut ssh = parent.command(&words, false);
    let mut client = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "connected\n");
    client
}

#[test]
fn a_drained_parent_refuses_new_connections_also_after_a_restart_and_waits_for_the_others() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    wait("an answer", BACK_WITHIN, || request(&parent) == "0");
    let drain = || {
        let mut client = client(&parent);
        let said = wg_server(&parent, &["drain"]).unwrap();
        assert_eq!(said, "draining: new connections are refused; 1 connection is under way\n");
        // curl(1): 7 is a connection that is refused.
        assert_eq!(request(&parent), "7");
        let error = format!("{:#}", wg_server(&parent, &["drain", "--wait", "1s"]).unwrap_err());
        assert!(error.contains("1 connection is still under way after 1 s; expected none"), "{error}");
        drop(client.stdin.take());
        client.wait().unwrap();
        let said = wg_server(&parent, &["drain", "--wait", "30s"]).unwrap();
        assert!(said.ends_with("no connection is under way\n"), "{said}");

        parent.output(&["systemctl", "restart", "wg-server"]).unwrap();
        wait("the status", BACK_WITHIN, || wg_server(&parent, &["status"]).is_ok());
        let status = wg_server(&parent, &["status"]).unwrap();
        assert!(status.contains("new connections are refused, 0 under way"), "{status}");
        wait("the tunnel", BACK_WITHIN, || parent.output(&["ping", "-c1", "-W1", "203.0.113.2"]).is_ok());
        assert_eq!(request(&parent), "7");
    };
    restoring(drain, || {
        let said = wg_server(&parent, &["drain", "--undo"]).unwrap();
        assert!(said.starts_with("not draining: new connections are forwarded; "), "{said}");
    });
    wait("an answer", BACK_WITHIN, || request(&parent) == "0");
}
