//! Calling home: an enclave opens a TLS connection to a customer's server, the hub, proves itself on it, and then
//! serves the requests that the hub sends over it.
//!
//! ```text
//! enclave (TLS client)                        hub (TLS server)
//!    | TLS 1.3, ALPN `enclave-wireguard-home/1`, full handshake
//!    |                             <- Nonce  |   makes it for this connection
//!    | Document                           -> |   verifies it
//!    |               <- Accepted, or Refused |
//!    |             <- HTTP/1.1 requests      |   at least every 45 seconds: `GET /health` if there is nothing else
//!    | HTTP/1.1 answers                   -> |
//! ```
//!
//! The document's `nonce` is the hub's, and its `user_data` is the binding of crate `binding`'s module `home`: it binds
//! the connection's [`exporter`]. After `Accepted`, HTTP has the connection to its end. To have the proof renewed, the
//! hub closes the connection, and the enclave opens another one with a new nonce.
//!
//! | module | content |
//! |---|---|
//! | [`headers`] | those of a request that pass from one connection to the next |
//! | [`message`] | the four messages: layout, encoder, decoder |
//! | [`exchange`] | sends and receives them |
//! | [`pause`] | the wait before the next call |
//! | [`url`] | where a hub is |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed"))]

pub mod exchange;
pub mod headers;
pub mod message;
pub mod pause;
pub mod url;

use std::time::Duration;

use rustls::ConnectionCommon;

use message::Nonce;

/// The protocol's name in ALPN (RFC 7301), with its version. Both sides require it.
pub const ALPN: &[u8] = b"enclave-wireguard-home/1";

/// The exporter's label. Labels that begin like this need no registration (RFC 5705, 4).
pub const LABEL: &[u8] = b"EXPERIMENTAL enclave-wireguard home 1";

/// The hub sends a request at least this often. The enclave closes a connection that is silent for much longer.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(45);

/// The connection's TLS exporter (RFC 8446, 7.5) with [`LABEL`], and the nonce as context: 32 bytes that no other
/// connection has.
///
/// # Errors
/// The handshake is not over.
pub fn exporter<Side>(session: &ConnectionCommon<Side>, nonce: &Nonce) -> Result<[u8; 32], rustls::Error> {
    session.export_keying_material([0; 32], LABEL, Some(nonce))
}
