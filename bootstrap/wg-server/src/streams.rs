//! The open streams of one enclave: at most one of each role. A newer stream replaces the older.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tunnel::preface::Role;

/// Which streams of an enclave are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    data: Option<OpenStream>,
    control: Option<OpenStream>,
}

/// One open stream. Its task and [`Streams`] hold clones, which are equal; two streams never are.
#[derive(Clone, Debug)]
pub(crate) struct OpenStream {
    role: Role,
    signals: Arc<Signals>,
}

/// What a stream's task can be told.
#[derive(Debug, Default)]
struct Signals {
    replaced: CancellationToken,
    renew: Notify,
}

impl Streams {
    /// Opens a stream. The older stream of its role ends, if there is one.
    pub(crate) fn open(&mut self, role: Role) -> OpenStream {
        let stream = OpenStream { role, signals: Arc::default() };
        if let Some(older) = self.slot(role).replace(stream.clone()) {
            older.signals.replaced.cancel();
        }
        stream
    }

    /// Closes a stream. Returns false if a newer one has replaced it.
    pub(crate) fn close(&mut self, stream: &OpenStream) -> bool {
        self.slot(stream.role).take_if(|current| current == stream).is_some()
    }

    pub(crate) fn data(&self) -> Option<&OpenStream> {
        self.data.as_ref()
    }

    pub(crate) fn control(&self) -> Option<&OpenStream> {
        self.control.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_none() && self.control.is_none()
    }

    fn slot(&mut self, role: Role) -> &mut Option<OpenStream> {
        match role {
            Role::Data => &mut self.data,
            Role::Control => &mut self.control,
        }
    }
}

impl OpenStream {
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Does the stream's work until it ends or a newer stream replaces this one. Returns the reason for the end.
    pub(crate) async fn run(&self, work: impl Future<Output = Result<String>>) -> Result<String> {
        tokio::select! {
            () = self.signals.replaced.cancelled() => Ok("a newer stream took over".to_owned()),
            end = work => end,
        }
    }

    /// Requests new keys from the enclave of this control stream.
    pub(crate) fn request_renewal(&self) {
        self.signals.renew.notify_one();
    }

    /// Waits for [`request_renewal`](Self::request_renewal). A request that came before is not lost.
    pub(crate) async fn renewal_requested(&self) {
        self.signals.renew.notified().await;
    }
}

impl PartialEq for OpenStream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.signals, &other.signals)
    }
}

impl Eq for OpenStream {}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    /// Why a stream without work ends now, if it does.
    fn end(stream: &OpenStream) -> Option<String> {
        stream.run(pending()).now_or_never().map(Result::unwrap)
    }

    #[test]
    fn a_newer_stream_replaces_the_older_of_its_role_only() {
        let mut streams = Streams::default();
        let (data, control) = (streams.open(Role::Data), streams.open(Role::Control));
        let newer = streams.open(Role::Data);
        assert_eq!(end(&data).unwrap(), "a newer stream took over");
        assert_eq!((end(&control), end(&newer)), (None, None));
        assert_eq!((streams.data(), streams.control()), (Some(&newer), Some(&control)));
    }

    #[test]
    fn the_end_of_a_replaced_stream_does_not_end_the_newer() {
        let mut streams = Streams::default();
        let older = streams.open(Role::Control);
        let newer = streams.open(Role::Control);
        assert!(!streams.close(&older));
        assert_eq!(streams.control(), Some(&newer));
        assert!(streams.close(&newer) && streams.is_empty());
    }

    #[test]
    fn a_stream_that_nobody_replaces_ends_with_its_work() {
        let stream = Streams::default().open(Role::Data);
        let end = stream.run(ready(Ok("the enclave closed it".to_owned()))).now_or_never();
        assert_eq!(end.unwrap().unwrap(), "the enclave closed it");
    }

    #[test]
    fn a_renewal_that_is_requested_before_the_wait_is_not_lost() {
        let stream = Streams::default().open(Role::Control);
        stream.clone().request_renewal();
        assert_eq!(stream.renewal_requested().now_or_never(), Some(()));
        assert_eq!(stream.renewal_requested().now_or_never(), None);
    }
}
