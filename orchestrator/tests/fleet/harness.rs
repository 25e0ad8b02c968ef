//! Signers on loopback that keep one ledger: in moto's S3, with the credentials of the instance's role.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use kms::Imds;
use kms::config::ImdsSettings;
use signer::ledger::Store;
use signer::service::{Limits, Service};

use crate::ledger;
use crate::s3::{OWNER, ROLE, S3, SECRET};
use crate::service::{FakeAttestor, FakeKeys, Server, config, serve};

const BUCKET: &str = "example-ledger";

/// What the signers share.
pub(crate) struct Fleet {
    s3: S3,
    imds: SocketAddr,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let s3 = S3::start();
        s3.make_bucket(BUCKET, true).await;
        let fleet = Self { s3, imds: metadata() };
        fleet.store().check().await.expect("the bucket is right");
        fleet
    }

    /// The bucket, as one signer reaches it.
    pub(crate) fn store(&self) -> ledger::S3 {
        let settings = ImdsSettings { endpoint: self.imds, ..ImdsSettings::default() };
        ledger::S3::new(Arc::new(Imds::new(settings)), self.s3.bucket(BUCKET, OWNER))
    }
}

/// A signer of this policy that keeps its ledger there, or keeps none.
pub(crate) async fn signer(policy: &str, is_strict: bool, store: Option<impl Store>) -> Server {
    let ledger =
        format!("[ledger]\nbucket = \"{BUCKET}\"\nowner = \"{OWNER}\"\nretention_years = 1\nstrict = {is_strict}\n");
    let ledger = if store.is_some() { &ledger } else { "" };
    let config = config(&format!("open = true\n[[keys]]\nsecret_id = \"prod/wallet\"\n{policy}{ledger}"));
    let service = Service::with_limits(config, [9; 32], FakeKeys::default(), FakeAttestor, Limits::default()).unwrap();
    if let Some(store) = store {
        service.keep_ledger_in(store);
    }
    serve(service, Arc::default()).await
}

/// The instance metadata service, which knows the role.
fn metadata() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(|stream| answer(stream.unwrap())));
    address
}

fn answer(mut stream: TcpStream) {
    let mut head = BufReader::new(&stream).lines().map(Result::unwrap);
    let asked = head.next().unwrap();
    assert!(head.any(|line| line.is_empty()), "{asked}");
    let body = match asked.split(' ').nth(1).unwrap() {
        "/latest/api/token" => "token".to_owned(),
        "/latest/meta-data/iam/security-credentials/" => "signer".to_owned(),
        "/latest/meta-data/iam/security-credentials/signer" => format!(
            r#"{{"Code": "Success", "AccessKeyId": "{ROLE}", "SecretAccessKey": "{SECRET}", "Token": "{SECRET}", "Expiration": "2999-01-01T00:00:00Z"}}"#
        ),
        other => panic!("{other}"),
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}
