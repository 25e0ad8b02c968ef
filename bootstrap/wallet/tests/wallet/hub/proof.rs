//! Callers that are not the right enclave, on this connection, now.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::Pcr;
use attestation::test_root::{Fields, TestRoot};
use binding::signer;
use home::ALPN;
use home::message::Message;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use rustls::server::ServerConfig;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wallet::hub::Limits;
use wallet::tls::HubIdentity;

use super::site::{Authority, Site, closed, impatience, with};
use crate::real_signer::SECRET;

#[tokio::test]
async fn the_right_document_is_accepted() {
    let site = Site::start().await;
    let mut call = site.call().await;
    let document = site.root.sign(&call.fields());
    assert_eq!(call.send(document).await, Message::Accepted);
}

/// Has a certificate that the enclave trusts, and passes on every byte between its two connections.
async fn proxy(site: &Site, identity: &Authority) -> (std::net::SocketAddr, JoinSet<()>) {
    let [certificate, key] = identity.issue(site.dir.path(), "proxy");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, hub) = (listener.local_addr().unwrap(), site.calls);
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            rustls::pki_types::pem::PemObject::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect(),
            rustls::pki_types::pem::PemObject::from_pem_file(key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let (acceptor, client) = (TlsAcceptor::from(Arc::new(config)), Arc::new(site.authority.client(&[&TLS13])));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut enclave) = acceptor.accept(stream).await else { continue };
            let stream = TcpStream::connect(hub).await.unwrap();
            let name = ServerName::IpAddress(hub.ip().into());
            let mut hub = TlsConnector::from(Arc::clone(&client)).connect(name, stream).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut enclave, &mut hub).await);
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_proxy_in_the_middle_gets_nothing_although_the_enclave_trusts_its_certificate() {
    let site = Site::with(with(|limits| limits.wait = Duration::from_millis(300))).await;
    let (address, _proxy) = proxy(&site, &site.authority).await;
    let _enclave = site.enclave_at(address, 1, |_| ());
    site.counts("hub_proofs_total{outcome=\"refused\"} 2").await;
    assert_eq!(site.sign(0, SECRET).await.0, 503);
    assert!(site.metrics().await.contains("hub_proofs_total{outcome=\"accepted\"} 0\n"));
}

#[tokio::test]
async fn a_document_of_another_session_is_refused_although_its_nonce_is_right() {
    let site = Site::start().await;
    let (call, other) = (site.call().await, site.call().await);
    // What the other server's session exports for this very nonce.
    let exporter = home::exporter(other.stream.get_ref().1, &call.nonce).unwrap();
    assert_ne!(exporter, call.exporter);
    let user_data = binding::home::Binding { exporter, config: [9; 32] }.encode().to_vec();
    let document = site.root.sign(&Fields { user_data: Some(user_data), ..call.fields() });
    let reason = call.refused(document).await;
    assert!(reason.contains("binds TLS exporter") && reason.contains("only relays"), "{reason}");
}

#[tokio::test]
async fn a_replayed_document_is_refused() {
    let site = Site::start().await;
    let mut first = site.call().await;
    let recorded = site.root.sign(&first.fields());
    assert_eq!(first.send(recorded.clone()).await, Message::Accepted);
    let reason = site.call().await.refused(recorded).await;
    assert!(reason.contains("it is replayed or stale"), "{reason}");
    // Also with the right exporter: the nonce is checked by itself.
    let call = site.call().await;
    let document = site.root.sign(&Fields { nonce: Some(first.nonce.to_vec()), ..call.fields() });
    let reason = call.refused(document).await;
    assert!(reason.contains("it is replayed or stale"), "{reason}");
}

#[tokio::test]
async fn a_document_without_a_nonce_or_a_binding_is_refused() {
    let site = Site::start().await;
    let call = site.call().await;
    let document = site.root.sign(&Fields { nonce: None, ..call.fields() });
    assert!(call.refused(document).await.contains("nonce none"));
    let call = site.call().await;
    let document = site.root.sign(&Fields { user_data: None, ..call.fields() });
    assert!(call.refused(document).await.contains("a binding of 0 bytes, expected 96"));
}

#[tokio::test]
async fn a_document_that_the_signer_made_for_a_client_is_refused() {
    let site = Site::start().await;
    let call = site.call().await;
    let user_data = signer::Binding { tls_key: call.exporter, config: [9; 32] }.encode().to_vec();
    let document = site.root.sign(&Fields { user_data: Some(user_data), ..call.fields() });
    let reason = call.refused(document).await;
    assert!(reason.contains("a document that does not bind a connection to a hub"), "{reason}");
}

#[tokio::test]
async fn a_debug_image_and_another_image_are_refused() {
    let site = Site::start().await;
    for (pcr, byte, expected) in [
        (0, 0, "PCR0 is zero: the enclave runs in debug mode, which is never allowed"),
        (2, 0, "PCR2 is zero: the enclave runs in debug mode, which is never allowed"),
        (2, 0x13, "(right.json): same release (PCR1), another configuration"),
    ] {
        let call = site.call().await;
        let mut fields = call.fields();
        fields.pcrs.insert(pcr, Pcr([byte; Pcr::LEN]));
        let reason = call.refused(site.root.sign(&fields)).await;
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_document_that_another_root_signed_is_refused() {
    let site = Site::start().await;
    let call = site.call().await;
    let document = TestRoot::new(SystemTime::now()).sign(&call.fields());
    let reason = call.refused(document).await;
    assert!(reason.starts_with("the attestation document: "), "{reason}");
    let reason = site.call().await.refused(b"not a document".to_vec()).await;
    assert!(reason.starts_with("the attestation document: "), "{reason}");
}

#[tokio::test]
async fn only_tls_1_3_with_this_protocol_is_spoken() {
    let site = Site::start().await;
    assert!(site.shake_hands(site.authority.client(&[&TLS12])).await.is_err());
    let mut web = site.authority.client(&[&TLS13]);
    web.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(site.shake_hands(web).await.is_err());
    let mut none = site.authority.client(&[&TLS13]);
    none.alpn_protocols.clear();
    closed(site.shake_hands(none).await.unwrap()).await;
    site.counts("hub_proofs_total{outcome=\"handshake\"} 3").await;
}

#[tokio::test]
async fn a_caller_that_would_resume_gets_no_ticket_and_a_full_handshake() {
    let site = Site::start().await;
    // One client, with rustls's store of sessions.
    let client = site.authority.client(&[&TLS13]);
    for _ in 0..2 {
        let mut stream = site.shake_hands(client.clone()).await.unwrap();
        home::exchange::receive(&mut stream, &[home::message::Kind::Nonce], "a nonce").await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn callers_that_say_nothing_or_nonsense_or_too_much_are_closed() {
    let site = Site::with(impatience()).await;
    closed(TcpStream::connect(site.calls).await.unwrap()).await;
    closed(site.call().await.stream).await;
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![2, 0, 0xff, 0xff], vec![3, 0, 0, 0], vec![0; 4 << 20]] {
        let mut stream = site.call().await.stream;
        // A caller that is closed cannot send all of it.
        drop(stream.write_all(&bytes).await);
        closed(stream).await;
    }
    site.counts("hub_proofs_total{outcome=\"refused\"} 5").await;
    site.counts("hub_proofs_total{outcome=\"handshake\"} 1").await;
}

#[tokio::test]
async fn a_crowd_of_silent_callers_keeps_no_enclave_out() {
    let patient = Duration::from_mins(5);
    let site = Site::with(Limits { handshake: patient, document: patient, ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(site.calls).await.unwrap());
    }
    site.counts("hub_proofs_total{outcome=\"displaced\"} 172").await;
    let _enclave = site.enclave();
    assert_eq!(site.sign(0, SECRET).await.0, 200);
    // The oldest have made room.
    for silent in crowd.drain(..172) {
        closed(silent).await;
    }
}

#[tokio::test]
async fn an_enclave_that_would_be_too_many_is_closed_and_the_others_stay() {
    let site = Site::with(Limits { proven: 2, ..Limits::default() }).await;
    let _enclave = site.enclave_at(site.calls, 2, |_| ());
    site.has(2).await;
    closed(site.shake_hands(site.authority.client(&[&TLS13])).await.unwrap()).await;
    site.counts("hub_proofs_total{outcome=\"displaced\"} 1").await;
    assert_eq!(site.sign(0, SECRET).await.0, 200);
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_the_next_caller() {
    let site = Site::start().await;
    let shown = async || {
        let stream = site.shake_hands(site.authority.client(&[&TLS13])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap().to_vec()
    };
    let before = shown().await;
    let identity: HubIdentity = site.authority.identity(site.dir.path(), "next");
    site.identity.send_replace(identity);
    assert_ne!(shown().await, before);
}
