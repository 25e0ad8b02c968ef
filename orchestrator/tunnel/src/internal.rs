//! What PID 1 and its children tell each other, one message per datagram of a socket pair.
//!
//! The relay passes on what the gateway sends, so PID 1 reads a [`ToEnclave`](crate::control::ToEnclave) as it came
//! over the vsock. The relay talks to a hostile parent: PID 1 decodes the message again, and trusts it as little.
//!
//! ```text
//! relay                                    PID 1
//!   | ToEnclave::Offer ->                    |  checks it against the measured configuration, makes new keys
//!   | <- ToRelay::Send, or Rejected          |
//!   | ToEnclave::Accepted, or Refused ->     |  on Accepted: wg0 switches to the new keys and sends first
//!
//! signer                                   PID 1
//!   | FromSigner: its TLS key ->             |  every document from now on binds the TLS key
//!   | <- ToSigner::Serve                     |  the tunnel is up
//! ```
//!
//! PID 1 and its children are one program, so these messages have no version.

use minicbor::{Decode, Encode};

use crate::control::ToGateway;
use crate::message::Message;

/// Messages from PID 1 to the relay.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToRelay {
    /// For the gateway, to be passed on.
    #[n(0)]
    Send(#[n(0)] ToGateway),
    /// The offer does not fit the measured configuration, or could not be answered.
    #[n(1)]
    Rejected,
}

/// The one message from the signer: it is ready to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FromSigner {
    /// SHA-256 of its TLS key (SubjectPublicKeyInfo, DER).
    #[cbor(n(0), with = "minicbor::bytes")]
    pub tls_key: [u8; 32],
}

/// Messages from PID 1 to the signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToSigner {
    /// The tunnel is up: clients can connect.
    #[n(0)]
    Serve,
}

impl Message for ToRelay {}
impl Message for FromSigner {}
impl Message for ToSigner {}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::control::{Answer, KemKey, PublicKey};
    use crate::message::{MAX_LEN, decode, encode};

    fn assert_golden<M: Message + Debug + PartialEq>(message: &M, bytes: &[u8]) {
        assert_eq!(encode(message).unwrap(), bytes);
        assert_eq!(decode::<M>(bytes).unwrap(), *message);
    }

    fn answer(document: Vec<u8>) -> ToRelay {
        let (public_key, kem_key) = (PublicKey([0x33; 32]), KemKey([0x44; 1184]));
        ToRelay::Send(ToGateway::Answer(Answer { public_key, kem_key, document }))
    }

    #[test]
    fn an_answer_to_pass_on_has_these_bytes_and_back() {
        let mut golden = vec![0x82, 0x00, 0x81, 0x82, 0x00, 0x81, 0x83, 0x58, 0x20];
        golden.extend([0x33; 32]);
        golden.extend([0x59, 0x04, 0xa0]);
        golden.extend([0x44; 1184]);
        golden.extend([0x43, 0x55, 0x55, 0x55]);
        assert_golden(&answer(vec![0x55; 3]), &golden);
    }

    #[test]
    fn the_relay_gets_the_bytes_that_go_over_the_vsock_behind_three_of_its_own() {
        let ToRelay::Send(for_gateway) = answer(vec![0x55; 3]) else { panic!("not for the gateway") };
        assert_eq!(encode(&answer(vec![0x55; 3])).unwrap()[3..], encode(&for_gateway).unwrap());
    }

    #[test]
    fn the_short_messages_have_these_bytes_and_back() {
        assert_golden(&ToRelay::Rejected, &[0x82, 0x01, 0x80]);
        assert_golden(&ToSigner::Serve, &[0x82, 0x00, 0x80]);
        assert_golden(&FromSigner { tls_key: [0x77; 32] }, &[&[0x81, 0x58, 0x20], &[0x77; 32][..]].concat());
    }

    #[test]
    fn an_answer_with_the_largest_document_fits() {
        assert!(encode(&answer(vec![0x55; 0x3000])).unwrap().len() <= MAX_LEN);
    }

    #[test]
    fn a_tls_key_of_another_length_is_refused() {
        for bytes in [&[&[0x81, 0x58, 31], &[0x77; 31][..]].concat(), &[&[0x81, 0x58, 33], &[0x77; 33][..]].concat()] {
            assert!(decode::<FromSigner>(bytes).is_err(), "{bytes:?}");
        }
    }

    fn assert_one_encoding<M: Message>(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(message) = decode::<M>(bytes) {
            prop_assert_eq!(encode(&message).unwrap(), bytes);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_are_the_encoding_of_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            assert_one_encoding::<ToRelay>(&bytes)?;
            assert_one_encoding::<FromSigner>(&bytes)?;
            assert_one_encoding::<ToSigner>(&bytes)?;
        }
    }
}
