//! When to retry, and when to stop.
//!
//! Not the SDK's retries: each attempt needs a fresh attestation document, which is part of the request.

use std::fmt::Display;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

/// The longest wait before the second attempt; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No wait is longer.
const MAX_DELAY: Duration = Duration::from_secs(3);
/// Whatever the deadline is.
const MAX_ATTEMPTS: u32 = 10;

/// How long a call may take, with its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// All attempts and the waits between them.
    pub deadline: Duration,
    /// One attempt.
    pub attempt_timeout: Duration,
}

/// An error that says whether a retry may help.
pub(crate) trait Attempt: Display + Sized {
    fn is_transient(&self) -> bool;

    /// An attempt had no result within this time.
    fn timed_out(after: Duration) -> Self;

    /// There is no time for another attempt.
    fn gave_up(attempts: u32, last: Self) -> Self;
}

/// Repeats `attempt` while its errors are transient and there is time.
pub(crate) async fn retry<T, E, F>(budget: RetryBudget, mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    E: Attempt,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let left = budget.deadline.saturating_sub(start.elapsed()).min(budget.attempt_timeout);
        let error = match timeout(left, attempt()).await {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(error)) if !error.is_transient() => return Err(error),
            Ok(Err(error)) => error,
            Err(_elapsed) => E::timed_out(left),
        };
        let delay = delay(attempts, random());
        if attempts == MAX_ATTEMPTS || start.elapsed() + delay >= budget.deadline {
            return Err(E::gave_up(attempts, error));
        }
        debug!(attempts, ?delay, %error, "ask again");
        sleep(delay).await;
    }
}

/// Between half of the longest wait and all of it, by `random`, so that many who failed together do not ask together.
fn delay(attempts: u32, random: u16) -> Duration {
    let longest = FIRST_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(MAX_DELAY);
    longest / 2 + (longest / 2) * u32::from(random) / u32::from(u16::MAX)
}

/// Without randomness, the longest wait does too.
fn random() -> u16 {
    let mut bytes = [u8::MAX; 2];
    match rand::fill(&mut bytes) {
        Ok(()) => u16::from_ne_bytes(bytes),
        Err(_none) => u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::pending;

    use thiserror::Error;

    use super::*;

    const PATIENCE: RetryBudget =
        RetryBudget { deadline: Duration::from_secs(20), attempt_timeout: Duration::from_secs(5) };

    #[derive(Debug, PartialEq, Error)]
    enum Trouble {
        #[error("passing")]
        Passing,
        #[error("final")]
        Final,
        #[error("timed out after {0:?}")]
        TimedOut(Duration),
        #[error("gave up after {0}")]
        GaveUp(u32, Box<Self>),
    }

    impl Attempt for Trouble {
        fn is_transient(&self) -> bool {
            matches!(self, Self::Passing)
        }

        fn timed_out(after: Duration) -> Self {
            Self::TimedOut(after)
        }

        fn gave_up(attempts: u32, last: Self) -> Self {
            Self::GaveUp(attempts, Box::new(last))
        }
    }

    /// What comes of these results in turn, and how many of them were asked for.
    async fn asked(results: impl IntoIterator<Item = Result<u8, Trouble>>) -> (Result<u8, Trouble>, usize) {
        let results = RefCell::new(results.into_iter().collect::<VecDeque<_>>());
        let before = results.borrow().len();
        let result = retry(PATIENCE, || {
            let next = results.borrow_mut().pop_front().unwrap();
            async move { next }
        })
        .await;
        let after = results.borrow().len();
        (result, before - after)
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_error_is_asked_again_and_a_final_one_is_not() {
        use Trouble::{Final, Passing};
        assert_eq!(asked([Ok(1), Ok(2)]).await, (Ok(1), 1));
        assert_eq!(asked([Err(Passing), Err(Passing), Ok(3)]).await, (Ok(3), 3));
        assert_eq!(asked([Err(Passing), Err(Final), Ok(3)]).await, (Err(Final), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_have_a_cap_and_the_last_error_is_kept() {
        let start = Instant::now();
        let (result, count) = asked((0..20).map(|_| Err(Trouble::Passing))).await;
        assert_eq!(result, Err(Trouble::GaveUp(10, Box::new(Trouble::Passing))));
        assert_eq!(count, 10);
        assert!(start.elapsed() < PATIENCE.deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_the_deadline() {
        let start = Instant::now();
        let result = retry(PATIENCE, pending::<Result<u8, Trouble>>).await;
        let Err(Trouble::GaveUp(attempts @ 3..=4, last)) = result else {
            panic!("{result:?}");
        };
        assert!(matches!(*last, Trouble::TimedOut(_)), "{attempts}: {last}");
        assert!(start.elapsed() <= PATIENCE.deadline, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_begins_that_would_end_after_the_deadline() {
        let start = Instant::now();
        let budget = RetryBudget { deadline: Duration::from_millis(40), ..PATIENCE };
        let result: Result<u8, Trouble> = retry(budget, || async { Err(Trouble::Passing) }).await;
        assert_eq!(result, Err(Trouble::GaveUp(1, Box::new(Trouble::Passing))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn waits_double_up_to_a_cap_and_are_spread() {
        let milliseconds = |attempts, random| delay(attempts, random).as_millis();
        assert_eq!((milliseconds(1, 0), milliseconds(1, u16::MAX)), (50, 100));
        assert_eq!((milliseconds(2, 0), milliseconds(2, u16::MAX)), (100, 200));
        assert_eq!((milliseconds(5, 0), milliseconds(5, u16::MAX)), (800, 1600));
        assert_eq!((milliseconds(6, 0), milliseconds(u32::MAX, u16::MAX)), (1500, 3000));
    }
}
