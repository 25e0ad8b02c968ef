//! Who gets a request, and who gets nothing but a question for a document.

use std::time::{Duration, Instant, SystemTime};

use attestation::test_root::{Fields, TestRoot};
use attestation::{Pcr, TrustRoot};
use serde_json::json;
use wallet::enclave::{Enclave as Client, EnclaveError};
use wallet::tls::ClientIdentity;
use wallet::trust::Trust;
use zeroize::Zeroizing;

use crate::command::Host;
use crate::enclave::{Authority, Enclave, Identity, SIGNED, trust};
use crate::server::{Server, answer};

fn request() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(br#"{"transaction_payload": {}, "secret_id": "hot-wallet"}"#.to_vec())
}

async fn ask(enclave: &Enclave, trust: &Trust) -> Result<String, EnclaveError> {
    let mut client = Client::connect(&enclave.url(), None, trust).await?;
    Ok(String::from_utf8(client.sign(request()).await?.to_vec()).unwrap())
}

fn text(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

/// Asserts that nothing but the question for a document reached the server.
async fn refused_by(enclave: &Enclave, trust: &Trust) -> String {
    let error = ask(enclave, trust).await.unwrap_err();
    assert!(matches!(error, EnclaveError::Untrusted { .. }), "{error:?}");
    assert_eq!(enclave.asked(), ["GET /attestation"]);
    text(error)
}

async fn refused(document: impl Fn(&TestRoot, Fields) -> Vec<u8> + Send + Sync + 'static) -> String {
    let enclave = Enclave::with(TestRoot::new(SystemTime::now()), document).await;
    refused_by(&enclave, &enclave.trust()).await
}

#[tokio::test]
async fn the_right_enclave_signs_on_the_connection_that_its_document_binds() {
    let enclave = Enclave::start().await;
    assert_eq!(ask(&enclave, &enclave.trust()).await.unwrap(), SIGNED);
    assert_eq!(enclave.asked(), ["GET /attestation", "POST /"]);
    assert!(enclave.seen().iter().all(|seen| seen.connection == 0), "one connection for both");
    assert_eq!(enclave.seen()[1].body.as_bytes(), request().as_slice());
}

#[tokio::test]
async fn an_enclave_that_is_busy_is_asked_again_when_it_says() {
    let (enclave, start) = (Enclave::busy(1, "1").await, Instant::now());
    assert_eq!(ask(&enclave, &enclave.trust()).await.unwrap(), SIGNED);
    assert_eq!(enclave.asked(), ["GET /attestation", "GET /attestation", "POST /", "POST /"]);
    assert!(enclave.seen().iter().all(|seen| seen.connection == 0), "on the connection that is the enclave's");
    assert_eq!(enclave.seen()[3].body.as_bytes(), request().as_slice(), "the request is whole again");
    assert!((2..10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_enclave_that_is_busy_for_long_is_not_waited_for() {
    let (enclave, start) = (Enclave::busy(1, "60").await, Instant::now());
    let error = ask(&enclave, &enclave.trust()).await.unwrap_err();
    assert!(matches!(error, EnclaveError::Refused { status: 429, .. }), "{error:?}");
    assert_eq!(enclave.asked(), ["GET /attestation"]);
    assert!(start.elapsed().as_secs() < 10);
}

#[tokio::test]
async fn an_enclave_with_another_configuration_gets_nothing() {
    let error = refused(|root, mut fields| {
        fields.pcrs.insert(2, Pcr([0xee; Pcr::LEN]));
        root.sign(&fields)
    });
    let error = error.await;
    assert!(error.contains("failed attestation, and no request was sent: PCR2 is eeee"), "{error}");
    assert!(error.contains("expected 1212") && error.contains("(right.json)"), "{error}");
}

#[tokio::test]
async fn a_document_for_another_nonce_is_replayed_or_stale() {
    let error = refused(|root, fields| root.sign(&Fields { nonce: Some(vec![7; 32]), ..fields })).await;
    assert!(error.contains("has nonce 0707") && error.contains("replayed or stale"), "{error}");
    let error = refused(|root, fields| root.sign(&Fields { nonce: None, ..fields })).await;
    assert!(error.contains("has nonce none"), "{error}");
}

#[tokio::test]
async fn each_connection_asks_with_another_nonce() {
    let (sender, nonces) = std::sync::mpsc::sync_channel(2);
    let enclave = Enclave::with(TestRoot::new(SystemTime::now()), move |root, fields| {
        sender.send(fields.nonce.clone().unwrap()).unwrap();
        root.sign(&fields)
    });
    let enclave = enclave.await;
    for _ in 0..2 {
        ask(&enclave, &enclave.trust()).await.unwrap();
    }
    let [one, other] = [(); 2].map(|()| nonces.recv().unwrap());
    assert_eq!((one.len(), other.len()), (32, 32));
    assert_ne!(one, other);
}

#[tokio::test]
async fn a_man_in_the_middle_who_relays_the_genuine_document_gets_nothing() {
    let genuine = Identity::new();
    let middle = Identity::new();
    let root = TestRoot::new(SystemTime::now());
    let relay = |root: &TestRoot, fields: Fields| root.sign(&fields);
    let enclave = Enclave::speaking(root, middle.tls(), genuine.digest(), relay).await;
    let error = refused_by(&enclave, &enclave.trust()).await;
    assert!(error.contains("its other end only relays the enclave's documents"), "{error}");
}

#[tokio::test]
async fn the_enclaves_certificate_without_its_key_does_not_shake_hands() {
    let genuine = Identity::new();
    let middle = Identity::new();
    let root = TestRoot::new(SystemTime::now());
    let relay = |root: &TestRoot, fields: Fields| root.sign(&fields);
    let enclave = Enclave::speaking(root, middle.tls_as(&genuine), genuine.digest(), relay).await;
    let error = ask(&enclave, &enclave.trust()).await.unwrap_err();
    assert!(matches!(error, EnclaveError::Handshake { .. }), "{error:?}");
    assert_eq!(enclave.asked(), [""; 0]);
}

#[tokio::test]
async fn a_document_that_binds_no_tls_key_is_refused() {
    let error = refused(|root, fields| root.sign(&Fields { user_data: None, ..fields })).await;
    assert!(error.ends_with("user_data: a binding of 0 bytes, expected 96"), "{error}");
    let error = refused(|root, fields| root.sign(&Fields { user_data: Some(vec![1; 96]), ..fields })).await;
    assert!(error.ends_with("user_data: a document that does not bind the signer's TLS key"), "{error}");
}

#[tokio::test]
async fn an_expired_document_is_refused() {
    let root = TestRoot::new(SystemTime::now() - Duration::from_hours(4));
    let enclave = Enclave::with(root, |root, fields| {
        root.sign(&Fields { timestamp: SystemTime::now() - Duration::from_hours(4), ..fields })
    });
    let enclave = enclave.await;
    let error = refused_by(&enclave, &enclave.trust()).await;
    assert!(error.contains("expired at"), "{error}");
}

#[tokio::test]
async fn a_labs_document_is_refused_unless_its_root_is_configured() {
    let enclave = Enclave::start().await;
    let error = refused_by(&enclave, &trust(TrustRoot::aws())).await;
    assert!(error.contains("cabundle[0] is not the trusted root, which is AWS's root"), "{error}");
}

#[tokio::test]
async fn an_enclave_in_debug_mode_is_refused() {
    let error = refused(|root, mut fields| {
        for index in 0..3 {
            fields.pcrs.insert(index, Pcr([0; Pcr::LEN]));
        }
        root.sign(&fields)
    });
    let error = error.await;
    assert!(error.contains("PCR0 is zero: the enclave runs in debug mode"), "{error}");
}

#[tokio::test]
async fn a_document_that_was_changed_is_refused() {
    let error = refused(|root, fields| {
        let mut document = root.sign(&fields);
        *document.last_mut().unwrap() ^= 1;
        document
    });
    let error = error.await;
    assert!(error.contains("the signature does not verify with the document's certificate"), "{error}");
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let identity = Identity::new();
    let root = TestRoot::new(SystemTime::now());
    let enclave = Enclave::speaking(root, identity.tls12(), identity.digest(), |root, fields| root.sign(&fields)).await;
    let error = ask(&enclave, &enclave.trust()).await.unwrap_err();
    assert!(matches!(error, EnclaveError::Handshake { .. }), "{error:?}");
    assert!(text(error).contains("expected TLS 1.3"));
    assert_eq!(enclave.asked(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_document_is_named() {
    let enclave = Enclave::with(TestRoot::new(SystemTime::now()), |_, _| Vec::new()).await;
    let error = text(ask(&enclave, &enclave.trust()).await.unwrap_err());
    assert!(error.contains("no attestation document: no input; expected"), "{error}");
    assert_eq!(enclave.asked(), ["GET /attestation"]);
    let enclave = Enclave::with(TestRoot::new(SystemTime::now()), |_, _| vec![0; 40 << 10]).await;
    let error = ask(&enclave, &enclave.trust()).await.unwrap_err();
    assert!(text(error).ends_with("an answer of more than 32768 bytes"));
    assert_eq!(enclave.asked(), ["GET /attestation"]);
}

#[tokio::test]
async fn a_refusal_of_the_signer_is_shown_on_one_printable_line() {
    let enclave = Enclave::start().await;
    let mut client = Client::connect(&enclave.url(), None, &enclave.trust()).await.unwrap();
    let error = client.sign(Zeroizing::new(br#"{"forbidden": 1}"#.to_vec())).await.unwrap_err();
    let expected =
        format!("{} refuses / with HTTP 422: policy_refused: KMS's \"much\"\\u{{1b}}[31m (field value)", enclave.url());
    assert_eq!(text(error), expected);
}

#[tokio::test]
async fn whoever_shows_no_certificate_where_one_is_expected_is_told_which_options_to_give() {
    let refusal = json!({ "error": { "code": "forbidden", "message": "no client certificate" } });
    let server = Server::start(Some(Identity::new().tls()), move |_request| answer(403, &refusal)).await;
    let (url, host) = (format!("https://localhost:{}", server.address.port()), Host::new());
    host.write("request.json", "{}");
    for words in [&["verify"][..], &["sign", "request.json"]] {
        let said = host.wallet(&[words, &["--url", &url, "--measurements", "right.json"]].concat()).await;
        let expected = "expects a client certificate: give --client-certificate and --client-key: ";
        assert!(said.error().contains(expected) && said.error().ends_with("no client certificate"), "{said:?}");
    }
}

#[tokio::test]
async fn an_enclave_that_asks_who_is_there_is_shown_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.client();
    let path = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let certificate = path("client.pem", certificate);
    let other_key = path("other.key", authority.client().1);
    let key = path("client.key", key);

    let enclave = Enclave::for_clients_of(&authority).await;
    let client = ClientIdentity::load(&certificate, &key).unwrap();
    let mut client = Client::connect(&enclave.url(), Some(&client), &enclave.trust()).await.unwrap();
    client.sign(request()).await.unwrap();
    let nobody = ask(&enclave, &enclave.trust()).await.unwrap_err();
    assert!(text(nobody).contains("CertificateRequired"));

    let error = text(ClientIdentity::load(&certificate, &other_key).unwrap_err());
    assert!(error.contains(&format!("{} is not the key of {}", other_key.display(), certificate.display())), "{error}");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = text(ClientIdentity::load(&certificate, &key).unwrap_err());
    assert!(error.contains("mode 0644 lets others use it, expected 0600"), "{error}");
}
