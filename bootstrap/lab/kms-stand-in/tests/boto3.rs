//! boto3 as a client over HTTPS; the assertions are in `boto3/client.py`.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use attestation::Pcr;
use attestation::test_root::{Fields, TestRoot};
use kms_stand_in::{Config, Server, StandIn, tls};
use tokio::task::JoinSet;

const ATTESTED: &str = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef";
const OPEN: &str = "arn:aws:kms:eu-central-1:111122223333:key/11111111-89ab-cdef-0123-456789abcdef";
const DISABLED: &str = "arn:aws:kms:eu-central-1:111122223333:key/22222222-89ab-cdef-0123-456789abcdef";
/// Also in `client.py`.
const TESTS: &str = "Ran 17 tests";

/// Every byte of PCR0 is 0x10, as in documents of a test root.
fn attested_policy() -> String {
    let image = "10".repeat(Pcr::LEN);
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Effect": "Allow", "Principal": {{"AWS": "arn:aws:iam::111122223333:role/test"}},
              "Action": ["kms:Encrypt"], "Resource": "*"}},
            {{"Effect": "Allow", "Principal": {{"AWS": "arn:aws:iam::111122223333:role/test"}},
              "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*",
              "Condition": {{"StringEqualsIgnoreCase": {{"kms:RecipientAttestation:ImageSha384": "{image}"}}}}}}
        ]}}"#
    )
}

fn config() -> String {
    let open = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}]}"#;
    let access_key = "[[access_keys]]\nsecret = 'TEST ONLY secret'\nprincipal = 'arn:aws:iam::111122223333:role/test'\n\
                      iam_actions = ['kms:*']\n";
    format!(
        "region = 'eu-central-1'\nfault_path = 'fault.toml'\n\
         {access_key}id = 'AKIATESTONLY'\n\
         {access_key}id = 'ASIASESSION'\nsession_token = 'TEST ONLY token'\n\
         {access_key}id = 'ASIAEXPIRED'\nsession_token = 'TEST ONLY token'\nexpires = '2020-01-01T00:00:00Z'\n\
         [[keys]]\narn = '{ATTESTED}'\npolicy = '''{attested}'''\n\
         [[keys]]\narn = '{OPEN}'\naliases = ['alias/open']\npolicy = '''{open}'''\n\
         [[keys]]\narn = '{DISABLED}'\nstate = 'disabled'\npolicy = '''{open}'''\n",
        attested = attested_policy(),
    )
}

/// Writes the files that `client.py` reads from `KMS_DIR`.
fn write_documents(dir: &Path, root: &TestRoot) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["genrsa", "-out", "recipient.pem", "2048"]);
    openssl(&["pkey", "-in", "recipient.pem", "-pubout", "-outform", "DER", "-out", "recipient.der"]);
    let now = SystemTime::now();
    let fields = Fields {
        public_key: Some(fs::read(dir.join("recipient.der")).unwrap()),
        user_data: Some(Vec::new()),
        nonce: Some(Vec::new()),
        ..Fields::new(now)
    };
    let mut other = fields.clone();
    other.pcrs.insert(0, Pcr([0x20; Pcr::LEN]));
    for (name, document) in [
        ("document.cbor", root.sign(&fields)),
        ("other-image.cbor", root.sign(&other)),
        ("stranger.cbor", TestRoot::new(now).sign(&fields)),
    ] {
        fs::write(dir.join(name), document).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_works_with_the_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = TestRoot::new(SystemTime::now());
    write_documents(dir.path(), &root);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.path().join("ca.pem"), certified.cert.pem()).unwrap();
    let tls = tls::server_config(&certified.cert.pem(), &certified.signing_key.serialize_pem()).unwrap();

    let config = Config::parse(&config(), dir.path()).unwrap();
    let stand_in = StandIn::new(config).unwrap().trusting(root.trust_root());
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, Arc::new(stand_in)).await.unwrap();
    let url = format!("https://localhost:{}", server.address().port());
    let mut servers = JoinSet::new();
    servers.spawn(server.run());

    let output = tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boto3/run.sh"))
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .env("KMS_URL", url)
        .env("KMS_CA_PATH", dir.path().join("ca.pem"))
        .env("KMS_DIR", dir.path())
        .env("KMS_FAULT_PATH", dir.path().join("fault.toml"))
        .env("ATTESTED_KEY", ATTESTED)
        .env("OPEN_KEY", OPEN)
        .env("DISABLED_KEY", DISABLED)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(TESTS), "{}\n{said}", output.status);
}
