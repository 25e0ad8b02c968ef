//! PID 1's end of the link to one of its children, which may be hostile: nothing here waits for what the child does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::link::{Link, Message};
use crate::role::Role;

/// The link, and whom to end when it breaks. It lives for as long as the child has not been reaped, so its process id is the child's.
pub(super) struct Line {
    role: Role,
    pid: Pid,
    link: Link,
    closed_until: Option<Instant>,
}

impl Line {
    /// Takes PID 1's end of [`crate::link::pair`]; needs a runtime.
    pub(super) fn new(role: Role, pid: Pid, socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { role, pid, link: Link::new(socket)?, closed_until: None })
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// The child's next message, or none when it has closed its end, which it says once; cancel safe.
    pub(super) async fn receive<M: Message>(&self) -> io::Result<Option<M>> {
        if self.closed_until.is_some() {
            return std::future::pending().await;
        }
        self.link.receive().await
    }

    /// The child has closed its end. One that works does so when it ends, and has until `until` to log why.
    pub(super) const fn close(&mut self, until: Instant) {
        self.closed_until = Some(until);
    }

    /// By when the child should have ended, as it has closed its end.
    pub(super) const fn closed_until(&self) -> Option<Instant> {
        self.closed_until
    }

    /// Puts a message into the child's queue.
    ///
    /// The queue is the socket's buffer, which holds ten of the longest messages. A child that works never has more than one
    /// to read, so a full queue means that it does not read: it is ended, and the reaper starts it again.
    pub(super) fn tell<M: Message>(&self, message: &M) {
        let Err(error) = self.link.try_send(message) else { return };
        let kind = error.kind();
        if kind == io::ErrorKind::WouldBlock {
            self.end(&"it does not read what PID 1 sends");
        } else if [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&kind) {
            // Its end is the reaper's.
            tracing::debug!("supervise: send to the {}: {error}", self.role);
        } else {
            self.end(&format_args!("send to it: {error}"));
        }
    }

    /// Ends the child at once; the reaper starts it again.
    pub(super) fn end(&self, reason: &dyn std::fmt::Display) {
        tracing::error!(pid = self.pid.as_raw(), "supervise: ending the {}: {reason}", self.role);
        match kill(self.pid, Signal::SIGKILL) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::error!("supervise: SIGKILL to the {}: {error}", self.role),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::time::Duration;

    use tokio::process::{Child, Command};
    use tokio::time::timeout;
    use tunnel::control::{Answer, KemKey, PublicKey};

    use super::*;
    use crate::link::{self, State, Stream, ToInit, ToRelay};

    /// A process that lives on and does nothing, and PID 1's line to it; the other end is the test's.
    fn idle_child() -> (Child, Line, OwnedFd) {
        let child = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (ours, theirs) = link::pair().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        (child, Line::new(Role::Relay, pid, ours).unwrap(), theirs)
    }

    fn longest_answer() -> ToRelay {
        let (public_key, kem_key) = (PublicKey([1; 32]), KemKey([2; 1184]));
        ToRelay::Answer(Box::new(Answer { public_key, kem_key, document: vec![3; 0x3000] }))
    }

    #[tokio::test]
    async fn a_relay_that_never_reads_is_ended_and_nobody_waits_for_it() {
        let (mut child, line, _theirs) = idle_child();
        let answer = longest_answer();
        for _ in 0..100 {
            line.tell(&answer);
        }
        let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("the relay lives on");
        assert_eq!(ended.unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[tokio::test]
    async fn a_relay_that_reads_late_is_not_ended() {
        let (mut child, line, theirs) = idle_child();
        let theirs = Link::new(theirs).unwrap();
        for _ in 0..5 {
            line.tell(&longest_answer());
        }
        for _ in 0..5 {
            assert_eq!(theirs.receive().await.unwrap(), Some(longest_answer()));
        }
        theirs.send(&ToInit::Stream(Stream::Data, State::Up)).await.unwrap();
        assert!(line.receive::<ToInit>().await.unwrap().is_some());
        assert_eq!(child.try_wait().unwrap(), None);
    }

    #[tokio::test]
    async fn a_child_that_has_closed_its_end_is_left_to_the_reaper() {
        let (mut child, line, theirs) = idle_child();
        drop(theirs);
        line.tell(&ToRelay::Rejected);
        assert_eq!(child.try_wait().unwrap(), None);
    }
}
