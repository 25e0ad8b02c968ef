//! AWS in the lab's internet: KMS is the stand-in of this project; Secrets Manager, STS, S3 and the instance's metadata are moto's.
//!
//! | address         | port | names                                                                           |
//! |-----------------|------|---------------------------------------------------------------------------------|
//! | 198.51.100.90   | 443  | kms.eu-central-1.amazonaws.com                                                  |
//! | 198.51.100.91   | 443  | secretsmanager, sts, s3 and *.s3 .eu-central-1.amazonaws.com                    |
//! | 169.254.169.254 | 80   | none: the instance metadata service, version 2                                  |
//!
//! On EC2 the hypervisor answers at 169.254.169.254, and the answer to a request for a token travels as many hops as the instance's
//! `HttpPutResponseHopLimit` says. An enclave is one hop behind its parent, so 1, a frequent default, leaves it without
//! credentials; 2 is right. Here the answers travel two hops, and no more.

use crate::paths::{AWS, INTERNET_DIR, KMS, KMS_CONFIG_PATH};
use crate::units::{Unit, in_internet};

/// The stand-in.
pub const KMS_SERVICE: &str = "internet-kms";
/// moto.
pub const AWS_SERVICE: &str = "internet-aws";
/// Where the stand-in listens.
const KMS_ADDRESS: &str = "198.51.100.90";
/// The role of the parent's instance, for which the metadata service has credentials.
pub const ENCLAVE_ROLE: &str = "arn:aws:iam::111122223333:role/default-role";
/// The role of who manages keys.
pub const WALLET_ROLE: &str = "arn:aws:iam::111122223333:role/wallet";

const METADATA_ADDRESS: &str = "169.254.169.254";

/// Where the servers' certificates and private keys are: `NAME.crt` and `NAME.key` in the lab's internet.
pub const SERVERS: [Server; 2] = [
    Server { file_stem: "kms", address: KMS_ADDRESS, names: &["kms.eu-central-1.amazonaws.com"] },
    Server {
        file_stem: "aws",
        address: "198.51.100.91",
        names: &[
            "secretsmanager.eu-central-1.amazonaws.com",
            "sts.eu-central-1.amazonaws.com",
            "s3.eu-central-1.amazonaws.com",
            "*.s3.eu-central-1.amazonaws.com",
        ],
    },
];

/// One that speaks HTTPS.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    file_stem: &'static str,
    /// Where it listens, on port 443.
    pub address: &'static str,
    /// What it is called; the first is the one that a signer asks.
    pub names: &'static [&'static str],
}

impl Server {
    /// Its certificate, in PEM.
    pub fn certificate_path(&self) -> String {
        format!("{INTERNET_DIR}/{}.crt", self.file_stem)
    }

    /// Its private key, in PEM.
    pub fn key_path(&self) -> String {
        format!("{INTERNET_DIR}/{}.key", self.file_stem)
    }
}

pub(super) fn units() -> [Unit; 2] {
    let [_, aws] = SERVERS;
    let (certificate, key) = (aws.certificate_path(), aws.key_path());
    let moto = format!(
        "/usr/bin/python3 {AWS} --https {} --certificate {certificate} --key {key} --metadata {METADATA_ADDRESS} \
         --kms-config {KMS_CONFIG_PATH} --role {ENCLAVE_ROLE}",
        aws.address
    );
    // It loads for seconds, which the tunnels need not wait for.
    let moto = Unit {
        is_enabled: false,
        ..in_internet(AWS_SERVICE, &moto, "Environment=PYTHONPATH=/opt/python/moto\nNice=10\n")
    };
    [in_internet(KMS_SERVICE, &format!("{KMS} run --config {KMS_CONFIG_PATH}"), ""), moto]
}
