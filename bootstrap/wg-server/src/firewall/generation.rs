//! The number that the kernel raises with every change to any of its nftables: the same number means that nothing has changed.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// NLM_F_REQUEST (linux/netlink.h).
const REQUEST: u16 = 1;
/// NFNL_SUBSYS_NFTABLES (linux/netfilter/nfnetlink.h) with NFT_MSG_NEWGEN and NFT_MSG_GETGEN (linux/netfilter/nf_tables.h).
const ANSWER_KIND: u16 = 10 << 8 | 15;
const REQUEST_KIND: u16 = 10 << 8 | 16;
/// NFTA_GEN_ID.
const GENERATION: u16 = 1;

/// Offset of the first attribute: behind `nlmsghdr` and `nfgenmsg`.
const ATTRIBUTES: usize = 20;

/// The generation now.
pub(super) fn read() -> Result<u32> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)
        .context("open a netlink socket for nftables")?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &request(), &kernel, MsgFlags::empty()).context("ask for the ruleset's generation")?;
    let mut answer = [0; 256];
    // The kernel answers within sendto(2).
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).context("read the ruleset's generation")?;
    let answer = answer.get(..len).expect("without MSG_TRUNC recv returns at most the buffer's length");
    parse(answer).context("read the ruleset's generation: no generation in the answer")
}

/// `nlmsghdr`: length, kind, flags, sequence, port; `nfgenmsg`: family, version, resource (linux/netlink.h).
fn request() -> [u8; ATTRIBUTES] {
    let mut message = [0; ATTRIBUTES];
    let fields = [20u32.to_ne_bytes().as_slice(), &REQUEST_KIND.to_ne_bytes(), &REQUEST.to_ne_bytes()].concat();
    for (to, from) in message.iter_mut().zip(fields) {
        *to = from;
    }
    message
}

fn parse(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != ANSWER_KIND {
        return None;
    }
    let mut rest = answer.get(ATTRIBUTES..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == GENERATION {
            return Some(u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        // An attribute takes a multiple of four bytes, its own header at least.
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{alone, sh};

    #[test]
    fn the_generation_moves_with_every_change_and_only_then() {
        alone("firewall::generation::tests::inside_moves");
    }

    #[test]
    #[ignore = "run by the test above in a network of its own"]
    fn inside_moves() {
        sh("nft add table inet other");
        let before = read().unwrap();
        sh("nft list ruleset");
        assert_eq!(read().unwrap(), before);
        sh("nft add chain inet other mine");
        assert_eq!(read().unwrap(), before + 1);
        sh("nft flush ruleset");
        assert_eq!(read().unwrap(), before + 2);
    }

    #[test]
    fn an_answer_without_a_generation_has_none() {
        let mut answer = request().to_vec();
        assert_eq!(parse(&answer), None, "that is a request");
        answer[4..6].copy_from_slice(&ANSWER_KIND.to_ne_bytes());
        assert_eq!(parse(&answer), None, "no attribute");
        answer.extend([0, 0, 9, 0]);
        assert_eq!(parse(&answer), None, "an attribute of no length");
        answer.extend([8, 0, 1, 0, 0, 0, 1, 2]);
        assert_eq!(parse(&answer), Some(0x0102));
    }
}
