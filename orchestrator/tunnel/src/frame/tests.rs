use proptest::prelude::*;

use super::*;

const GOLDEN: [u8; 9] = [0, 3, 0x04, 0xaa, 0xbb, 0, 2, 0x01, 0xcc];

fn decode(bytes: &[u8], mut read: impl FnMut() -> usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut decoder = Decoder::new(0);
    let mut datagrams = Vec::new();
    let mut rest = bytes;
    loop {
        loop {
            let mut whole: [&[u8]; 3] = [&[]; 3];
            match decoder.peek(&mut whole) {
                Ok(0) => break,
                Ok(count) => {
                    datagrams.extend(whole[..count].iter().map(|d| d.to_vec()));
                    decoder.consume(count);
                }
                Err(error) => return (datagrams, Some(error)),
            }
        }
        if rest.is_empty() {
            return (datagrams, None);
        }
        let space = decoder.space();
        let len = read().clamp(1, rest.len()).min(space.len());
        space[..len].copy_from_slice(&rest[..len]);
        decoder.filled(len);
        rest = &rest[len..];
    }
}

fn encode(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = Frame::new();
    let frames = datagrams.iter().flat_map(|datagram| {
        frame.space()[..datagram.len()].copy_from_slice(datagram);
        frame.fill(datagram.len()).unwrap();
        frame.bytes().to_vec()
    });
    frames.collect()
}

#[test]
fn two_datagrams_have_these_bytes() {
    assert_eq!(encode(&[vec![0x04, 0xaa, 0xbb], vec![0x01, 0xcc]]), GOLDEN);
}

#[test]
fn these_bytes_are_two_datagrams() {
    assert_eq!(decode(&GOLDEN, || 99), (vec![vec![0x04, 0xaa, 0xbb], vec![0x01, 0xcc]], None));
}

#[test]
fn the_longest_datagram_has_these_lengths() {
    assert_eq!(encode(&[vec![7; MAX_DATAGRAM]])[..3], [0x3e, 0x7e, 7]);
    assert_eq!(2 * MAX_FRAME, MAX_WRITE);
}

#[test]
fn a_stream_split_at_any_byte_gives_the_same_datagrams() {
    let datagrams: Vec<Vec<u8>> = [1, 148, 32, 1452, MAX_DATAGRAM, 5].iter().map(|len| vec![9; *len]).collect();
    let bytes = encode(&datagrams);
    for at in 0..bytes.len() {
        let mut sizes = [at, bytes.len()].into_iter();
        assert_eq!(decode(&bytes, || sizes.next().unwrap_or(usize::MAX)), (datagrams.clone(), None), "split at {at}");
    }
}

#[test]
fn a_stream_dribbled_byte_by_byte_gives_the_same_datagrams() {
    let datagrams = vec![vec![1; 1452], vec![2; MAX_DATAGRAM], vec![3; 1]];
    assert_eq!(decode(&encode(&datagrams), || 1), (datagrams, None));
}

#[test]
fn a_length_of_zero_is_refused_behind_what_came_whole() {
    assert_eq!(decode(&[0, 1, 7, 0, 0, 9], || 99), (vec![vec![7]], Some(FrameError::Empty)));
}

#[test]
fn a_length_of_65535_is_refused_before_its_bytes_come() {
    assert_eq!(decode(&[0xff, 0xff], || 99), (vec![], Some(FrameError::TooLong(65_535))));
    assert_eq!(decode(&[0x3e, 0x7f], || 99), (vec![], Some(FrameError::TooLong(MAX_DATAGRAM + 1))));
}

#[test]
fn a_frame_takes_no_datagram_that_it_could_not_announce() {
    let mut frame = Frame::new();
    assert_eq!(frame.fill(0), Err(FrameError::Empty));
    assert_eq!(frame.fill(MAX_DATAGRAM + 1), Err(FrameError::TooLong(MAX_DATAGRAM + 1)));
    assert!(frame.bytes().is_empty() && frame.datagram().is_empty());
}

#[test]
fn there_is_always_room_to_read_once_whole_frames_are_consumed() {
    let mut decoder = Decoder::new(0);
    let longest = encode(&[vec![1; MAX_DATAGRAM]]);
    for _ in 0..5 {
        let space = decoder.space();
        assert!(space.len() >= MAX_FRAME);
        space[..MAX_FRAME - 1].copy_from_slice(&longest[..MAX_FRAME - 1]);
        decoder.filled(MAX_FRAME - 1);
        assert_eq!(decoder.peek(&mut [&[]]), Ok(0));
        decoder.space()[0] = 1;
        decoder.filled(1);
        assert_eq!(decoder.peek(&mut [&[]]), Ok(1));
        decoder.consume(1);
    }
}

proptest! {
    #[test]
    fn any_datagrams_survive_any_split(
        lens in proptest::collection::vec(1..=MAX_DATAGRAM, 0..8),
        reads in proptest::collection::vec(1..40_000_usize, 1..64),
    ) {
        let datagrams: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, len)| vec![u8::try_from(i).unwrap(); *len]).collect();
        let mut sizes = reads.iter().cycle();
        prop_assert_eq!(decode(&encode(&datagrams), || *sizes.next().unwrap()), (datagrams, None));
    }

    #[test]
    fn any_bytes_give_the_same_whole_or_dribbled(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert_eq!(decode(&bytes, || 1), decode(&bytes, || usize::MAX));
    }
}
