use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use tunnel::log::Level;

use super::*;
use crate::link;

fn line(text: impl Into<String>) -> Line {
    Line { level: Level::Info, uptime: Duration::from_secs(1), lost: 0, text: text.into() }
}

/// A log whose lines come from the link.
fn log() -> (Log, Link) {
    let (ours, theirs) = link::pair().unwrap();
    (Log::new(Some(Link::new(ours).unwrap())), Link::new(theirs).unwrap())
}

async fn read(parent: &mut DuplexStream) -> Line {
    timeout(Duration::from_secs(60), control::read(parent)).await.unwrap().unwrap()
}

/// Runs the log beside a parent.
async fn beside<T>(log: &Log, stream: DuplexStream, parent: impl Future<Output = T>) -> T {
    tokio::select! {
        parent = parent => parent,
        never = log.gather() => match never {},
        end = async { log.send(stream).await; pending::<()>().await } => panic!("{end:?}"),
    }
}

#[test]
fn the_oldest_lines_make_room_and_the_next_one_says_how_many_were_lost() {
    let mut backlog = Backlog::default();
    let each = "x".repeat(1000);
    let room = MAX_BYTES / (LINE_BYTES + 1000);
    for _ in 0..room + 3 {
        backlog.push(line(each.clone()));
    }
    backlog.push(Line { lost: 5, ..line(each) });
    assert!(backlog.bytes <= MAX_BYTES);
    assert_eq!(backlog.pop().unwrap().lost, 4);
    let rest: Vec<_> = std::iter::from_fn(|| backlog.pop()).map(|line| line.lost).collect();
    assert_eq!((rest.len(), rest.iter().sum(), rest.last()), (room - 1, 5_u64, Some(&5)));
    assert_eq!(backlog.bytes, 0);
}

#[test]
fn no_line_is_uncounted_whatever_is_put_back_in_between() {
    let mut backlog = Backlog::default();
    let mut sent = 0;
    for at in 0..10_000 {
        backlog.push(line("y".repeat(at % 1500)));
        if at % 3 == 0
            && let Some(line) = backlog.next()
        {
            if at % 2 == 0 {
                backlog.put_back();
            } else {
                backlog.unsent = None;
                sent += 1 + line.lost;
            }
        }
    }
    sent += std::iter::from_fn(|| backlog.pop()).map(|line| 1 + line.lost).sum::<u64>();
    assert_eq!(sent, 10_000);
}

#[tokio::test(start_paused = true)]
async fn lines_arrive_in_order_at_the_rate_that_is_allowed() {
    let (log, processes) = log();
    let (stream, mut parent) = duplex(4096);
    let begin = tokio::time::Instant::now();
    let work = async {
        for at in 0..2 * SENT_PER_SECOND + 1 {
            processes.send(&line(at.to_string())).await.unwrap();
            assert_eq!(read(&mut parent).await, line(at.to_string()));
        }
    };
    beside(&log, stream, work).await;
    // The budget's clock stands still, so its seconds are those that sleep_until passed.
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn what_a_stream_did_not_take_is_sent_on_the_next() {
    let (log, processes) = log();
    let (stream, parent) = duplex(64);
    let work = async {
        processes.send(&line("z".repeat(500))).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        drop(parent);
        sleep(Duration::from_millis(50)).await;
    };
    beside(&log, stream, work).await;
    let (stream, mut parent) = duplex(4096);
    assert_eq!(beside(&log, stream, read(&mut parent)).await, line("z".repeat(500)));
}

#[tokio::test]
async fn a_parent_that_does_not_read_costs_lines_and_each_of_them_is_counted() {
    let (log, processes) = log();
    let (stream, mut parent) = duplex(64);
    const LINES: u32 = 700;
    let work = async {
        for at in 0..LINES {
            processes.send(&line(format!("{at} {}", "w".repeat(1000)))).await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
        let mut counted = 0;
        while counted < u64::from(LINES) {
            let Ok(line) = timeout(Duration::from_secs(5), control::read::<Line, _>(&mut parent)).await else { break };
            counted += 1 + line.unwrap().lost;
        }
        counted
    };
    assert_eq!(beside(&log, stream, work).await, u64::from(LINES));
}

#[tokio::test]
async fn a_parent_that_sends_something_has_its_stream_ended() {
    let (log, _processes) = log();
    let (stream, mut parent) = duplex(64);
    tokio::io::AsyncWriteExt::write_all(&mut parent, b"x").await.unwrap();
    assert_eq!(log.send(stream).await, "the parent sends on the log stream, a byte 0x78");
}

#[tokio::test]
async fn what_is_no_line_is_counted_and_ends_neither_the_log_nor_the_stream() {
    let (ours, theirs) = link::pair().unwrap();
    let log = Log::new(Some(Link::new(ours).unwrap()));
    let (stream, mut parent) = duplex(4096);
    let work = async {
        for garbage in [&b""[..], b"\x80", &[0x84; 100]] {
            nix::sys::socket::send(
                std::os::fd::AsRawFd::as_raw_fd(&theirs),
                garbage,
                nix::sys::socket::MsgFlags::empty(),
            )
            .unwrap();
        }
        let processes = Link::new(theirs).unwrap();
        processes.send(&line("x".repeat(MAX_TEXT + 1))).await.unwrap();
        processes.send(&line("good")).await.unwrap();
        read(&mut parent).await
    };
    assert_eq!(beside(&log, stream, work).await, Line { lost: 4, ..line("good") });
}
