//! PID 1's end of the link to one of its children, which may be hostile: nothing here waits for what the child does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tunnel::message::Message;

use crate::link::Link;
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

    /// The child's next message, or none when it has closed its end, which it says once; cancel safe.
    pub(super) async fn receive<M: Message>(&self) -> io::Result<Option<M>> {
        if self.closed_until.is_some() {
            return std::future::pending().await;
        }
        self.link.receive().await
    }

    /// The child has closed its end. One that works does so when it ends, and has until `until` to log why.
    const fn close(&mut self, until: Instant) {
        self.closed_until = Some(until);
    }

    /// By when the child should have ended, as it has closed its end.
    pub(super) const fn closed_until(&self) -> Option<Instant> {
        self.closed_until
    }

    /// What is heard of the child: its message. Without one its line is closing, or broken, and then the child is ended.
    pub(super) fn heard<M>(line: &mut Option<Self>, said: io::Result<Option<M>>, grace: Duration) -> Option<M> {
        match said {
            Ok(message) => {
                if message.is_none()
                    && let Some(line) = line
                {
                    line.close(Instant::now() + grace);
                }
                message
            }
            Err(error) => {
                if let Some(line) = line.take() {
                    line.end(&format_args!("hear from it: {error}"));
                }
                None
            }
        }
    }

    /// Forgets the line to a child that has been reaped: its number may soon be another process's.
    pub(super) fn forget(line: &mut Option<Self>, pid: Pid) {
        line.take_if(|line| line.pid == pid);
    }

    /// Ends a child that has closed its end and lives on: nothing would start it again.
    pub(super) fn end_overdue(line: &mut Option<Self>, now: Instant) {
        if let Some(line) = line.take_if(|line| line.closed_until.is_some_and(|until| until <= now)) {
            line.end(&"it has closed its link and does not end");
        }
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
pub(super) mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use tokio::process::{Child, Command};
    use tokio::time::timeout;
    use tunnel::control::{Answer, KemKey, PublicKey, ToEnclave, ToGateway};
    use tunnel::internal::ToRelay;

    use super::*;
    use crate::link;

    /// A process that lives on and does nothing, and PID 1's line to it; the other end is the test's.
    pub(crate) fn idle_child() -> (Child, Line, OwnedFd) {
        let child = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (ours, theirs) = link::pair().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        (child, Line::new(Role::Relay, pid, ours).unwrap(), theirs)
    }

    fn longest_answer() -> ToRelay {
        let (public_key, kem_key) = (PublicKey([1; 32]), KemKey([2; 1184]));
        ToRelay::Send(ToGateway::Answer(Answer { public_key, kem_key, document: vec![3; 0x3000] }))
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
        theirs.send(&ToEnclave::Refused("no lease".to_owned())).await.unwrap();
        assert!(line.receive::<ToEnclave>().await.unwrap().is_some());
        assert_eq!(child.try_wait().unwrap(), None);
    }

    async fn is_killed(child: &mut Child) -> bool {
        let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("it lives on").unwrap();
        ended.signal() == Some(Signal::SIGKILL as i32)
    }

    #[tokio::test]
    async fn a_child_that_closes_its_end_and_lives_on_is_ended_after_its_time_and_not_before() {
        let (mut child, line, theirs) = idle_child();
        let mut line = Some(line);
        drop(theirs);
        let said = line.as_ref().unwrap().receive::<ToEnclave>().await;
        let (grace, before) = (Duration::from_secs(2), Instant::now());
        assert_eq!(Line::heard(&mut line, said, grace), None);
        let until = line.as_ref().unwrap().closed_until().unwrap();
        assert!(until >= before + grace);
        let again = timeout(Duration::from_millis(100), line.as_ref().unwrap().receive::<ToEnclave>());
        assert!(again.await.is_err(), "it says once that it is closed");
        Line::end_overdue(&mut line, until - Duration::from_millis(1));
        assert!(line.is_some() && child.try_wait().unwrap().is_none());
        Line::end_overdue(&mut line, until);
        assert!(line.is_none() && is_killed(&mut child).await);
    }

    #[tokio::test]
    async fn a_child_with_an_open_line_is_never_overdue() {
        let (mut child, line, _theirs) = idle_child();
        let mut line = Some(line);
        Line::end_overdue(&mut line, Instant::now() + Duration::from_hours(1));
        assert!(line.is_some() && child.try_wait().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_child_that_sends_another_message_than_expected_is_ended() {
        let (mut child, line, theirs) = idle_child();
        let mut line = Some(line);
        Link::new(theirs).unwrap().send(&longest_answer()).await.unwrap();
        let said = line.as_ref().unwrap().receive::<ToEnclave>().await;
        assert_eq!(Line::heard(&mut line, said, Duration::from_secs(2)), None);
        assert!(line.is_none() && is_killed(&mut child).await);
    }

    #[tokio::test]
    async fn only_the_line_to_who_has_been_reaped_is_forgotten() {
        let (_child, line, _theirs) = idle_child();
        let (mut line, pid) = (Some(line), Pid::from_raw(1));
        Line::forget(&mut line, pid);
        let pid = line.as_ref().unwrap().pid;
        Line::forget(&mut line, pid);
        assert!(line.is_none());
    }

    #[tokio::test]
    async fn a_child_that_has_closed_its_end_is_left_to_the_reaper() {
        let (mut child, line, theirs) = idle_child();
        drop(theirs);
        line.tell(&ToRelay::Rejected);
        assert!(timeout(Duration::from_millis(300), child.wait()).await.is_err(), "it was ended");
    }
}
