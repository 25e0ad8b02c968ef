//! What a signer and its clients say to each other, without I/O. The signer parses requests and writes answers; a client needs the same
//! types, and none of the server.
//!
//! | module | what it owns |
//! |---|---|
//! | [`request`] | a body becomes a typed request, or an error that names the field |
//! | [`field`] | values of one field, such as a list of authorisations |
//! | [`authorization`], [`message`], [`typed_data`] | what is signed beside transactions |
//! | [`key`] | which key a request names, and the credentials that open it |
//! | [`answer`] | the answers, refusals included |
//! | [`rpc`] | the same as JSON-RPC 2.0 |
//! | [`path`] | where each request goes |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm,
        reason = "a panic fails the test"
    )
)]

pub mod answer;
pub mod authorization;
pub mod field;
pub mod key;
pub mod message;
pub mod path;
pub mod request;
pub mod rpc;
pub mod typed_data;

mod error;
mod json;

pub use error::RequestError;
pub use json::shown;
