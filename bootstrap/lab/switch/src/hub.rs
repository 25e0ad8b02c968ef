//! The engine, shared by the guests' threads, the control socket, and a clock for deadlines.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tunnel::port::Cid;

use super::engine::Engine;
use super::fault::{Request, Response};
use super::ring::Rings;

/// The engine under one lock. The thread that has work for it runs it, so no packet changes threads.
pub(crate) struct Hub {
    shared: Mutex<Shared>,
    /// Wakes the clock when a deadline is earlier than its alarm.
    earlier: Condvar,
}

struct Shared {
    engine: Engine,
    /// When the clock wakes up.
    alarm: Option<Instant>,
}

impl Hub {
    /// A hub for these guests, all down.
    pub(crate) fn new(cids: &[Cid]) -> Self {
        Self { shared: Mutex::new(Shared { engine: Engine::new(cids), alarm: None }), earlier: Condvar::new() }
    }

    /// A guest kicked.
    pub(crate) fn kick(&self, cid: Cid, rings: &Rings) {
        self.lock().engine.guest_up(cid, rings);
        self.run();
    }

    /// A guest is gone. Its rings are not used after this returns.
    pub(crate) fn guest_down(&self, cid: Cid) {
        self.lock().engine.guest_down(cid);
        self.run();
    }

    /// Carries out a request of the control socket.
    pub(crate) fn apply(&self, request: &Request) -> Response {
        let response = self.lock().engine.apply(request, Instant::now());
        self.run();
        response
    }

    /// Runs the engine at its deadlines. Never returns.
    pub(crate) fn keep_time(&self) -> ! {
        let mut shared = self.lock();
        loop {
            // The same `now` for both: the turn handles what was due, the alarm is for what is due later.
            let now = Instant::now();
            let has_more = shared.engine.turn(now);
            shared.alarm = shared.engine.next_deadline(now);
            if has_more {
                drop(shared);
                shared = self.lock();
                continue;
            }
            shared = match shared.alarm.map(|at| at.saturating_duration_since(now)) {
                Some(delay) => self.earlier.wait_timeout(shared, delay).unwrap_or_else(PoisonError::into_inner).0,
                None => self.earlier.wait(shared).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn run(&self) {
        loop {
            let mut shared = self.lock();
            let now = Instant::now();
            let has_more = shared.engine.turn(now);
            let deadline = shared.engine.next_deadline(now);
            if deadline.is_some_and(|due| shared.alarm.is_none_or(|alarm| due < alarm)) {
                self.earlier.notify_one();
            }
            if !has_more {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
