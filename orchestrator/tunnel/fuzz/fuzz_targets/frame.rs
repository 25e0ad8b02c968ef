//! Any bytes, read in any pieces: the decoder gives what a plain parse of the whole gives, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::frame::{Decoder, FrameError, MAX_DATAGRAM, parse};

fuzz_target!(|input: (Vec<u16>, Vec<u8>)| {
    let (reads, bytes) = input;
    let (expected, refused) = whole(&bytes);
    let mut decoder = Decoder::new(0);
    let (mut rest, mut reads, mut count) = (bytes.as_slice(), reads.iter().cycle(), 0);
    loop {
        let mut datagrams: [&[u8]; 4] = [&[]; 4];
        match decoder.peek(&mut datagrams) {
            Ok(0) if rest.is_empty() => break assert!(refused.is_none()),
            Ok(0) => {
                let space = decoder.space();
                let wanted = reads.next().map_or(1, |read| usize::from(*read)).max(1);
                let len = wanted.min(rest.len()).min(space.len());
                assert!(len > 0, "no room to read");
                space[..len].copy_from_slice(&rest[..len]);
                decoder.filled(len);
                rest = &rest[len..];
            }
            Ok(some) => {
                for datagram in &datagrams[..some] {
                    assert!((1..=MAX_DATAGRAM).contains(&datagram.len()));
                    assert_eq!(*datagram, expected[count]);
                    count += 1;
                }
                decoder.consume(some);
            }
            Err(error) => break assert_eq!(Some(error), refused),
        }
    }
    assert_eq!(count, expected.len());
});

fn whole(mut bytes: &[u8]) -> (Vec<&[u8]>, Option<FrameError>) {
    let mut datagrams = Vec::new();
    loop {
        match parse(bytes) {
            Ok(Some(whole)) => {
                datagrams.push(whole.datagram);
                bytes = whole.behind;
            }
            Ok(None) => return (datagrams, None),
            Err(error) => return (datagrams, Some(error)),
        }
    }
}
