//! AWS in the lab's internet: this project's stand-in for KMS, and moto for Secrets Manager, STS, S3 and the
//! instance's metadata.
//!
//! | address         | port | names                                                                           |
//! |-----------------|------|---------------------------------------------------------------------------------|
//! | 198.51.100.90   | 443  | kms.eu-central-1.amazonaws.com                                                  |
//! | 198.51.100.91   | 443  | secretsmanager, sts, s3 and *.s3 .eu-central-1.amazonaws.com                    |
//! | 169.254.169.254 | 80   | none: the instance metadata service, version 2                                  |
//!
//! On EC2 the hypervisor answers at 169.254.169.254. Its answer to a request for a token has a TTL of the instance's
//! `HttpPutResponseHopLimit`. An enclave is one hop behind its parent, so it gets no credentials with a limit of 1, a
//! frequent default. Here all answers have a TTL of 2.

use crate::paths::{AWS, INTERNET_DIR, KMS, KMS_CONFIG_PATH, S3_FAULT_PATH};
use crate::units::{Unit, in_internet};

/// The service of the stand-in for KMS.
pub const KMS_SERVICE: &str = "internet-kms";
/// The service of moto.
pub const AWS_SERVICE: &str = "internet-aws";
/// The address of the stand-in for KMS.
const KMS_ADDRESS: &str = "198.51.100.90";
/// The role of the parent instance. The metadata service has credentials for it.
pub const ENCLAVE_ROLE: &str = "arn:aws:iam::111122223333:role/default-role";
/// The role that encrypts keys.
pub const WALLET_ROLE: &str = "arn:aws:iam::111122223333:role/wallet";

const METADATA_ADDRESS: &str = "169.254.169.254";

/// The HTTPS servers.
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

/// An HTTPS server.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub(super) file_stem: &'static str,
    /// Its address; the port is 443.
    pub address: &'static str,
    /// Its names; the signer uses the first.
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
         --kms-config {KMS_CONFIG_PATH} --role {ENCLAVE_ROLE} --s3-faults {S3_FAULT_PATH}",
        aws.address
    );
    // Not at boot: it takes seconds to load, and the tunnels do not need it.
    let moto = Unit {
        is_enabled: false,
        ..in_internet(AWS_SERVICE, &moto, "Environment=PYTHONPATH=/opt/python/moto\nNice=10\n")
    };
    [in_internet(KMS_SERVICE, &format!("{KMS} run --config {KMS_CONFIG_PATH}"), ""), moto]
}
