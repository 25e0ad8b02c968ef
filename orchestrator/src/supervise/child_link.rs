//! PID 1's end of the link to one of its child processes. The child may be hostile, so nothing here waits for it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tunnel::message::Message;

use crate::link::Link;
use crate::role::Role;

/// The link, and the child to kill when it breaks. Dropped when the child is reaped, so `pid` is always the child's.
pub(super) struct ChildLink {
    role: Role,
    pid: Pid,
    link: Link,
    /// Set once the child has closed its end.
    exit_deadline: Option<Instant>,
}

impl ChildLink {
    /// Takes PID 1's end of [`crate::link::pair`]; needs a runtime.
    pub(super) fn new(role: Role, pid: Pid, socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { role, pid, link: Link::new(socket)?, exit_deadline: None })
    }

    /// The child's next message; none, and only once, when it has closed its end. Cancel safe.
    pub(super) async fn receive<M: Message>(&self) -> io::Result<Option<M>> {
        if self.exit_deadline.is_some() {
            return std::future::pending().await;
        }
        self.link.receive().await
    }

    /// The time by which a child that has closed its end has to exit.
    pub(super) const fn exit_deadline(&self) -> Option<Instant> {
        self.exit_deadline
    }

    /// Returns the message of [`ChildLink::receive`]. On an error, kills the child.
    ///
    /// A child that works closes its end when it exits. It then has `grace` to log why.
    pub(super) fn received<M>(link: &mut Option<Self>, result: io::Result<Option<M>>, grace: Duration) -> Option<M> {
        match result {
            Ok(message) => {
                if message.is_none()
                    && let Some(link) = link
                {
                    link.exit_deadline = Some(Instant::now() + grace);
                }
                message
            }
            Err(error) => {
                if let Some(link) = link.take() {
                    link.kill(&format_args!("receive from it: {error}"));
                }
                None
            }
        }
    }

    /// Drops the link to a child that has been reaped: the kernel may reuse its process id.
    pub(super) fn forget(link: &mut Option<Self>, pid: Pid) {
        link.take_if(|link| link.pid == pid);
    }

    /// Kills a child that has closed its end and has not exited: otherwise nothing would restart it.
    pub(super) fn kill_overdue(link: &mut Option<Self>, now: Instant) {
        if let Some(link) = link.take_if(|link| link.exit_deadline.is_some_and(|deadline| deadline <= now)) {
            link.kill(&"it has closed its link and does not exit");
        }
    }

    /// Puts a message into the child's queue, which is the socket's buffer.
    ///
    /// The queue holds ten messages of the maximum length. A child that works never has more than one to read. A full
    /// queue therefore means that the child does not read: PID 1 kills it, and the reaper restarts it.
    pub(super) fn send<M: Message>(&self, message: &M) {
        let Err(error) = self.link.try_send(message) else { return };
        let kind = error.kind();
        if kind == io::ErrorKind::WouldBlock {
            self.kill(&"it does not read PID 1's messages");
        } else if [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&kind) {
            // It has exited, or is about to: the reaper logs why.
            tracing::debug!("supervise: send to the {}: {error}", self.role);
        } else {
            self.kill(&format_args!("send to it: {error}"));
        }
    }

    /// Kills the child; the reaper restarts it.
    pub(super) fn kill(&self, reason: &dyn std::fmt::Display) {
        tracing::error!(pid = self.pid.as_raw(), "supervise: killing the {}: {reason}", self.role);
        match kill(self.pid, Signal::SIGKILL) {
            // ESRCH: it has ended meanwhile.
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

    /// A process that lives on and does nothing, and PID 1's link to it; the other end is the test's.
    pub(crate) fn idle_child() -> (Child, ChildLink, OwnedFd) {
        let child = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (ours, theirs) = link::pair().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        (child, ChildLink::new(Role::Relay, pid, ours).unwrap(), theirs)
    }

    fn longest_answer() -> ToRelay {
        let (public_key, kem_key) = (PublicKey([1; 32]), KemKey([2; 1184]));
        ToRelay::Send(ToGateway::Answer(Answer { public_key, kem_key, document: vec![3; 0x3000] }))
    }

    #[tokio::test]
    async fn a_relay_that_never_reads_is_ended_and_nobody_waits_for_it() {
        let (mut child, link, _theirs) = idle_child();
        let answer = longest_answer();
        for _ in 0..100 {
            link.send(&answer);
        }
        let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("the relay lives on");
        assert_eq!(ended.unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[tokio::test]
    async fn a_relay_that_reads_late_is_not_ended() {
        let (mut child, link, theirs) = idle_child();
        let theirs = Link::new(theirs).unwrap();
        for _ in 0..5 {
            link.send(&longest_answer());
        }
        for _ in 0..5 {
            assert_eq!(theirs.receive().await.unwrap(), Some(longest_answer()));
        }
        theirs.send(&ToEnclave::Refused("no lease".to_owned())).await.unwrap();
        assert!(link.receive::<ToEnclave>().await.unwrap().is_some());
        assert_eq!(child.try_wait().unwrap(), None);
    }

    async fn is_killed(child: &mut Child) -> bool {
        let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("it lives on").unwrap();
        ended.signal() == Some(Signal::SIGKILL as i32)
    }

    #[tokio::test]
    async fn a_child_that_closes_its_end_and_lives_on_is_ended_after_its_time_and_not_before() {
        let (mut child, link, theirs) = idle_child();
        let mut link = Some(link);
        drop(theirs);
        let said = link.as_ref().unwrap().receive::<ToEnclave>().await;
        let (grace, before) = (Duration::from_secs(2), Instant::now());
        assert_eq!(ChildLink::received(&mut link, said, grace), None);
        let until = link.as_ref().unwrap().exit_deadline().unwrap();
        assert!(until >= before + grace);
        let again = timeout(Duration::from_millis(100), link.as_ref().unwrap().receive::<ToEnclave>());
        assert!(again.await.is_err(), "it reports once that it is closed");
        ChildLink::kill_overdue(&mut link, until - Duration::from_millis(1));
        assert!(link.is_some() && child.try_wait().unwrap().is_none());
        ChildLink::kill_overdue(&mut link, until);
        assert!(link.is_none() && is_killed(&mut child).await);
    }

    #[tokio::test]
    async fn a_child_with_an_open_link_is_never_overdue() {
        let (mut child, link, _theirs) = idle_child();
        let mut link = Some(link);
        ChildLink::kill_overdue(&mut link, Instant::now() + Duration::from_hours(1));
        assert!(link.is_some() && child.try_wait().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_child_that_sends_another_message_than_expected_is_ended() {
        let (mut child, link, theirs) = idle_child();
        let mut link = Some(link);
        Link::new(theirs).unwrap().send(&longest_answer()).await.unwrap();
        let said = link.as_ref().unwrap().receive::<ToEnclave>().await;
        assert_eq!(ChildLink::received(&mut link, said, Duration::from_secs(2)), None);
        assert!(link.is_none() && is_killed(&mut child).await);
    }

    #[tokio::test]
    async fn only_the_link_to_a_reaped_child_is_dropped() {
        let (_child, link, _theirs) = idle_child();
        let (mut link, pid) = (Some(link), Pid::from_raw(1));
        ChildLink::forget(&mut link, pid);
        let pid = link.as_ref().unwrap().pid;
        ChildLink::forget(&mut link, pid);
        assert!(link.is_none());
    }

    #[tokio::test]
    async fn a_child_that_has_closed_its_end_is_left_to_the_reaper() {
        let (mut child, link, theirs) = idle_child();
        drop(theirs);
        link.send(&ToRelay::Rejected);
        assert!(timeout(Duration::from_millis(300), child.wait()).await.is_err(), "it was ended");
    }
}
