use std::future::poll_fn;
use std::net::UdpSocket as Std;
use std::time::Duration;

use super::*;
use crate::frame::MAX_DATAGRAM;

/// A socket of ours, and its peer.
fn pair() -> (UdpSocket, Std) {
    let (ours, peer) = (Std::bind("127.0.0.1:0").unwrap(), Std::bind("127.0.0.1:0").unwrap());
    peer.connect(ours.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    raise_buffers(&peer).unwrap();
    let address = peer.local_addr().unwrap();
    (UdpSocket::new(ours, address).unwrap(), peer)
}

/// `count` datagrams that differ, of `len` bytes.
fn datagrams(len: usize, count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|i| (0..len).map(|at| (at % 251) as u8 ^ i).collect()).collect()
}

async fn send_all(socket: &mut UdpSocket, datagrams: &[Vec<u8>]) -> Sent {
    let mut sender = socket.split().1;
    let mut rest: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
    let mut total = Sent::default();
    while !rest.is_empty() {
        let sent = poll_fn(|cx| sender.poll_send(cx, &rest)).await.unwrap();
        rest.drain(..sent.datagrams);
        total.datagrams += sent.datagrams;
        total.dropped += sent.dropped;
        total.segmented += sent.segmented;
    }
    total
}

async fn receive(socket: &mut UdpSocket) -> (Received, Vec<Vec<u8>>) {
    let mut batch: Vec<Frame> = (0..RECEIVE_BATCH).map(|_| Frame::new()).collect();
    let mut receiver = socket.split().0;
    let received = poll_fn(|cx| receiver.poll_receive(cx, &mut batch)).await.unwrap();
    let datagrams = batch[..received.frames].iter().map(|f| f.datagram().to_vec()).filter(|d| !d.is_empty());
    (received, datagrams.collect())
}

fn receive_at(peer: &Std, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = [0; 65_536];
    let mut next = || {
        let len = peer.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn datagrams_of_every_size_arrive_as_they_were_sent() {
    let (mut ours, peer) = pair();
    for len in [1, 32, 148, 1452, 8952, 15_400, MAX_DATAGRAM] {
        let sent = datagrams(len, 40);
        for chunk in sent.chunks(8) {
            send_all(&mut ours, chunk).await;
            assert_eq!(receive_at(&peer, 8), chunk, "{len} bytes");
            for datagram in chunk {
                peer.send(datagram).unwrap();
            }
            let mut received = Vec::new();
            while received.len() < 8 {
                received.extend(receive(&mut ours).await.1);
            }
            assert_eq!(received, chunk, "{len} bytes");
        }
    }
}

#[tokio::test]
async fn datagrams_of_one_size_leave_in_few_sends_and_arrive_apart() {
    let (mut ours, peer) = pair();
    let mut sent = datagrams(1452, 63);
    sent.push(vec![7; 100]);
    let outcome = send_all(&mut ours, &sent).await;
    assert_eq!(outcome, Sent { datagrams: 64, dropped: 0, segmented: 2 });
    assert_eq!(receive_at(&peer, 64), sent);
}

#[tokio::test]
async fn sizes_that_vary_keep_their_order() {
    let (mut ours, peer) = pair();
    let sent: Vec<Vec<u8>> = [100, 100, 90, 100, 32, 32, 148, 1, 100, 100].iter().map(|len| vec![3; *len]).collect();
    send_all(&mut ours, &sent).await;
    assert_eq!(receive_at(&peer, sent.len()), sent);
}

#[test]
fn a_run_holds_one_size_and_ends_with_a_shorter_one() {
    let lens = [100, 100, 90, 100, 200, 200];
    let bytes = [0; 200];
    let datagrams: Vec<&[u8]> = lens.iter().map(|len| &bytes[..*len]).collect();
    let mut runs = [Run { datagrams: 0, segment: None }; SEND_RUNS];
    assert_eq!(
        plan(&datagrams, true, &mut runs),
        [
            Run { datagrams: 3, segment: Some(100) },
            Run { datagrams: 1, segment: None },
            Run { datagrams: 2, segment: Some(200) },
        ]
    );
    assert!(plan(&datagrams, false, &mut runs).iter().all(|run| *run == Run { datagrams: 1, segment: None }));
}

#[test]
fn a_run_stays_within_one_ip_packet_and_64_segments() {
    let bytes = [0; MAX_DATAGRAM];
    let first_run = |len: usize| run_length(len, &[&bytes[..len]; 100]);
    assert_eq!([first_run(32), first_run(1452), first_run(8952), first_run(15_400)], [64, 45, 7, 4]);
    assert_eq!(first_run(MAX_DATAGRAM), 4);
}

#[tokio::test]
async fn datagrams_from_another_address_are_refused_and_counted() {
    let (mut ours, peer) = pair();
    let stranger = Std::bind("127.0.0.1:0").unwrap();
    let address = ours.socket.local_addr().unwrap();
    stranger.send_to(b"stranger", address).unwrap();
    peer.send(b"peer").unwrap();
    stranger.send_to(b"stranger", address).unwrap();
    let (received, datagrams) = receive(&mut ours).await;
    assert_eq!((received.frames, received.foreign), (3, 2));
    assert_eq!(datagrams, [b"peer"]);
}

#[tokio::test]
async fn empty_and_oversized_datagrams_are_refused_and_counted() {
    let (mut ours, peer) = pair();
    for len in [0, MAX_DATAGRAM + 1, 65_507, 5] {
        peer.send(&vec![1; len]).unwrap();
    }
    let (received, datagrams) = receive(&mut ours).await;
    assert_eq!((received.frames, received.unfit), (4, 3));
    assert_eq!(datagrams, [vec![1; 5]]);
}

#[tokio::test]
async fn a_peer_that_is_not_there_yet_costs_datagrams_but_not_the_socket() {
    let ours = Std::bind("127.0.0.1:0").unwrap();
    let gone = Std::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    // Connected, so that the kernel reports what ICMP says.
    ours.connect(address).unwrap();
    let mut socket = UdpSocket::new(ours.try_clone().unwrap(), address).unwrap();
    for _ in 0..10 {
        assert_eq!(send_all(&mut socket, &datagrams(50, 3)).await.datagrams, 3);
    }

    let peer = Std::bind(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer.send_to(b"here", ours.local_addr().unwrap()).unwrap();
    assert_eq!(receive(&mut socket).await.0, Received { errors: 1, ..Received::default() });
    assert_eq!(receive(&mut socket).await.1, [b"here"]);
    send_all(&mut socket, &datagrams(50, 3)).await;
    assert_eq!(receive_at(&peer, 3), datagrams(50, 3));
}

#[tokio::test]
async fn ipv6_peers_are_recognised() {
    let ours = Std::bind("[::1]:0").unwrap();
    let peer = Std::bind("[::1]:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer.connect(ours.local_addr().unwrap()).unwrap();
    let mut socket = UdpSocket::new(ours, peer.local_addr().unwrap()).unwrap();
    send_all(&mut socket, &datagrams(100, 4)).await;
    assert_eq!(receive_at(&peer, 4), datagrams(100, 4));
    peer.send(b"back").unwrap();
    assert_eq!(receive(&mut socket).await.1, [b"back"]);
}
