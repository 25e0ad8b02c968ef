//! Detects a stream that is dead although it reports no error.
//!
//! A vsock stream whose other end is gone without a reset looks like one of two things, and both must end the pump in
//! bounded time so that the caller connects again:
//!
//! - **Stalled**: the peer's credit is used up and nothing comes back. Bytes wait, and none is taken for
//!   [`Limits::stalled_after`].
//! - **Unanswered**: writes vanish into a buffer that nobody reads. WireGuard notices for us: having sent data without
//!   an answer for 15 s, it repeats handshake initiations every 5 s (whitepaper, 6.4 and 6.5). So
//!   [`Limits::initiations`] of them on the way out, over at least [`Limits::unanswered_after`], without one byte on
//!   the way in, mean that the stream is dead (or that the other side has no peer: a new connection costs little then).
//!
//! With traffic a dead stream is left within about 30 s. An idle one, which carries only keepalives, is noticed at the
//! next rekeying, at most 180 s after the last handshake, and is not needed until then. Silence alone proves nothing:
//! between two rekeyings WireGuard need not send a datagram.

use std::time::Duration;

use tokio::time::Instant;

/// How long a stream may look dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes wait, and the stream takes none.
    pub stalled_after: Duration,
    /// Handshakes go out, and nothing comes in.
    pub unanswered_after: Duration,
    /// At least so many handshakes.
    pub initiations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // WireGuard repeats an initiation after 5 s: three of them span 10 s, and the third gets its time too.
        Self { stalled_after: Duration::from_secs(10), unanswered_after: Duration::from_secs(12), initiations: 3 }
    }
}

/// What the pump has seen so far; numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes that the stream took.
    pub written: u64,
    /// Whether bytes wait for the stream.
    pub is_waiting: bool,
    /// Bytes that came out of the stream.
    pub read: u64,
    /// Handshake initiations on their way into the stream.
    pub initiations: u64,
}

/// The stream is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// It took no byte for so long.
    Stalled(Duration),
    /// So many initiations brought no answer.
    Unanswered(u64),
}

/// Watches one stream, from looks at it about once per second.
#[derive(Debug)]
pub struct Liveness {
    limits: Limits,
    before: Seen,
    waiting_since: Option<Instant>,
    /// What had been sent and when, at the last byte that came in.
    heard: (u64, Option<Instant>),
}

impl Liveness {
    /// Watches a stream that has just started.
    pub fn new(limits: Limits) -> Self {
        Self { limits, before: Seen::default(), waiting_since: None, heard: (0, None) }
    }

    /// Looks once; the answer is final.
    pub fn look(&mut self, now: Instant, seen: Seen) -> Option<Dead> {
        let before = std::mem::replace(&mut self.before, seen);
        if !seen.is_waiting || seen.written != before.written {
            self.waiting_since = None;
        }
        if seen.is_waiting {
            let waited = now - *self.waiting_since.get_or_insert(now);
            if waited >= self.limits.stalled_after {
                return Some(Dead::Stalled(waited));
            }
        }
        if seen.read != before.read {
            self.heard = (seen.initiations, None);
        }
        let (initiations_then, first_unanswered) = &mut self.heard;
        let unanswered = seen.initiations - *initiations_then;
        if unanswered > 0 {
            let waited = now - *first_unanswered.get_or_insert(now);
            if unanswered >= self.limits.initiations && waited >= self.limits.unanswered_after {
                return Some(Dead::Unanswered(unanswered));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once per second at what `seen` says of that second; when and why the stream is dead.
    fn dead(seconds: u64, seen: impl Fn(u64) -> Seen) -> Option<(u64, Dead)> {
        let start = Instant::now();
        let mut liveness = Liveness::new(Limits::default());
        (0..seconds).find_map(|s| Some((s, liveness.look(start + Duration::from_secs(s), seen(s))?)))
    }

    #[test]
    fn a_stream_that_takes_nothing_for_ten_seconds_is_stalled() {
        let stuck = |_| Seen { is_waiting: true, written: 7, ..Seen::default() };
        assert_eq!(dead(60, stuck), Some((10, Dead::Stalled(Duration::from_secs(10)))));
    }

    #[test]
    fn a_stream_that_takes_one_byte_now_and_then_is_alive() {
        assert_eq!(dead(600, |s| Seen { is_waiting: true, written: s / 9, ..Seen::default() }), None);
    }

    #[test]
    fn a_stream_without_anything_to_carry_is_alive() {
        assert_eq!(dead(600, |_| Seen::default()), None);
    }

    #[test]
    fn three_initiations_without_an_answer_are_a_dead_stream() {
        let vanishing = |s| Seen { written: s, initiations: s / 5, ..Seen::default() };
        assert_eq!(dead(60, vanishing), Some((17, Dead::Unanswered(3))));
    }

    #[test]
    fn initiations_with_any_answer_are_a_stream_that_lives() {
        let answered = |s| Seen { written: s, initiations: s / 5, read: s / 11, ..Seen::default() };
        assert_eq!(dead(600, answered), None);
    }

    #[test]
    fn a_burst_of_initiations_gets_time_for_an_answer() {
        let burst = |s| Seen { initiations: 100, read: s / 9, ..Seen::default() };
        assert_eq!(dead(60, burst), None);
    }
}
