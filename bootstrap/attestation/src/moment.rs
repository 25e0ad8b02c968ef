//! Times in error messages.

use std::fmt;
use std::time::SystemTime;

/// A time as RFC 3339 writes it.
pub(crate) struct Moment<'a>(pub(crate) &'a SystemTime);

impl fmt::Display for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // DER's times are from 1970 to 9999.
        match der::DateTime::try_from(*self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}
