//! The whole way to a plaintext, against stand-ins for AWS's services on this host.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a panic fails the test"
)]

mod certificates;
mod decrypt;
mod imds;
mod role;
mod secrets;
mod server;
mod signature;
mod stand_in;
mod tls;

use std::io;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kms::config::{ImdsSettings, ImdsTable, KmsSettings, KmsTable, SecretsSettings, SecretsTable};
use kms::{Attestor, Client, Credentials, DnsFuture, Https, Plaintext, Recipient, ResolveDns};
use rustls::version::{TLS12, TLS13};
use serde::Deserialize;

use crate::certificates::{Authority, Flaw};
use crate::server::Server;
use crate::stand_in::{DOCUMENT, KEY, KNOWN_ID, KNOWN_SECRET, StandIn};

/// Made once: RSA keys take long.
static RECIPIENT_KEY: LazyLock<Vec<u8>> =
    LazyLock::new(|| include_bytes!("../vectors/published-private-key.pkcs8.der").to_vec());

/// Every name is this host.
#[derive(Clone, Debug)]
struct Loopback;

impl ResolveDns for Loopback {
    fn resolve_dns<'a>(&'a self, _name: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(Ok(vec![Ipv4Addr::LOCALHOST.into()]))
    }
}

/// Numbers its documents, so that a test sees whether one was used twice.
#[derive(Default)]
struct TestAttestor {
    count: AtomicU8,
    is_broken: bool,
}

impl Attestor for TestAttestor {
    async fn document(&self, public_key: &[u8]) -> io::Result<Vec<u8>> {
        if self.is_broken {
            return Err(io::Error::other("no /dev/nsm"));
        }
        Ok([DOCUMENT, &[self.count.fetch_add(1, Ordering::Relaxed)], public_key].concat())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kms: KmsTable,
    #[serde(default)]
    secrets: SecretsTable,
    #[serde(default)]
    imds: ImdsTable,
}

/// Settings as a configuration file says them; without `times`, those of a busy test host.
fn settings(endpoint: &str, roots_pem: &str, times: &str) -> (KmsSettings, SecretsSettings, ImdsSettings) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("roots.pem"), roots_pem).unwrap();
    let times = if times.is_empty() { "deadline = \"60s\"\nattempt_timeout = \"20s\"" } else { times };
    let text = format!(
        "[kms]\nkey_arn = \"{KEY}\"\nencryption_context = {{ purpose = \"test\" }}\nendpoint = \"{endpoint}\"\n\
         roots_path = \"roots.pem\"\n{times}\n[secrets]\nendpoint = \"{endpoint}\"\n[imds]\nendpoint = \"{}\"\n{times}\n",
        endpoint.replace("https://localhost", "http://127.0.0.1"),
    );
    let file: File = toml::from_str(&text).unwrap();
    let kms = file.kms.check(dir.path()).unwrap();
    let secrets = file.secrets.check(&kms).unwrap();
    (kms, secrets, file.imds.check().unwrap())
}

/// A stand-in behind TLS, and its settings.
async fn aws(stand_in: &StandIn, times: &str) -> (Server, KmsSettings, SecretsSettings) {
    let authority = Authority::new();
    let tls = authority.server(Flaw::None, &[&TLS13, &TLS12]);
    let stand_in = stand_in.clone();
    let server = Server::start(Some(tls), move |request| stand_in.answer(request)).await;
    let (kms, secrets, _) = settings(&server.https(), &authority.pem, times);
    (server, kms, secrets)
}

fn client(settings: KmsSettings) -> Client<TestAttestor> {
    let https = Https::new(&settings.roots, Loopback).unwrap();
    Client::new(settings, https, Recipient::from_pkcs8(&RECIPIENT_KEY).unwrap(), TestAttestor::default())
}

fn credentials() -> Credentials {
    credentials_of(KNOWN_ID, KNOWN_SECRET, "example+session+token")
}

fn credentials_of(id: &str, secret: &str, token: &str) -> Credentials {
    Credentials::new(id.to_owned(), secret.to_owned(), Some(token.to_owned())).unwrap()
}

fn secret(text: &str) -> Plaintext {
    Plaintext::new(text.as_bytes().to_vec().into())
}
