use std::cell::RefCell;

use libsystemd::logging::Priority;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tunnel::log::{HEADER, Level};

use super::*;

fn line(text: &str) -> Line {
    Line { level: Level::Warning, uptime: Duration::from_micros(1_000_123), lost: 0, text: text.to_owned() }
}

/// What is written of the lines, and how the stream ends.
async fn written(lines: &[Line], rest: &[u8]) -> (Vec<Line>, Result<()>) {
    let (mut enclave, mut parent) = duplex(1 << 20);
    for line in lines {
        control::write(&mut enclave, line).await.unwrap();
    }
    enclave.write_all(rest).await.unwrap();
    drop::<DuplexStream>(enclave);
    let written = RefCell::<Vec<Line>>::default();
    let end = read(&mut parent, |line| {
        written.borrow_mut().push(line);
        Ok(())
    })
    .await;
    (written.into_inner(), end)
}

#[tokio::test]
async fn lines_are_written_until_the_stream_ends() {
    let lines = [line("one"), line("two")];
    let (written, end) = written(&lines, b"").await;
    assert_eq!(written, lines);
    assert!(end.is_ok());
}

#[tokio::test]
async fn what_is_no_line_ends_the_stream_with_what_was_expected() {
    let too_long = line(&"x".repeat(MAX_TEXT + 1));
    let (before, end) = written(&[line("one"), too_long, line("never")], b"").await;
    assert_eq!(before, [line("one")]);
    assert_eq!(end.unwrap_err().to_string(), "a line of 2049 bytes, expected at most 2048");
    for (rest, expected) in [
        (&[0xff, 0xff][..], "read a line: a message of 65535 bytes, expected 1 to 16000"),
        (&[0, 2, 0x80, 0x80], "read a line: a message of another shape"),
        (&[0, 9, 1], "read a line: early eof"),
    ] {
        let (_, end) = written(&[], rest).await;
        let error = format!("{:#}", end.unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_at_the_rate_that_is_allowed() {
    let begin = tokio::time::Instant::now();
    let lines = vec![line("flood"); 2 * LINES_PER_SECOND];
    assert_eq!(written(&lines, b"").await.0.len(), lines.len());
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    let begin = tokio::time::Instant::now();
    let lines = vec![line(&"x".repeat(MAX_TEXT)); 2 * BYTES_PER_SECOND / MAX_TEXT];
    assert!(lines.len() < 2 * LINES_PER_SECOND);
    assert_eq!(written(&lines, b"").await.0.len(), lines.len());
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn another_program_s_stream_is_refused() {
    let (mut enclave, mut parent) = duplex(64);
    enclave.write_all(&HEADER).await.unwrap();
    header(&mut parent).await.unwrap();
    enclave.write_all(b"GET / HTTP/1.1").await.unwrap();
    let error = header(&mut parent).await.unwrap_err().to_string();
    assert!(error.starts_with("the log stream starts with [47, 45, 54, 20"), "{error}");
}

#[test]
fn an_entry_has_the_line_s_level_and_time_and_no_control_characters() {
    let (priority, message) = journal::entry(&line("a\tb\u{1b}[2J\nforged"));
    assert!(matches!(priority, Priority::Warning));
    assert_eq!(message, "[    1.000123] a\tb\\u{1b}[2J\\u{a}forged");
}
