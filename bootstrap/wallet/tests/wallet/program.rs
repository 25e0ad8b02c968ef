//! A program of this host that asks a hub or a proxy, in plain HTTP.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// What no test waits longer for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn sign_body(nonce: u64, secret_id: &str) -> String {
    format!(
        r#"{{"transaction_payload": {{"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": {nonce},
        "type": 2, "chainId": 1, "gas": 100000, "maxFeePerGas": 1000, "maxPriorityFeePerGas": 10}},
        "secret_id": "{secret_id}"}}"#
    )
}

/// One exchange on a new connection.
pub(crate) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let len = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    );
    // Who refuses a long body has closed.
    drop(stream.write_all(text.as_bytes()).await);
    let mut answer = Vec::new();
    let _end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}
