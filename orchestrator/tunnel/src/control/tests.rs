use proptest::prelude::*;
use tokio::io::duplex;

use super::*;

fn offer() -> ToEnclave {
    ToEnclave::Offer(Offer {
        nonce: [0x11; 32],
        public_key: PublicKey([0x22; 32]),
        ipv4: Some(Ipv4Addr::new(203, 0, 113, 2)),
        ipv6: Some("fd3b:74ac:9d21::2".parse().unwrap()),
    })
}

fn golden_offer() -> Vec<u8> {
    let mut bytes = vec![0x00, 0x5e, 0x82, 0x00, 0x81, 0x84, 0x58, 0x20];
    bytes.extend([0x11; 32]);
    bytes.extend([0x58, 0x20]);
    bytes.extend([0x22; 32]);
    bytes.extend([0x44, 203, 0, 113, 2, 0x50, 0xfd, 0x3b, 0x74, 0xac, 0x9d, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    bytes
}

async fn read_all<M: Message>(bytes: &[u8]) -> Result<M, ControlError> {
    let mut reader = bytes;
    read(&mut reader).await
}

async fn written<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, message).await.unwrap();
    bytes
}

#[tokio::test]
async fn an_offer_has_these_bytes() {
    assert_eq!(written(&offer()).await, golden_offer());
}

#[tokio::test]
async fn these_bytes_are_an_offer() {
    assert_eq!(read_all::<ToEnclave>(&golden_offer()).await.unwrap(), offer());
}

#[tokio::test]
async fn an_answer_has_these_bytes_and_they_are_one() {
    let answer = ToGateway::Answer(Answer {
        public_key: PublicKey([0x33; 32]),
        kem_key: KemKey([0x44; 1184]),
        document: vec![0x55; 3],
    });
    let mut golden = vec![0x04, 0xcd, 0x82, 0x00, 0x81, 0x83, 0x58, 0x20];
    golden.extend([0x33; 32]);
    golden.extend([0x59, 0x04, 0xa0]);
    golden.extend([0x44; 1184]);
    golden.extend([0x43, 0x55, 0x55, 0x55]);
    assert_eq!(written(&answer).await, golden);
    assert_eq!(read_all::<ToGateway>(&golden).await.unwrap(), answer);
}

#[tokio::test]
async fn an_answer_with_the_largest_document_fits() {
    let answer = ToGateway::Answer(Answer {
        public_key: PublicKey([0x33; 32]),
        kem_key: KemKey([0x44; 1184]),
        document: vec![0x55; 0x3000],
    });
    assert_eq!(read_all::<ToGateway>(&written(&answer).await).await.unwrap(), answer);
}

#[tokio::test]
async fn accepted_and_refused_have_these_bytes_and_they_are_them() {
    let accepted = ToEnclave::Accepted(KemCiphertext([0x66; 1088]));
    let mut golden = vec![0x04, 0x46, 0x82, 0x01, 0x81, 0x59, 0x04, 0x40];
    golden.extend([0x66; 1088]);
    assert_eq!(written(&accepted).await, golden);
    assert_eq!(read_all::<ToEnclave>(&golden).await.unwrap(), accepted);
    let refused = ToEnclave::Refused("no".into());
    assert_eq!(written(&refused).await, [0x00, 0x06, 0x82, 0x02, 0x81, 0x62, b'n', b'o']);
    assert_eq!(read_all::<ToEnclave>(&[0x00, 0x06, 0x82, 0x02, 0x81, 0x62, b'n', b'o']).await.unwrap(), refused);
}

#[tokio::test]
async fn an_address_may_be_absent() {
    let ToEnclave::Offer(offer) = offer() else { panic!("not an offer") };
    for (ipv4, ipv6) in [(None, offer.ipv6), (offer.ipv4, None), (None, None)] {
        let message = ToEnclave::Offer(Offer { ipv4, ipv6, ..offer.clone() });
        assert_eq!(read_all::<ToEnclave>(&written(&message).await).await.unwrap(), message);
    }
}

#[tokio::test]
async fn an_address_of_another_length_is_refused() {
    let mut bytes = golden_offer();
    let at = bytes.iter().position(|byte| *byte == 0x44).unwrap();
    bytes.remove(at + 1);
    bytes[at] = 0x43;
    bytes[1] -= 1;
    let error = read_all::<ToEnclave>(&bytes).await.unwrap_err();
    assert!(matches!(error, ControlError::Message(MessageError::Malformed(_))), "{error:?}");
}

#[tokio::test]
async fn messages_follow_one_another_on_a_stream_cut_into_bytes() {
    let (mut gateway, mut enclave) = duplex(1);
    let messages = [offer(), ToEnclave::Accepted(KemCiphertext([1; 1088])), ToEnclave::Refused("why".into())];
    let sent = async {
        for message in &messages {
            write(&mut gateway, message).await.unwrap();
        }
        drop(gateway);
    };
    let received = async {
        for message in &messages {
            assert_eq!(read::<ToEnclave, _>(&mut enclave).await.unwrap(), *message);
        }
        let end = read::<ToEnclave, _>(&mut enclave).await.unwrap_err();
        assert!(matches!(end, ControlError::Closed), "{end:?}");
    };
    tokio::join!(sent, received);
}

#[tokio::test]
async fn an_empty_or_oversized_message_is_refused_by_its_length_alone() {
    for (bytes, len) in [([0, 0], 0), ([0x3e, 0x81], message::MAX_LEN + 1), ([0xff, 0xff], 65_535)] {
        let error = read_all::<ToEnclave>(&bytes).await.unwrap_err();
        assert!(matches!(error, ControlError::Message(MessageError::Length(l)) if l == len), "{error:?}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_sent() {
    let mut sent = Vec::new();
    let message = ToEnclave::Refused("x".repeat(message::MAX_LEN));
    assert!(matches!(write(&mut sent, &message).await, Err(ControlError::Message(MessageError::Length(_)))));
    assert!(sent.is_empty());
}

#[tokio::test]
async fn bytes_behind_a_message_are_refused() {
    let error = read_all::<ToEnclave>(&[0x00, 0x07, 0x82, 0x02, 0x81, 0x62, b'n', b'o', 0x00]).await.unwrap_err();
    assert!(matches!(error, ControlError::Message(MessageError::Encoding(7))), "{error:?}");
}

#[tokio::test]
async fn a_message_cut_short_is_the_streams_error() {
    let bytes = golden_offer();
    let error = read_all::<ToEnclave>(&bytes[..50]).await.unwrap_err();
    assert!(matches!(&error, ControlError::Stream(e) if e.kind() == io::ErrorKind::UnexpectedEof), "{error:?}");
}

#[test]
fn a_public_key_prints_as_wg_prints_it() {
    let text = "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=";
    assert_eq!(PublicKey([0x22; 32]).to_string(), text);
    assert_eq!(format!("{:?}", PublicKey([0x22; 32])), text);
    assert_eq!(text.parse(), Ok(PublicKey([0x22; 32])));
    for wrong in
        ["", &text[1..], "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi==", "!iIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI="]
    {
        assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
    }
}

#[test]
fn an_absent_address_at_the_end_has_no_null() {
    let ToEnclave::Offer(offer) = offer() else { panic!("not an offer") };
    let bytes = message::encode(&ToEnclave::Offer(Offer { ipv6: None, ..offer })).unwrap();
    assert_eq!(bytes[..4], [0x82, 0x00, 0x81, 0x83]);
    let mut with_null = [&bytes[..], &[0xf6]].concat();
    with_null[3] = 0x84;
    let error = message::decode::<ToEnclave>(&with_null).unwrap_err();
    assert!(matches!(error, MessageError::Encoding(_)), "{error:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_are_the_encoding_of_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = message::decode::<ToEnclave>(&bytes) {
            prop_assert_eq!(message::encode(&message).unwrap(), &bytes[..]);
        }
        if let Ok(message) = message::decode::<ToGateway>(&bytes) {
            prop_assert_eq!(message::encode(&message).unwrap(), bytes);
        }
    }

    #[test]
    fn a_preface_is_read_or_refused(bytes in any::<[u8; 8]>()) {
        if let Ok(preface) = crate::preface::Preface::decode(bytes) {
            prop_assert_eq!(preface.encode(), bytes);
        }
    }
}
