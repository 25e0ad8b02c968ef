use super::*;

fn golden_offer() -> (Offer, Vec<u8>) {
    let offer = Offer {
        nonce: [0x11; 32],
        public_key: PublicKey([0x22; 32]),
        ipv4: Some(Ipv4Addr::new(203, 0, 113, 2)),
        ipv6: None,
    };
    let mut bytes = vec![1, 1];
    bytes.extend([0x11; 32]);
    bytes.extend([0x22; 32]);
    bytes.extend([203, 0, 113, 2]);
    bytes.extend([0; 16]);
    (offer, bytes)
}

fn answer(document: Vec<u8>) -> ToRelay {
    let (public_key, kem_key) = (PublicKey([0x33; 32]), KemKey([0x44; 1184]));
    ToRelay::Answer(Box::new(Answer { public_key, kem_key, document }))
}

#[test]
fn an_offer_has_these_bytes_and_back() {
    let (offer, bytes) = golden_offer();
    assert_eq!(bytes.len(), 86);
    assert_eq!(ToInit::Offer(offer.clone()).encode(), bytes);
    assert_eq!(ToInit::decode(&bytes), Ok(ToInit::Offer(offer)));
}

#[test]
fn an_answer_has_these_bytes_and_back() {
    let answer = answer(vec![0xd2, 0x84]);
    let mut bytes = vec![1];
    bytes.extend([0x33; 32]);
    bytes.extend([0x44; 1184]);
    bytes.extend([0, 2, 0xd2, 0x84]);
    assert_eq!(answer.encode(), bytes);
    assert_eq!(ToRelay::decode(&bytes), Ok(answer));
    assert_eq!(ToRelay::decode(&[2]), Ok(ToRelay::Rejected));
}

#[test]
fn every_short_message_survives_the_way() {
    for (byte, message) in [
        (3, ToInit::Refused),
        (4, ToInit::Stream(Stream::Data, State::Up)),
        (5, ToInit::Stream(Stream::Data, State::Down)),
        (6, ToInit::Stream(Stream::Control, State::Up)),
        (7, ToInit::Stream(Stream::Control, State::Down)),
    ] {
        assert_eq!(message.encode(), [byte]);
        assert_eq!(ToInit::decode(&[byte]), Ok(message));
    }
}

#[test]
fn an_acceptance_has_these_bytes_and_back() {
    let accepted = ToInit::Accepted(KemCiphertext([0x66; 1088]));
    let mut bytes = vec![2];
    bytes.extend([0x66; 1088]);
    assert_eq!(accepted.encode(), bytes);
    assert_eq!(ToInit::decode(&bytes), Ok(accepted));
    assert!(ToInit::decode(&bytes[..1088]).is_err());
    bytes.push(0);
    assert!(ToInit::decode(&bytes).is_err());
}

#[test]
fn what_the_signer_says_and_is_told_has_these_bytes_and_back() {
    let ready = FromSigner { tls_key: [0x77; 32] };
    assert_eq!(ready.encode(), [0x77; 32]);
    assert_eq!(FromSigner::decode(&[0x77; 32]), Ok(ready));
    assert_eq!(ToSigner::Serve.encode(), [1]);
    assert_eq!(ToSigner::decode(&[1]), Ok(ToSigner::Serve));
    for bytes in [&[][..], &[0], &[2], &[1, 1], &[0x77; 31], &[0x77; 33]] {
        assert!(FromSigner::decode(bytes).is_err() && ToSigner::decode(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn anything_else_is_malformed() {
    let (_, good) = golden_offer();
    let long = [&good[..], &[0]].concat();
    let mut flags = good.clone();
    flags[1] = 4;
    for bytes in [&[][..], &[0], &[8], &[255], &[2], &[3, 0], &good[..85], &long, &flags] {
        assert!(ToInit::decode(bytes).is_err(), "{bytes:?}");
    }
    let mut short_document = vec![1; 1217];
    short_document.extend([0, 2, 0]);
    for bytes in [&[][..], &[0], &[3], &[2, 2], &[1; 1218], &short_document] {
        assert!(ToRelay::decode(bytes).is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn messages_arrive_whole_and_in_order_and_then_the_end() {
    let (a, b) = pair().unwrap();
    let (a, b) = (Link::new(a).unwrap(), Link::new(b).unwrap());
    let (offer, _) = golden_offer();
    a.send(&ToInit::Offer(offer.clone())).await.unwrap();
    a.send(&ToInit::Refused).await.unwrap();
    drop(a);
    assert_eq!(b.receive().await.unwrap(), Some(ToInit::Offer(offer)));
    assert_eq!(b.receive().await.unwrap(), Some(ToInit::Refused));
    assert_eq!(b.receive::<ToInit>().await.unwrap(), None);
}

#[tokio::test]
async fn a_message_longer_than_the_longest_is_refused_not_cut() {
    let (a, b) = pair().unwrap();
    let b = Link::new(b).unwrap();
    let longest = answer(vec![4; 0x3000]);
    let mut long = longest.encode();
    assert_eq!(long.len(), MAX_LEN);
    long.push(0);
    for bytes in [&long, &longest.encode()] {
        send(a.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
    }
    assert!(b.receive::<ToRelay>().await.unwrap_err().to_string().contains("breaks the layout"));
    assert_eq!(b.receive().await.unwrap(), Some(longest));
}
