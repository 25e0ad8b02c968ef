//! When to repeat a request because the signer was busy.
//!
//! With 429 and 503 the signer sends `Retry-After` in seconds. It has done nothing then, and the same transaction gets the same
//! signature, so that repeating it is safe.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderMap, RETRY_AFTER};

/// How long a request is repeated, counted from its first response. A wait that would end later does not begin.
pub(super) const RETRY_BUDGET: Duration = Duration::from_secs(10);

/// The wait after `Retry-After: 0`.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long to wait before the same request is repeated on the same connection. None: the response is final.
pub(super) fn wait(status: StatusCode, headers: &HeaderMap, waited: Duration) -> Option<Duration> {
    let is_busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let ends = headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    // The header may be a date, too, which the signer never sends.
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let wait = Duration::from_secs(seconds).max(SHORTEST);
    let is_short = waited.checked_add(wait).is_some_and(|end| end <= RETRY_BUDGET);
    (is_busy && !ends && is_short).then_some(wait)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn after(status: u16, headers: &[(&'static str, &'static str)], waited: u64) -> Option<u64> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (name.parse::<hyper::header::HeaderName>().unwrap(), HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(header).collect();
        let wait = wait(StatusCode::from_u16(status).unwrap(), &headers, Duration::from_secs(waited));
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn a_busy_signer_is_asked_again_when_it_says() {
        assert_eq!(after(429, &[("retry-after", "3")], 0), Some(3));
        assert_eq!(after(503, &[("retry-after", "1")], 9), Some(1));
        assert_eq!(after(429, &[("retry-after", "0")], 0), Some(1), "not in a loop without rest");
    }

    #[test]
    fn it_is_not_asked_for_ever_nor_earlier_than_it_says() {
        assert_eq!(after(503, &[("retry-after", "1")], 10), None);
        assert_eq!(after(429, &[("retry-after", "11")], 0), None);
        assert_eq!(after(429, &[("retry-after", "18446744073709551615")], 1), None);
    }

    #[test]
    fn other_answers_stand() {
        assert_eq!(after(422, &[("retry-after", "1")], 0), None);
        assert_eq!(after(200, &[("retry-after", "1")], 0), None);
        assert_eq!(after(429, &[], 0), None);
        assert_eq!(after(429, &[("retry-after", "soon")], 0), None);
        assert_eq!(after(429, &[("retry-after", "-1")], 0), None);
        assert_eq!(after(429, &[("retry-after", "1"), ("connection", "Close")], 0), None, "nothing reconnects");
    }
}
