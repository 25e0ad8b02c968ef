//! The services' output, line by line.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use service::Service;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;

use super::lines::Lines;

/// PID 1's end of one service's pipe. A service that writes faster than PID 1 reads blocks in write(2).
#[derive(Debug)]
pub(crate) struct Output {
    service: &'static Service,
    pipe: Receiver,
    lines: Lines,
    is_closed: bool,
}

/// One line of a service's output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputLine {
    pub(crate) service: &'static Service,
    pub(crate) line: String,
}

impl Output {
    /// Takes PID 1's end of the pipe; needs a runtime.
    pub(crate) fn new(service: &'static Service, pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { service, pipe: Receiver::from_owned_fd(pipe)?, lines: Lines::default(), is_closed: false })
    }

    /// The next line; the last may lack its newline. None once every writer has closed the pipe.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            if let Some(line) = self.lines.next() {
                return Poll::Ready(Some(line));
            }
            if self.is_closed {
                return Poll::Ready(self.lines.rest());
            }
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.pipe).poll_read(context, &mut buffer));
            // A pipe that fails to read counts as closed.
            self.is_closed = read.is_err() || buffer.filled().is_empty();
            self.lines.push(buffer.filled());
        }
    }
}

/// The next line of any service. Removes closed outputs from the list. Cancel safe.
pub(crate) async fn next_line(outputs: &mut Vec<Output>) -> OutputLine {
    poll_fn(|context| {
        let mut at = 0;
        while let Some(output) = outputs.get_mut(at) {
            match output.poll_line(context) {
                Poll::Ready(Some(line)) => {
                    let service = output.service;
                    // To the end of the list, so that the other services are next.
                    let output = outputs.remove(at);
                    outputs.push(output);
                    return Poll::Ready(OutputLine { service, line });
                }
                Poll::Ready(None) => drop(outputs.remove(at)),
                Poll::Pending => at += 1,
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use futures_util::FutureExt;
    use nix::unistd::pipe;

    use super::*;

    fn service(name: &str) -> &'static Service {
        let service = Service { name: name.to_owned(), ..Service::default() };
        Box::leak(Box::new(service))
    }

    fn output(name: &str) -> (Output, File) {
        let (ours, theirs) = pipe().unwrap();
        (Output::new(service(name), ours).unwrap(), File::from(theirs))
    }

    async fn lines(outputs: &mut Vec<Output>, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            let OutputLine { service, line } = next_line(outputs).await;
            lines.push(format!("{service}: {line}"));
        }
        lines
    }

    #[tokio::test]
    async fn the_last_line_is_heard_without_its_end_and_then_nothing() {
        let (output, mut service) = output("a");
        let mut outputs = vec![output];
        service.write_all(b"one\ntwo").unwrap();
        drop(service);
        assert_eq!(lines(&mut outputs, 2).await, ["a: one", "a: two"]);
        assert!(next_line(&mut outputs).now_or_never().is_none() && outputs.is_empty());
    }

    #[tokio::test]
    async fn a_service_that_floods_does_not_silence_another() {
        let (flood, mut flooding) = output("flood");
        let (quiet, mut calm) = output("calm");
        let mut outputs = vec![flood, quiet];
        flooding.write_all(&b"x\n".repeat(1000)).unwrap();
        calm.write_all(b"here\n").unwrap();
        let heard = lines(&mut outputs, 4).await;
        assert!(heard.contains(&"calm: here".to_owned()), "{heard:?}");
    }
}
