//! Servers that are not the right enclave get no request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attestation::Pcr;
use attestation::test_root::TestRoot;
use tokio::net::TcpListener;
use wallet::tls::ClientIdentity;

use super::site::{Site, with};
use crate::enclave::{Authority, Enclave, Identity, SIGNED};
use crate::program::sign_body;
use crate::real_signer::SECRET;

/// A proxy in front of this, whose requests soon give up.
async fn in_front_of(enclave: &Enclave) -> Site {
    let limits = with(|limits| limits.wait = Duration::from_millis(300));
    Site::at(vec![enclave.url_text()], Arc::clone(&enclave.root), None, limits).await
}

/// It is refused with these words, and was asked for documents alone.
async fn refuses(enclave: &Enclave, words: &str) {
    let site = in_front_of(enclave).await;
    let (status, text) = site.ask("POST", "/", &sign_body(0, SECRET)).await;
    assert!(status == 503 && text.contains("no_enclave") && text.contains(words), "{status} {text}");
    assert!(text.contains(&enclave.url_text()), "{text}");
    assert!(site.problem().await.contains(words));
    let asked = enclave.asked();
    assert!(!asked.is_empty() && asked.iter().all(|what| what == "GET /attestation"), "{asked:?}");
}

fn root() -> TestRoot {
    TestRoot::new(SystemTime::now())
}

#[tokio::test]
async fn the_right_enclave_is_asked_after_its_document() {
    let enclave = Enclave::start().await;
    let site = in_front_of(&enclave).await;
    assert_eq!(site.ask("POST", "/", "{}").await, (200, SIGNED.to_owned()));
    for seen in enclave.seen().iter().filter(|seen| seen.what != "GET /attestation") {
        let of_connection = enclave.seen().into_iter().filter(|other| other.connection == seen.connection);
        assert_eq!(of_connection.map(|seen| seen.what).next().unwrap(), "GET /attestation");
    }
}

#[tokio::test]
async fn another_image_is_refused_and_named() {
    let enclave = Enclave::with(root(), |root, mut fields| {
        fields.pcrs.insert(2, Pcr([0x13; Pcr::LEN]));
        root.sign(&fields)
    });
    refuses(&enclave.await, "PCR2 is 1313").await;
}

#[tokio::test]
async fn a_debug_image_is_refused_and_named() {
    let enclave = Enclave::with(root(), |root, mut fields| {
        for index in 0..3 {
            fields.pcrs.insert(index, Pcr([0; Pcr::LEN]));
        }
        root.sign(&fields)
    });
    refuses(&enclave.await, "is zero: the enclave runs in debug mode").await;
}

#[tokio::test]
async fn a_relayed_document_of_another_tls_key_is_refused_and_named() {
    let (own, enclaves) = (Identity::new(), Identity::new());
    let enclave = Enclave::speaking(root(), own.tls(), enclaves.digest(), |root, fields| root.sign(&fields));
    refuses(&enclave.await, "only relays the enclave's documents").await;
}

#[tokio::test]
async fn a_replayed_document_is_refused_and_named() {
    let first = std::sync::OnceLock::new();
    let enclave = Enclave::with(root(), move |root, mut fields| {
        fields.nonce = Some(vec![7; 32]);
        first.get_or_init(|| root.sign(&fields)).clone()
    });
    refuses(&enclave.await, "it is replayed or stale").await;
}

#[tokio::test]
async fn a_server_that_is_down_is_named_and_asked_by_one_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let limits = with(|limits| limits.wait = Duration::from_millis(300));
    // It takes connections, and says nothing on them.
    let site = Site::at(vec![url.clone()], Arc::new(root()), None, limits.clone()).await;
    let _first = listener.accept().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(second.is_err(), "more than one connects");
    drop((listener, site));
    let site = Site::at(vec![url.clone()], Arc::new(root()), None, limits).await;
    let (status, text) = site.ask("GET", "/health", "").await;
    assert!(status == 503 && text.contains(&format!("connect to {url}")), "{status} {text}");
}

#[tokio::test]
async fn an_enclave_whose_image_leaves_the_list_is_dropped_and_one_that_comes_back_is_found() {
    let site = Site::with(1, with(|limits| limits.wait = Duration::from_millis(300))).await;
    site.has(8).await;
    site.allow_only(0x13);
    site.has(0).await;
    assert_eq!(site.count("proxy_connections_ended_total{reason=\"untrusted\"}").await, 8);
    assert!(site.problem().await.contains("PCR2 is 1212"));
    let (status, text) = site.ask("POST", "/", &sign_body(0, SECRET)).await;
    assert!(status == 503 && text.contains("PCR2 is 1212"), "{status} {text}");
    site.allow_only(0x12);
    site.has(8).await;
}

#[tokio::test]
async fn the_clients_certificate_is_shown() {
    let authority = Authority::new();
    let enclave = Enclave::for_clients_of(&authority).await;
    let (certificate, key) = authority.client();
    let identity = ClientIdentity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
    let (urls, root) = (vec![enclave.url_text()], Arc::clone(&enclave.root));
    let site = Site::at(urls, root, Some(identity), with(|_| ())).await;
    assert_eq!(site.ask("POST", "/", "{}").await, (200, SIGNED.to_owned()));
    site.has(8).await;
    let asked = enclave.asked().len();
    let site = in_front_of(&enclave).await;
    let (status, text) = site.ask("POST", "/", "{}").await;
    assert!(status == 503 && text.contains(&enclave.url_text()), "{status} {text}");
    assert_eq!(enclave.asked().len(), asked);
}
