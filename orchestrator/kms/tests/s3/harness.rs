//! S3 on loopback, and those who use it.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, VersioningConfiguration,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use kms::config::{BucketSettings, KmsTable};
use kms::{Bucket, Credentials, DnsFuture, Https, ResolveDns};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

pub(crate) const OWNER: &str = "111122223333";
const REGION: &str = "eu-central-1";
/// The instance's role, and somebody who may do everything. TEST ONLY.
pub(crate) const ROLE: &str = "ASIATESTONLYENCLAVE0";
pub(crate) const ADMINISTRATOR: &str = "AKIATESTONLYADMIN000";
pub(crate) const SECRET: &str = "TEST/ONLY/secret/of/forty/characters/000";

/// The folder of the lab and of AWS's stand-ins. This file is compiled in more than one package.
static BOOTSTRAP: LazyLock<PathBuf> = LazyLock::new(|| {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors().map(|folder| folder.join("bootstrap"));
    folders.find(|folder| folder.is_dir()).expect("the package is in the project")
});

/// Where moto is, which the project fetches once.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let aws = BOOTSTRAP.join("aws");
    let venv = Command::new(aws.join("venv.sh")).arg(aws.join("tests/moto-requirements.txt")).output().unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let folder = String::from_utf8(venv.stdout).unwrap();
    Path::new(folder.lines().last().unwrap()).join("bin/python")
});

/// The server, which ends with the test.
pub(crate) struct S3 {
    server: Child,
    endpoint: String,
    certificate: String,
    dir: TempDir,
}

/// Every name is this host.
#[derive(Clone, Debug)]
struct Loopback;

impl ResolveDns for Loopback {
    fn resolve_dns<'a>(&'a self, _name: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(Ok(vec![Ipv4Addr::LOCALHOST.into()]))
    }
}

impl S3 {
    pub(crate) fn start() -> Self {
        Self::ahead(0)
    }

    /// One whose clock is so many seconds ahead.
    pub(crate) fn ahead(seconds: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("tls.crt"), &certificate).unwrap();
        std::fs::write(path("tls.key"), key.serialize_pem()).unwrap();
        let mut server = Command::new(&*PYTHON)
            .arg(BOOTSTRAP.join("lab/internet/s3.py"))
            .args(["--role-key-id", ROLE, "--account", OWNER, "--region", REGION])
            .args(["--certificate".into(), path("tls.crt"), "--key".into(), path("tls.key")])
            .args(["--faults".into(), path("faults")])
            .args(["--ahead", &seconds.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let endpoint = format!("https://localhost:{}", port.trim_end());
        Self { server, endpoint, certificate, dir }
    }

    /// What the next requests meet, see `s3.py`.
    pub(crate) fn fail(&self, faults: &str) {
        std::fs::write(self.dir.path().join("faults"), faults).unwrap();
    }

    pub(crate) fn bucket(&self, name: &str, owner: &str) -> Bucket {
        self.bucket_in(REGION, name, owner)
    }

    pub(crate) fn bucket_in(&self, region: &str, name: &str, owner: &str) -> Bucket {
        std::fs::write(self.dir.path().join("roots.pem"), &self.certificate).unwrap();
        let key = format!("arn:aws:kms:{region}:{OWNER}:key/1234abcd-12ab-34cd-56ef-1234567890ab");
        let table = format!("key_arn = \"{key}\"\nencryption_context = {{ a = \"b\" }}\nroots_path = \"roots.pem\"");
        let kms = toml::from_str::<KmsTable>(&table).unwrap().check(self.dir.path()).unwrap();
        let settings = BucketSettings::new(name.to_owned(), owner.to_owned(), Some(&self.endpoint), &kms).unwrap();
        Bucket::new(settings, Https::new(&kms.roots, Loopback).unwrap())
    }

    pub(crate) fn credentials(&self, id: &str) -> Credentials {
        Credentials::new(id.to_owned(), SECRET.to_owned(), None).unwrap()
    }

    /// The SDK as anybody uses it.
    pub(crate) fn client(&self, id: &str) -> Client {
        let trust = TrustStore::empty().with_pem_certificate(self.certificate.as_bytes());
        let tls = TlsContext::builder().with_trust_store(trust).build().unwrap();
        let https = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .credentials_provider(SdkCredentials::new(id, SECRET, None, None, "test"))
            .http_client(https.tls_context(tls).build_with_resolver(Loopback));
        Client::from_conf(config.build())
    }

    pub(crate) async fn make_bucket(&self, name: &str, is_locked: bool) {
        let place = BucketLocationConstraint::EuCentral1;
        let place = CreateBucketConfiguration::builder().location_constraint(place).build();
        let asked = self.client(ADMINISTRATOR).create_bucket().bucket(name).create_bucket_configuration(place);
        asked.object_lock_enabled_for_bucket(is_locked).send().await.unwrap();
    }

    pub(crate) async fn enable_versioning(&self, name: &str) {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let asked = self.client(ADMINISTRATOR).put_bucket_versioning().bucket(name).versioning_configuration(enabled);
        asked.send().await.unwrap();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
