//! Relays one control stream to the gateway: a header first, and then the bytes as they come.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tunnel::port::Cid;
use tunnel::preface::Role;
use tunnel::via::Via;

use crate::remote;

/// Until the gateway has accepted the connection and the header.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Buffer for each direction: less than the 32,000 bytes that a vsock stream accepts in one write.
const BUFFER: usize = 16 << 10;

/// Relays until both sides have ended their direction, or one of them fails. Returns the reason. Drops `waiting` when the gateway
/// is connected.
pub(super) async fn carry<W>(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    cid: Cid,
    gateway: SocketAddr,
    waiting: W,
) -> Result<String> {
    let mut connection = timeout(CONNECT_DEADLINE, connect(cid, gateway))
        .await
        .map_err(anyhow::Error::new)
        .and_then(|connected| connected)
        .with_context(|| format!("connect to gateway.control, {gateway}"))?;
    drop(waiting);
    tracing::info!(%cid, role = ?Role::Control, %gateway, "stream open");
    let (out, back) = copy_bidirectional_with_sizes(&mut stream, &mut connection, BUFFER, BUFFER)
        .await
        .context("relay between the enclave and the gateway")?;
    Ok(format!("both sides ended it, after {out} bytes from the enclave and {back} bytes to it"))
}

async fn connect(cid: Cid, gateway: SocketAddr) -> Result<TcpStream> {
    let mut connection = TcpStream::connect(gateway).await?;
    remote::watch(&connection)?;
    connection.write_all(&Via { cid }.encode()).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::net::TcpListener;

    use super::*;

    /// An enclave's end, the gateway's end, and what the relay says in the end.
    async fn connected() -> (DuplexStream, TcpStream, impl Future<Output = Result<String>>) {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (enclave, stream) = duplex(64);
        let address = gateway.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(carry(stream, Cid(0x0102_0304), address, ()));
        let (gateway, _) = gateway.accept().await.unwrap();
        (enclave, gateway, async move { tasks.join_next().await.unwrap().unwrap() })
    }

    async fn read<const N: usize>(reader: &mut (impl AsyncRead + Unpin)) -> [u8; N] {
        let mut bytes = [0; N];
        reader.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_gateway_gets_the_header_and_then_every_byte_as_it_is() {
        let (mut enclave, mut gateway, _end) = connected().await;
        assert_eq!(read(&mut gateway).await, Via { cid: Cid(0x0102_0304) }.encode());
        enclave.write_all(b"not even a preface").await.unwrap();
        assert_eq!(&read::<18>(&mut gateway).await, b"not even a preface");
        gateway.write_all(&[0, 255, 0]).await.unwrap();
        assert_eq!(read(&mut enclave).await, [0, 255, 0]);
    }

    #[tokio::test]
    async fn a_side_that_has_ended_its_direction_still_gets_the_other() {
        let (mut enclave, mut gateway, end) = connected().await;
        read::<8>(&mut gateway).await;
        gateway.shutdown().await.unwrap();
        assert_eq!(enclave.read(&mut [0]).await.unwrap(), 0);
        enclave.write_all(b"last words").await.unwrap();
        assert_eq!(&read::<10>(&mut gateway).await, b"last words");
        drop(enclave);
        assert_eq!(end.await.unwrap(), "both sides ended it, after 10 bytes from the enclave and 0 bytes to it");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named() {
        let (_enclave, stream) = duplex(64);
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = format!("{:#}", carry(stream, Cid(16), nobody, ()).await.unwrap_err());
        assert!(error.starts_with(&format!("connect to gateway.control, {nobody}: Connection refused")), "{error}");
    }
}
