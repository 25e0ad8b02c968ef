//! The content of an image, as AWS's library reads it.

use std::collections::BTreeMap;
use std::path::Path;

use aws_nitro_enclaves_image_format::utils::PcrSignatureChecker;
use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, Number, Result};

/// `describe-eif`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Description {
    eif_version: u16,
    measurements: BTreeMap<String, String>,
    is_signed: bool,
    #[serde(rename = "CheckCRC")]
    check_crc: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_check: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

/// Verifies the signature, if the image has one. Also fails if the file is not an image.
pub(crate) fn check_signature(path: &Path) -> Result<()> {
    let failed = || Failure::of(Number::EifSignature, format!("the signature of the image {}", path.display()));
    let mut checker = PcrSignatureChecker::from_eif(&path.display().to_string()).map_err(failed())?;
    if checker.is_empty() { Ok(()) } else { checker.verify().map_err(failed()) }
}

/// Reads and measures the image.
pub(crate) fn describe(path: &Path) -> Result<Description> {
    let mut eif = read(path)?;
    let measurements = measure(&mut eif, path)?;
    let check_crc = eif.check_crc();
    let (image_name, image_version, metadata) = match eif.get_metadata() {
        None => (None, None, None),
        Some(identity) => {
            let build = identity.build_info;
            let metadata = serde_json::json!({
                "BuildTime": build.build_time,
                "BuildTool": build.build_tool,
                "BuildToolVersion": build.build_tool_version,
                "OperatingSystem": build.img_os,
                "KernelVersion": build.img_kernel,
                "DockerInfo": identity.docker_info,
            });
            (Some(identity.img_name), Some(identity.img_version), Some(metadata))
        }
    };
    Ok(Description {
        eif_version: eif.header.version,
        is_signed: measurements.contains_key("PCR8"),
        signature_check: eif.sign_check,
        measurements,
        check_crc,
        image_name,
        image_version,
        metadata,
    })
}

/// `HashAlgorithm`, `PCR0`, `PCR1`, `PCR2`, and `PCR8` of a signed image.
pub(crate) fn measurements(path: &Path) -> Result<BTreeMap<String, String>> {
    measure(&mut read(path)?, path)
}

fn read(path: &Path) -> Result<EifReader> {
    let text = path.display().to_string();
    EifReader::from_eif(text.clone()).map_err(Failure::of(Number::EifParsing, format!("read the image {text}")))
}

fn measure(eif: &mut EifReader, path: &Path) -> Result<BTreeMap<String, String>> {
    eif.get_measurements().map_err(Failure::of(Number::EifParsing, format!("measure the image {}", path.display())))
}
