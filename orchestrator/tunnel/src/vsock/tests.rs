use std::error::Error as _;

use super::*;

#[tokio::test]
async fn an_error_names_the_machine_and_the_port() {
    // Nothing has this id: small ones are reserved, and larger ones are machines on this host's hypervisor, if any.
    let error = connect(Cid(0), Port(77), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.to_string(), "connect to vsock CID 0 port 77");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_stream_writes_many_slices_at_once_and_its_halves_share_no_lock() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut ours, mut theirs) = (Stream(ours), Stream(theirs));
    assert!(ours.is_write_vectored());
    let slices = [io::IoSlice::new(b"one"), io::IoSlice::new(b"two")];
    let (mut reader, mut writer) = ours.split();
    assert_eq!(tokio::io::AsyncWriteExt::write_vectored(&mut writer, &slices).await.unwrap(), 6);
    let mut bytes = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut bytes).await.unwrap();
    assert_eq!(&bytes, b"onetwo");
    tokio::io::AsyncWriteExt::write_all(&mut theirs, b"back").await.unwrap();
    let mut bytes = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut bytes).await.unwrap();
    assert_eq!(&bytes, b"back");
}
