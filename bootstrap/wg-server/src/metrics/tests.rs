use std::os::unix::net::UnixListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What a client hears that asks for this, from a wg-server that does not run.
async fn asked(request: &str, is_enclave: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    drop(UnixListener::bind(&path).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, from) = listener.accept().await.unwrap();
    let asking = async {
        let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        said
    };
    let ((), said) = tokio::join!(Client { from, is_enclave }.serve(stream, path), asking);
    said
}

#[tokio::test]
async fn a_wg_server_that_does_not_run_is_down() {
    let said = asked("GET /metrics", false).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\nwg_server_up 0\n"), "{said}");
    assert!(said.contains("content-type: text/plain; version=0.0.4\r\n"), "{said}");
}

#[tokio::test]
async fn an_enclave_and_other_requests_are_refused() {
    for (request, is_enclave, expected) in [
        ("GET /metrics", true, "403 Forbidden"),
        ("GET /", false, "404 Not Found"),
        ("POST /metrics", false, "405 Method Not Allowed"),
    ] {
        let said = asked(request, is_enclave).await;
        assert!(said.contains(expected) && !said.contains("wg_server_up"), "{request}: {said}");
    }
}

#[test]
fn an_enclave_is_known_by_its_address() {
    let networks = ["203.0.113.1/24", "fd3b::1/64"].map(|text| text.parse().unwrap());
    for (address, expected) in [
        ("203.0.113.2", true),
        ("::ffff:203.0.113.2", true),
        ("fd3b::2", true),
        ("127.0.0.1", false),
        ("198.51.100.2", false),
        ("::1", false),
    ] {
        assert_eq!(is_enclave(&networks, address.parse().unwrap()), expected, "{address}");
    }
}
