use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::datagram::{Received, Sent};
use crate::frame::{self, Frame, MAX_DATAGRAM};

/// Datagrams that the test sends.
struct Feed(UnboundedReceiver<Vec<u8>>);

impl Source for Feed {
    fn poll_receive(&mut self, cx: &mut Context<'_>, batch: &mut [Frame]) -> Poll<io::Result<Received>> {
        let mut datagrams = Vec::new();
        let Poll::Ready(1..) = self.0.poll_recv_many(cx, &mut datagrams, batch.len()) else { return Poll::Pending };
        for (frame, datagram) in batch.iter_mut().zip(&datagrams) {
            frame.space()[..datagram.len()].copy_from_slice(datagram);
            frame.fill(datagram.len()).unwrap();
        }
        Poll::Ready(Ok(Received { frames: datagrams.len(), ..Received::default() }))
    }
}

/// Datagrams that the test looks at.
struct Log(UnboundedSender<Vec<u8>>);

impl Sink for Log {
    fn poll_send(&mut self, _: &mut Context<'_>, datagrams: &[&[u8]]) -> Poll<io::Result<Sent>> {
        self.0.send(datagrams[0].to_vec()).unwrap();
        Poll::Ready(Ok(Sent { datagrams: 1, ..Sent::default() }))
    }
}

/// A datagram side that takes nothing.
struct Blocked;

impl Sink for Blocked {
    fn poll_send(&mut self, _: &mut Context<'_>, _: &[&[u8]]) -> Poll<io::Result<Sent>> {
        Poll::Pending
    }
}

/// A pump with everything around it, for one stream after another.
struct Rig {
    pump: Pump,
    feed: Feed,
    log: Log,
    counters: Counters,
}

impl Rig {
    fn new() -> (Self, UnboundedSender<Vec<u8>>, UnboundedReceiver<Vec<u8>>) {
        let ((to, feed), (log, from)) = (unbounded_channel(), unbounded_channel());
        let pump = Pump::new(Settings::default());
        (Self { pump, feed: Feed(feed), log: Log(log), counters: Counters::default() }, to, from)
    }

    async fn run(&mut self, stream: DuplexStream) -> End {
        let (mut reader, mut writer) = split(stream);
        let Self { pump, feed, log, counters } = self;
        pump.run(&mut reader, &mut writer, feed, log, counters).await
    }
}

fn firsts(received: &mut UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    std::iter::from_fn(|| received.try_recv().ok()).map(|datagram| datagram[0]).collect()
}

/// What a pump says to, and makes of, bytes after which the stream ends.
async fn given(bytes: &[u8]) -> (End, Vec<u8>) {
    let (mut rig, _to, mut from) = Rig::new();
    let (ours, mut theirs) = duplex(100_000);
    theirs.write_all(bytes).await.unwrap();
    drop(theirs);
    let end = rig.run(ours).await;
    assert_eq!(rig.counters.snapshot().to_udp_bytes, bytes.len() as u64);
    (end, firsts(&mut from))
}

#[tokio::test(start_paused = true)]
async fn datagrams_cross_both_ways_at_once_and_unchanged() {
    let (mut left, to_left, mut from_left) = Rig::new();
    let (mut right, to_right, mut from_right) = Rig::new();
    let (a, b) = duplex(777);
    let sent: Vec<Vec<u8>> = (0..300_usize)
        .map(|i| (0..1 + i * 7919 % MAX_DATAGRAM).map(|at| ((at ^ i) % 256) as u8 | 8).collect())
        .collect();
    let feed = async {
        let (mut to_the_right, mut to_the_left) = (Vec::new(), Vec::new());
        for datagram in &sent {
            to_left.send(datagram.clone()).unwrap();
            to_right.send(datagram.clone()).unwrap();
            to_the_right.push(from_right.recv().await.unwrap());
            to_the_left.push(from_left.recv().await.unwrap());
        }
        assert!(to_the_right == sent && to_the_left == sent);
    };
    tokio::select! {
        end = left.run(a) => panic!("{end}"),
        end = right.run(b) => panic!("{end}"),
        () = feed => {}
    }
    let counters = left.counters.snapshot();
    assert_eq!((counters.to_stream_frames, counters.to_udp_datagrams, counters.to_stream_dropped), (300, 300, 0));
    assert_eq!(counters.to_stream_bytes, counters.to_udp_bytes);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_leaves_udp_drained_and_ends_as_stalled() {
    let (mut rig, to, _from) = Rig::new();
    let (ours, _theirs) = duplex(50_000);
    for _ in 0..10_000 {
        to.send(vec![4; 1452]).unwrap();
    }
    let end = rig.run(ours).await;
    assert!(matches!(end, End::Stalled(time) if time <= Duration::from_secs(11)), "{end}");
    assert!(rig.feed.0.is_empty(), "UDP was not drained");
    let counters = rig.counters.snapshot();
    let waiting = Settings::default().queue_frames as u64;
    assert!(counters.to_stream_bytes == 50_000 && counters.to_stream_dropped >= 10_000 - waiting - 35, "{counters:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_overtakes_what_waits_for_a_slow_reader() {
    let (mut rig, to, _from) = Rig::new();
    let (ours, mut theirs) = duplex(1_000);
    for _ in 0..100 {
        to.send(vec![4; 1452]).unwrap();
    }
    to.send(vec![1; 148]).unwrap();
    let reader = async {
        let mut bytes = vec![0; 4 * 1454];
        theirs.read_exact(&mut bytes).await.unwrap();
        let first = frame::parse(&bytes).unwrap().unwrap();
        let second = frame::parse(first.behind).unwrap().unwrap();
        [first.datagram[0], second.datagram[0]]
    };
    tokio::select! {
        end = rig.run(ours) => panic!("{end}"),
        order = reader => assert!(order.contains(&1), "{order:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_udp_side_that_takes_nothing_does_not_stop_the_other_direction() {
    let (mut rig, to, _from) = Rig::new();
    let (ours, mut theirs) = duplex(2 * Settings::default().read_bytes);
    // More than one read holds: it stays in the stream.
    theirs.write_all(&[0, 1, 9].repeat(Settings::default().read_bytes / 2)).await.unwrap();
    to.send(vec![4; 1452]).unwrap();
    let (mut reader, mut writer) = split(ours);
    let (mut sink, mut bytes) = (Blocked, [0; 1454]);
    tokio::select! {
        end = rig.pump.run(&mut reader, &mut writer, &mut rig.feed, &mut sink, &rig.counters) => panic!("{end}"),
        read = theirs.read_exact(&mut bytes) => assert_eq!(read.unwrap(), 1454),
    }
    let run = rig.pump.run(&mut reader, &mut writer, &mut rig.feed, &mut sink, &rig.counters);
    assert!(time::timeout(Duration::from_secs(60), run).await.is_err(), "it waits for UDP");
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_vanish_end_the_pump() {
    let (mut rig, to, _from) = Rig::new();
    let (ours, _theirs) = duplex(100_000);
    let feed = async {
        loop {
            to.send(vec![1; 148]).unwrap();
            time::sleep(Duration::from_secs(5)).await;
        }
    };
    let start = Instant::now();
    tokio::select! {
        end = rig.run(ours) => assert!(matches!(end, End::Unanswered(3)), "{end}"),
        () = feed => {}
    }
    assert!(start.elapsed() <= Duration::from_secs(13));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_lives_for_a_day() {
    let (mut rig, _to, _from) = Rig::new();
    let (ours, _theirs) = duplex(100);
    assert!(time::timeout(Duration::from_secs(86_400), rig.run(ours)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_between_frames_has_closed() {
    let (end, datagrams) = given(&[0, 1, 8, 0, 2, 9, 9]).await;
    assert!(matches!(end, End::Closed), "{end}");
    assert_eq!(datagrams, [8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_anywhere_in_a_frame_is_told_from_one_that_was_closed() {
    for cut in 1..12 {
        let (end, datagrams) = given(&[0, 1, 8, 0, 10, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9][..3 + cut]).await;
        assert!(matches!(end, End::Cut(bytes) if bytes == cut), "{end}");
        assert_eq!(datagrams, [8]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_length_ends_the_pump_after_what_came_before_it() {
    let (end, datagrams) = given(&[0, 1, 8, 0, 0]).await;
    assert!(matches!(end, End::Frame(FrameError::Empty)), "{end}");
    assert_eq!(datagrams, [8]);
    let (end, datagrams) = given(&[0, 1, 8, 0xff, 0xff]).await;
    assert!(matches!(end, End::Frame(FrameError::TooLong(65_535))), "{end}");
    assert_eq!(datagrams, [8]);
    assert_eq!(end.to_string(), "the peer sent a frame of 65535 bytes, expected at most 15998");
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_pump() {
    let (end, _) = given(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(matches!(end, End::Frame(FrameError::TooLong(_))), "{end}");
}

#[tokio::test(start_paused = true)]
async fn the_next_stream_starts_with_a_whole_frame() {
    let (mut rig, to, mut from) = Rig::new();
    let (ours, mut theirs) = duplex(1_000);
    theirs.write_all(&[0, 9, 1, 1]).await.unwrap();
    to.send(vec![4; 1452]).unwrap();
    let mut bytes = [0; 500];
    tokio::select! {
        end = rig.run(ours) => panic!("{end}"),
        read = theirs.read_exact(&mut bytes) => assert_eq!(read.unwrap(), 500),
    }

    let (ours, mut theirs) = duplex(1_000);
    theirs.write_all(&[0, 1, 8]).await.unwrap();
    to.send(vec![9; 3]).unwrap();
    let mut bytes = [0; 5];
    tokio::select! {
        end = rig.run(ours) => panic!("{end}"),
        read = theirs.read_exact(&mut bytes) => assert_eq!(read.unwrap(), 5),
    }
    assert_eq!(bytes, [0, 3, 9, 9, 9]);
    assert_eq!(firsts(&mut from), [8]);
    assert_eq!(rig.counters.snapshot().to_stream_dropped, 1);
}
