use super::*;

fn frame(first: u8, len: usize) -> Frame {
    let mut frame = Frame::new();
    frame.space()[..len].fill(first);
    frame.fill(len).unwrap();
    frame
}

/// Writes as `take` bytes at a time allow, and gives back the first byte of every datagram in the order of the stream.
fn drain(queue: &mut Queue, take: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !queue.is_empty() {
        write(queue, take, &mut bytes);
    }
    firsts(&bytes)
}

fn write(queue: &mut Queue, take: usize, bytes: &mut Vec<u8>) {
    let mut slices = [IoSlice::new(&[]); MAX_FRAMES_PER_WRITE];
    let count = queue.next_write(&mut slices);
    let next: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
    assert!(!next.is_empty() && next.len() <= MAX_WRITE);
    let taken = next.len().min(take);
    bytes.extend(&next[..taken]);
    queue.written(taken);
}

fn firsts(mut bytes: &[u8]) -> Vec<u8> {
    let mut firsts = Vec::new();
    while let Some(whole) = crate::frame::parse(bytes).unwrap() {
        firsts.push(whole.datagram[0]);
        bytes = whole.behind;
    }
    assert!(bytes.is_empty(), "a frame was cut");
    firsts
}

#[test]
fn handshakes_and_keepalives_overtake_data() {
    let mut queue = Queue::new(100_000, 16);
    for (first, len) in [(4, 1452), (4, 33), (9, 100), (4, KEEPALIVE_LEN), (1, 148), (2, 92), (3, 64)] {
        assert_eq!(queue.push(&mut frame(first, len)), Pushed::Queued);
    }
    let mut bytes = Vec::new();
    write(&mut queue, KEEPALIVE_LEN + 2, &mut bytes);
    assert_eq!(bytes.len() - 2, KEEPALIVE_LEN);
    assert_eq!([firsts(&bytes), drain(&mut queue, 40_000)].concat(), [4, 1, 2, 3, 4, 4, 9]);
}

#[test]
fn a_started_frame_is_finished_before_a_handshake_goes() {
    let mut queue = Queue::new(100_000, 16);
    queue.push(&mut frame(4, 1452));
    queue.push(&mut frame(4, 1452));
    let mut bytes = Vec::new();
    write(&mut queue, 7, &mut bytes);
    queue.push(&mut frame(1, 148));
    while !queue.is_empty() {
        write(&mut queue, 700, &mut bytes);
    }
    assert_eq!(firsts(&bytes), [4, 1, 4]);
}

#[test]
fn a_started_frame_is_finished_after_everything_else_was_displaced() {
    let mut queue = Queue::new(3 * 1454, 16);
    for _ in 0..3 {
        queue.push(&mut frame(4, 1452));
    }
    let mut bytes = Vec::new();
    write(&mut queue, 1, &mut bytes);
    for _ in 0..100 {
        queue.push(&mut frame(1, 148));
    }
    while !queue.is_empty() {
        write(&mut queue, 40_000, &mut bytes);
    }
    let order = firsts(&bytes);
    assert_eq!(order[0], 4);
    assert!(order.len() > 10 && order[1..].iter().all(|first| *first == 1));
}

#[test]
fn the_queue_holds_no_more_bytes_than_it_was_given() {
    let mut queue = Queue::new(10_000, 1_000);
    let pushed: Vec<_> = (0..100).map(|_| queue.push(&mut frame(4, 1452))).collect();
    assert_eq!(pushed.iter().filter(|p| **p == Pushed::Queued).count(), 6);
    assert!(queue.bytes() <= 10_000);
    assert_eq!(drain(&mut queue, 5_000).len(), 6);
}

#[test]
fn the_queue_holds_no_more_frames_than_it_was_given() {
    let mut queue = Queue::new(1 << 20, 4);
    let pushed: Vec<_> = (0..6).map(|_| queue.push(&mut frame(4, 40))).collect();
    assert_eq!(pushed[3..], [Pushed::Queued, Pushed::Dropped, Pushed::Dropped]);
}

#[test]
fn a_full_queue_displaces_the_youngest_data_for_a_handshake() {
    let mut queue = Queue::new(3 * 1454, 16);
    for first in [11, 12, 13] {
        queue.push(&mut frame(first, 1452));
    }
    assert_eq!(queue.push(&mut frame(1, 148)), Pushed::Displaced);
    assert_eq!(drain(&mut queue, 40_000), [1, 11, 12]);
}

#[test]
fn a_queue_full_of_handshakes_drops_the_next() {
    let mut queue = Queue::new(300, 16);
    assert_eq!(queue.push(&mut frame(1, 148)), Pushed::Queued);
    assert_eq!(queue.push(&mut frame(1, 148)), Pushed::Queued);
    assert_eq!(queue.push(&mut frame(1, 148)), Pushed::Dropped);
}

#[test]
fn small_datagrams_share_a_write_and_large_ones_stay_within_it() {
    let mut queue = Queue::new(1 << 20, 100);
    let mut next = |len, times| {
        for _ in 0..times {
            queue.push(&mut frame(9, len));
        }
        let mut bytes = Vec::new();
        write(&mut queue, usize::MAX, &mut bytes);
        queue.clear();
        bytes.len()
    };
    assert_eq!(next(1452, 40), 22 * 1454);
    assert_eq!(next(15_400, 9), 2 * 15_402);
    assert_eq!(next(crate::frame::MAX_DATAGRAM, 9), MAX_WRITE);
}

#[test]
fn frames_are_used_again_without_end() {
    let mut queue = Queue::new(10_000, 4);
    let mut slot = frame(4, 100);
    for _ in 0..1_000 {
        slot.fill(100).unwrap();
        assert_eq!(queue.push(&mut slot), Pushed::Queued);
        assert_eq!(drain(&mut queue, 17).len(), 1);
    }
    queue.push(&mut frame(4, 100));
    queue.push(&mut frame(1, 148));
    assert_eq!((queue.clear(), queue.bytes()), (2, 0));
}
