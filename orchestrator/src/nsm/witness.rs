//! The NSM in the signer: one thread makes the requests, so that the thread that serves clients never blocks.
//!
//! A request blocks in the driver. Requests for KMS go first: a flood of clients that want documents delays no key. An
//! NSM that hangs delays each requester by [`DEADLINE`], and nothing else.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{DEADLINE, NSM_PATH};

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// KMS, for a key.
    Kms,
    /// A client, as proof.
    Client,
}

/// Requests documents from the thread, which ends when this is dropped.
pub(crate) struct Witness(Arc<Queue>);

/// The thread, before it is started.
pub(crate) struct Module {
    queue: Arc<Queue>,
    ask: Box<dyn FnMut(Request) -> Response + Send>,
}

/// The most requests that wait, of either kind. The service admits fewer.
const MAX_WAITING: usize = 32;

/// Room for the driver's buffers, of 28 KiB together.
const STACK: usize = 256 * 1024;

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    kms: VecDeque<Job>,
    clients: VecDeque<Job>,
    is_over: bool,
}

struct Job {
    request: Request,
    answer: oneshot::Sender<Response>,
}

/// Takes the descriptor of the NSM's device that PID 1 left to this process.
pub(crate) fn witness(device: OwnedFd) -> (Witness, Module) {
    over(move |request| nsm_process_request(device.as_raw_fd(), request))
}

/// The same over any function that answers requests.
pub(crate) fn over(ask: impl FnMut(Request) -> Response + Send + 'static) -> (Witness, Module) {
    let queue = Arc::new(Queue { waiting: Mutex::default(), changed: Condvar::new() });
    (Witness(Arc::clone(&queue)), Module { queue, ask: Box::new(ask) })
}

impl Witness {
    /// A document with these fields.
    pub(crate) async fn document(
        &self,
        asker: Asker,
        nonce: Option<&[u8]>,
        user_data: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> io::Result<Vec<u8>> {
        let field = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.to_vec().into());
        let request =
            Request::Attestation { nonce: field(nonce), user_data: field(user_data), public_key: field(public_key) };
        let problem = |kind, text: &str| io::Error::new(kind, format!("{NSM_PATH}: Attestation: {text}"));
        let (sender, receiver) = oneshot::channel();
        if !self.0.push(asker, Job { request, answer: sender }) {
            return Err(problem(io::ErrorKind::ResourceBusy, "too many waiting requests"));
        }
        let Ok(answer) = timeout(DEADLINE, receiver).await else {
            let text = format!("no answer within {DEADLINE:?}, expected one in milliseconds");
            return Err(problem(io::ErrorKind::TimedOut, &text));
        };
        match answer {
            Ok(Response::Attestation { document }) => Ok(document),
            Ok(Response::Error(code)) => Err(problem(io::ErrorKind::Other, &format!("{code:?}"))),
            Ok(_) => Err(problem(io::ErrorKind::InvalidData, "unexpected response, expected a document")),
            Err(_dropped) => Err(problem(io::ErrorKind::BrokenPipe, "the NSM thread has ended")),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.waiting().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Module {
    /// Starts the thread, which runs `confine` first. The caller may be unable to start threads afterwards.
    ///
    /// # Errors
    /// The system has no thread, or those of `confine`.
    pub(crate) fn start(mut self, confine: impl FnOnce() -> Result<()> + Send + 'static) -> Result<JoinHandle<()>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let life = move || {
            let confined = confine();
            let is_confined = confined.is_ok();
            if sender.send(confined).is_ok() && is_confined {
                self.run();
            }
        };
        let thread =
            Builder::new().name("nsm".into()).stack_size(STACK).spawn(life).context("start the NSM's thread")?;
        receiver.recv().context("the NSM's thread ended as it began")?.context("the NSM's thread")?;
        Ok(thread)
    }

    fn run(&mut self) {
        while let Some(Job { request, answer }) = self.queue.next() {
            // The requester may have given up.
            drop(answer.send((self.ask)(request)));
        }
    }
}

impl Queue {
    /// Returns false when too many requests wait already.
    fn push(&self, asker: Asker, job: Job) -> bool {
        let mut waiting = self.waiting();
        let jobs = match asker {
            Asker::Kms => &mut waiting.kms,
            Asker::Client => &mut waiting.clients,
        };
        // Requests whose requester has given up take no place.
        jobs.retain(|job| !job.answer.is_closed());
        if jobs.len() >= MAX_WAITING {
            return false;
        }
        jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Waits for the next request whose requester still waits; none at the end.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting();
        loop {
            while let Some(job) = waiting.take() {
                if !job.answer.is_closed() {
                    return Some(job);
                }
            }
            if waiting.is_over {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Job> {
        self.kms.pop_front().or_else(|| self.clients.pop_front())
    }
}

#[cfg(test)]
mod tests;
