//! The answering side: one socket, several transfers at once, each with a bounded memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;

use super::assembly::Assembly;
use crate::datagram::{Header, Kind};
use crate::pattern::Pattern;

/// Transfers at once; a further one is not answered.
const MAX_TRANSFERS: usize = 16;
/// A transfer without a datagram for this long makes room for another.
const IDLE: Duration = Duration::from_secs(30);

/// The transfers of one server.
#[derive(Debug, Default)]
struct Transfers(HashMap<(SocketAddr, u64), Peer>);

#[derive(Debug)]
struct Peer {
    received: Assembly,
    sent: Assembly,
    seen: Instant,
}

/// Answers datagrams until the socket fails.
pub(crate) async fn serve(socket: &UdpSocket) -> Result<()> {
    let mut transfers = Transfers::default();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await.context("receive a datagram")?;
        let datagram = buffer.get(..n).expect("recv fills no more than the buffer");
        if let Some(answer) = transfers.answer(from, datagram, Instant::now())
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%from, %error, "an answer was not sent");
        }
    }
}

impl Transfers {
    /// What to send back, if anything.
    fn answer(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (header, payload) = Header::decode(datagram)?;
        match header.kind {
            Kind::Echo => Some(Header { kind: Kind::EchoAnswer, ..header }.with(payload)),
            Kind::Data => self.data(from, header, payload, now),
            Kind::End => {
                let peer = self.0.get_mut(&(from, header.transfer))?;
                peer.seen = now;
                if !peer.received.is_complete_to(header.number) {
                    return None;
                }
                let hashes = [peer.sent.sha256(), peer.received.sha256()].concat();
                Some(Header { kind: Kind::EndAnswer, ..header }.with(&hashes))
            }
            Kind::DataAnswer | Kind::EndAnswer | Kind::EchoAnswer => None,
        }
    }

    fn data(&mut self, from: SocketAddr, header: Header, payload: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.0.retain(|_, peer| now.saturating_duration_since(peer.seen) < IDLE);
        let key = (from, header.transfer);
        if self.0.len() >= MAX_TRANSFERS && !self.0.contains_key(&key) {
            return None;
        }
        let peer = self.0.entry(key).or_insert_with(|| Peer {
            received: Assembly::default(),
            sent: Assembly::default(),
            seen: now,
        });
        peer.seen = now;
        let mut ours = vec![0; payload.len()];
        Pattern::answer_to(header.transfer).at(header.number).fill(&mut ours);
        if !peer.received.insert(header.number, payload) {
            return None;
        }
        peer.sent.insert(header.number, &ours);
        Some(Header { kind: Kind::DataAnswer, ..header }.with(&ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: u32) -> Vec<u8> {
        Header { kind: Kind::Data, transfer: 1, number }.with(b"payload")
    }

    #[test]
    fn the_end_is_not_answered_before_everything_arrived() {
        let (mut transfers, now) = (Transfers::default(), Instant::now());
        let from = ([127, 0, 0, 1], 9).into();
        let end = Header { kind: Kind::End, transfer: 1, number: 2 }.encode();
        assert!(transfers.answer(from, &data(1), now).is_some());
        assert!(transfers.answer(from, &end, now).is_none());
        assert!(transfers.answer(from, &data(0), now).is_some());
        assert_eq!(transfers.answer(from, &end, now).unwrap().len(), Header::LEN + 64);
    }

    #[test]
    fn a_transfer_too_many_is_not_answered_until_another_is_idle() {
        let (mut transfers, now) = (Transfers::default(), Instant::now());
        let from = |port| ([127, 0, 0, 1], port).into();
        for port in 0..16 {
            assert!(transfers.answer(from(port), &data(0), now).is_some());
        }
        assert!(transfers.answer(from(16), &data(0), now).is_none());
        assert!(transfers.answer(from(16), &data(0), now + IDLE).is_some());
    }

    #[test]
    fn an_answer_is_as_long_as_the_question() {
        let answer = Transfers::default().answer(([127, 0, 0, 1], 9).into(), &data(0), Instant::now()).unwrap();
        assert_eq!(answer.len(), data(0).len());
        assert_ne!(answer[Header::LEN..], data(0)[Header::LEN..]);
    }
}
