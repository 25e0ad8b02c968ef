//! What a signer and its clients say to each other, without I/O. The signer parses requests and writes answers; a client needs the same
//! types, and none of the server.
//!
//! | module | what it owns |
//! |---|---|
//! | [`request`] | a body becomes a typed request, or an error that names the field |
//! | [`key`] | which key a request names, and the credentials that open it |
//! | [`answer`] | the answers, refusals included |
//! | [`path`] | where each request goes |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

pub mod answer;
pub mod key;
pub mod path;
pub mod request;

mod error;
mod json;

pub use error::RequestError;
pub use json::shown;
