//! The system calls that neither std nor a library here offers; the crate's only unsafe code.

#![allow(unsafe_code, reason = "recvmmsg, sendmmsg and two kinds of setsockopt have no safe wrapper that fits")]

use std::io;
use std::mem::{self, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_void, cmsghdr, iovec, mmsghdr, socklen_t};

use crate::frame::Frame;

/// The most datagrams that [`receive`] takes in one call.
pub(crate) const RECEIVE_BATCH: usize = 32;
/// The most datagrams that [`send`] takes in one call.
pub(crate) const SEND_BATCH: usize = 64;
/// The most runs that [`send`] takes in one call.
pub(crate) const SEND_RUNS: usize = 16;

/// A socket address as the kernel reads and writes it: large enough for `sockaddr_in6`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAddress([u8; RawAddress::CAPACITY]);

impl RawAddress {
    const CAPACITY: usize = size_of::<libc::sockaddr_in6>();
    const UNSPECIFIED: Self = Self([0; Self::CAPACITY]);

    fn len(&self) -> usize {
        match c_int::from(u16::from_ne_bytes([self.0[0], self.0[1]])) {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            _ => Self::CAPACITY,
        }
    }

    /// The address, `None` for another family than IP; the flow label counts for nothing.
    pub(crate) fn parse(&self) -> Option<SocketAddr> {
        let [f0, f1, p0, p1, a, b, c, d, rest @ ..] = self.0;
        let port = u16::from_be_bytes([p0, p1]);
        match c_int::from(u16::from_ne_bytes([f0, f1])) {
            libc::AF_INET => Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port))),
            libc::AF_INET6 => {
                let (ip, scope) = (rest.first_chunk::<16>()?, rest.last_chunk::<4>()?);
                let scope = u32::from_ne_bytes(*scope);
                Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; Self::CAPACITY];
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let family = libc::sa_family_t::try_from(family).expect("AF_INET is 2 and AF_INET6 is 10");
        let mut put = |at: usize, value: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(value) {
                *to = *from;
            }
        };
        put(0, &family.to_ne_bytes());
        put(2, &address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => put(4, &v4.ip().octets()),
            SocketAddr::V6(v6) => {
                put(8, &v6.ip().octets());
                put(24, &v6.scope_id().to_ne_bytes());
            }
        }
        Self(bytes)
    }
}

/// One datagram that [`receive`] took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its length, as far as it fitted.
    pub(crate) len: usize,
    /// Whether it did not fit.
    pub(crate) is_truncated: bool,
    pub(crate) source: RawAddress,
}

impl Arrival {
    pub(crate) const NONE: Self = Self { len: 0, is_truncated: false, source: RawAddress::UNSPECIFIED };
}

/// `recvmmsg` into the spaces of `frames`; the frames are not yet filled.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    frames: &mut [Frame],
    arrivals: &mut [Arrival; RECEIVE_BATCH],
) -> io::Result<usize> {
    let mut iovecs = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; RECEIVE_BATCH];
    // SAFETY: a msghdr of null pointers and zero lengths is what the C struct's `{0}` is, and valid.
    let mut messages: [mmsghdr; RECEIVE_BATCH] = unsafe { mem::zeroed() };
    let mut count = 0;
    for (((frame, arrival), iovec), message) in
        frames.iter_mut().zip(arrivals.iter_mut()).zip(&mut iovecs).zip(&mut messages)
    {
        let space = frame.space();
        *iovec = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
        message.msg_hdr.msg_name = arrival.source.0.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = socklen_of(RawAddress::CAPACITY);
        message.msg_hdr.msg_iov = iovec;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` of `messages` each point at one iovec over the space of a frame of their own and at an
    // address of CAPACITY bytes, all of which are borrowed mutably until after the call; there is no timeout to point
    // at.
    let received = unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0, ptr::null_mut()) };
    let received = check(received)?;
    for (arrival, message) in arrivals.iter_mut().zip(&messages).take(received) {
        arrival.len = usize::try_from(message.msg_len).expect("a usize has at least 32 bits here");
        arrival.is_truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
    }
    Ok(received)
}

/// Consecutive datagrams that go out in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many datagrams.
    pub(crate) datagrams: usize,
    /// The length of all but the last, if the kernel is to cut them apart.
    pub(crate) segment: Option<u16>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SegmentControl {
    header: cmsghdr,
    segment: u16,
    padding: [u8; 6],
}

const _: () = assert!(
    size_of::<SegmentControl>() == size_of::<cmsghdr>() + 8 && size_of::<cmsghdr>().is_multiple_of(8),
    "the value follows the header at once, and the whole is CMSG_SPACE(2)"
);

/// `sendmmsg` of one message per run, in order, to `peer`; says how many messages went out.
///
/// `runs` cover the front of `datagrams`; what exceeds [`SEND_RUNS`] or [`SEND_BATCH`] is left for the next call.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    peer: &mut RawAddress,
    datagrams: &[&[u8]],
    runs: &[Run],
) -> io::Result<usize> {
    let mut iovecs = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SEND_BATCH];
    for (iovec, datagram) in iovecs.iter_mut().zip(datagrams) {
        // The kernel only reads through it: the cast away from const is what the C struct asks for.
        *iovec = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    }
    // SAFETY: as in `receive`.
    let mut messages: [mmsghdr; SEND_RUNS] = unsafe { mem::zeroed() };
    let header = cmsghdr {
        cmsg_len: size_of::<cmsghdr>() + size_of::<u16>(),
        cmsg_level: libc::SOL_UDP,
        cmsg_type: libc::UDP_SEGMENT,
    };
    let mut controls = [SegmentControl { header, segment: 0, padding: [0; 6] }; SEND_RUNS];
    let name_len = socklen_of(peer.len());
    let name = peer.0.as_mut_ptr();
    let mut rest = iovecs.get_mut(..datagrams.len().min(SEND_BATCH)).expect("SEND_BATCH iovecs");
    let mut count = 0;
    for ((message, control), run) in messages.iter_mut().zip(&mut controls).zip(runs) {
        let Some((iovecs, behind)) = rest.split_at_mut_checked(run.datagrams) else { break };
        rest = behind;
        message.msg_hdr.msg_name = name.cast();
        message.msg_hdr.msg_namelen = name_len;
        message.msg_hdr.msg_iov = iovecs.as_mut_ptr();
        message.msg_hdr.msg_iovlen = iovecs.len();
        if let Some(segment) = run.segment {
            control.segment = segment;
            message.msg_hdr.msg_control = ptr::from_mut(control).cast();
            message.msg_hdr.msg_controllen = size_of::<SegmentControl>();
        }
        count += 1;
    }
    // SAFETY: the first `count` of `messages` each point at iovecs of their own over borrowed datagrams, at `peer`, and
    // at nothing or a control message of their own with the size the header says; all outlive the call, which writes
    // msg_len only.
    check(unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) })
}

/// `setsockopt` with an `int`.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    set(socket, level, option, &value)
}

/// `setsockopt` of `AF_VSOCK`, whose options are `u64` (vm_sockets.h).
pub(crate) fn set_vsock_option(socket: BorrowedFd<'_>, option: c_int, value: u64) -> io::Result<()> {
    set(socket, libc::AF_VSOCK, option, &value)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = socklen_of(size_of::<T>());
    let value: *const c_void = ptr::from_ref(value).cast();
    // SAFETY: `value` points at `len` readable bytes for the length of the call, which copies them.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len) }).map(drop)
}

fn socklen_of(bytes: usize) -> socklen_t {
    socklen_t::try_from(bytes).expect("addresses and options have a few bytes")
}

fn check(returned: c_int) -> io::Result<usize> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(returned).expect("not negative"))
}
