//! How much memory clients can make the service take, measured in a process of its own: this test program again.

use std::process::Command;
use std::time::Duration;

use signer::service::{Limits, MOST_MEMORY};

use super::harness::{open, start_with};

const CASE: &str = "SIGNER_MEMORY_CASE";

/// As many clients as this ended a signer that kept each chunk's buffer.
const CLIENTS: usize = 64;

/// One byte in a chunk of its own.
const CHUNK: &[u8] = b"1\r\n \r\n";

/// 0.4 MB on the wire.
const CHUNKS: usize = 66_000;

/// What 64 bodies of 66,000 bytes may take: buffers of 128 KiB, and the clients' own buffers, who are in this process too.
/// A signer that keeps each chunk's buffer takes more than 160 MiB.
const ALLOWED_KIB: usize = 32 * 1024;

#[test]
fn bodies_of_one_byte_chunks_take_no_more_memory_than_their_bytes() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::a_case", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CASE, "one-byte chunks")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[&child.stdout[..], &child.stderr].concat()).into_owned();
    assert!(child.status.success(), "{text}");
}

#[tokio::test]
#[ignore = "run by the other test, in a process of its own"]
async fn a_case() {
    assert_eq!(std::env::var(CASE).as_deref(), Ok("one-byte chunks"), "no such case");
    let patient = Duration::from_mins(5);
    let server = start_with(open(), Limits { body: patient, head: patient, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect().await;
        client.send(b"POST / HTTP/1.1\r\nHost: signer\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    let before = kib("VmHWM");
    for part in CHUNK.repeat(CHUNKS).chunks(64 * 1024) {
        for client in &mut clients {
            client.send(part).await.unwrap();
        }
    }
    // Each answer says that the service has read all of a body, and that while no other had ended.
    for client in &mut clients {
        client.send(b"0\r\n\r\n").await.unwrap();
        assert_eq!(
            client.answer_within(patient).await.unwrap().error(),
            (400, "bad_request".into(), Some("body".into()))
        );
    }
    let taken = kib("VmHWM") - before;
    assert!(taken < ALLOWED_KIB, "{taken} KiB, expected at most {ALLOWED_KIB}");
    assert!(taken * 1024 < MOST_MEMORY);
}

/// A line of this process's status.
fn kib(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
