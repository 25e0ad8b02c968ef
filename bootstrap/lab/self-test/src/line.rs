//! JSON lines of bounded length.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest line, its end included.
pub(crate) const MAX_LEN: usize = 4096;

/// Reads one line; `None` at the end of the stream.
///
/// Reads byte by byte, so that what follows the line stays in `stream`: give it a buffered reader where that matters.
pub(crate) async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0; 1];
        if stream.read(&mut byte).await? == 0 {
            if line.is_empty() {
                return Ok(None);
            }
            bail!("the stream ended inside a line");
        }
        if byte == *b"\n" {
            return Ok(Some(serde_json::from_slice(&line).context("read a line")?));
        }
        if line.len() + 1 == MAX_LEN {
            bail!("a line is longer than {MAX_LEN} bytes");
        }
        line.extend_from_slice(&byte);
    }
}

/// Reads one line that has to be there.
pub(crate) async fn expect<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    read(stream).await?.context("the other side closed the connection instead of answering")
}

/// Writes one line.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(stream.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_follows_a_line_stays_in_the_stream() {
        let mut stream = &b"1\n2\nrest"[..];
        assert_eq!(expect::<u8>(&mut stream).await.unwrap(), 1);
        assert_eq!(expect::<u8>(&mut stream).await.unwrap(), 2);
        assert_eq!(stream, b"rest");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused_at_the_limit() {
        let long = vec![b'1'; MAX_LEN * 2];
        let mut stream = &long[..];
        assert!(read::<u8>(&mut stream).await.unwrap_err().to_string().contains("longer than 4096 bytes"));
        assert_eq!(stream.len(), MAX_LEN);
    }

    #[tokio::test]
    async fn a_clean_end_is_no_error_and_a_torn_one_is() {
        assert!(read::<u8>(&mut &b""[..]).await.unwrap().is_none());
        assert!(read::<u8>(&mut &b"1"[..]).await.is_err());
    }
}
