//! An image's PCRs, as the hypervisor will measure them, and the hashes of its inputs.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256, Sha384};

/// A PCR starts as 48 zero bytes and is extended once: SHA-384(zeros, SHA-384(data)).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct Pcrs {
    /// Kernel, command line and all ramdisks.
    pub(crate) pcr0: String,
    /// Kernel, command line and first ramdisk: the release.
    pub(crate) pcr1: String,
    /// The other ramdisks: the deployment.
    pub(crate) pcr2: String,
}

impl Pcrs {
    pub(crate) fn of(kernel: &[u8], command_line: &[u8], ramdisks: &[&[u8]]) -> Self {
        let (first, others) = ramdisks.split_at(ramdisks.len().min(1));
        let release = [&[kernel, command_line], first].concat();
        Self {
            pcr0: extended_once(&[&release, others].concat()),
            pcr1: extended_once(&release),
            pcr2: extended_once(others),
        }
    }
}

/// PCR8 of an image signed with this certificate, in DER.
pub(crate) fn pcr8(certificate: &[u8]) -> String {
    extended_once(&[certificate])
}

fn extended_once(parts: &[&[u8]]) -> String {
    let mut data = Sha384::new();
    for part in parts {
        data.update(part);
    }
    let pcr = Sha384::new().chain_update([0; 48]).chain_update(data.finalize());
    const_hex::encode(pcr.finalize())
}

/// `measurements.json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measurements {
    pub(crate) hash_algorithm: &'static str,
    #[serde(flatten)]
    pub(crate) pcrs: Pcrs,
    pub(crate) sha256: Sha256Sums,
    pub(crate) tool: Tool,
}

/// SHA-256, in hex, of each input and output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sha256Sums {
    pub(crate) eif: String,
    pub(crate) kernel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_config: Option<String>,
    pub(crate) init: String,
    pub(crate) command_line: String,
    /// By the name of the file under /config.
    pub(crate) config: BTreeMap<String, String>,
    /// As stored in the image.
    pub(crate) ramdisks: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    const_hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pcrs_equal_those_computed_with_coreutils() {
        // { head -c 48 /dev/zero; printf %s "$data" | sha384sum | xxd -r -p; } | sha384sum
        let pcrs = Pcrs::of(b"kernel", b"cmdline", &[b"first", b"second"]);
        assert_eq!(
            pcrs.pcr0,
            "e8338776c6c367d158d90cad65a1c5169557e99b53a20481c265ebd235d5508685450d78176cec3f4630e9523971dd80"
        );
        assert_eq!(
            pcrs.pcr1,
            "46babbcf32ee17f11876202088a546c302a1775fa0d9d64a8f149ec0ab9b50787461cc216af570c169ae69da41436382"
        );
        assert_eq!(
            pcrs.pcr2,
            "f4d3d355b1d7a674b58aa7c27ccd27cc40665ed50aa116bfcecf510ba2fa4cd908be95397be478017896eeb46f3c092d"
        );
    }

    #[test]
    fn pcr2_of_an_image_with_one_ramdisk_is_the_well_known_one() {
        let pcrs = Pcrs::of(b"kernel", b"cmdline", &[b"first"]);
        assert!(pcrs.pcr2.starts_with("21b9efbc1848"), "{}", pcrs.pcr2);
        assert_eq!(pcrs.pcr0, pcrs.pcr1);
    }

    #[test]
    fn sha256_is_written_as_sha256sum_does() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
