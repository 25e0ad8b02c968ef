//! What identifies an image, as its build wrote it down.

use serde::Deserialize;
use thiserror::Error;

use crate::pcr::{Pcr, PcrError};

/// The registers that an image's content decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// Kernel, command line and all ramdisks.
    pub pcr0: Pcr,
    /// Kernel, command line and first ramdisk: the release.
    pub pcr1: Pcr,
    /// The other ramdisks: the configuration.
    pub pcr2: Pcr,
}

/// Why a text holds no [`Measurements`].
#[derive(Debug, Error)]
pub enum MeasurementsError {
    /// Not JSON, or without the three registers.
    #[error("expected JSON with \"PCR0\", \"PCR1\" and \"PCR2\", by itself or in \"Measurements\"")]
    Json(#[from] serde_json::Error),
    /// No register's value.
    #[error("PCR{index}")]
    Pcr {
        /// Which.
        index: u8,
        /// What is wrong with it.
        #[source]
        source: PcrError,
    },
    /// What an enclave in debug mode shows, and no image has.
    #[error("PCR{0} is zero: this describes an enclave in debug mode, expected the measurements of an image")]
    Zero(u8),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    /// `nitro-cli build-enclave` and `describe-eif`.
    Nested {
        #[serde(rename = "Measurements")]
        measurements: Pcrs,
    },
    /// `eif build`.
    Plain(Pcrs),
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Pcrs {
    pcr0: String,
    pcr1: String,
    pcr2: String,
}

impl Measurements {
    /// Reads `measurements.json` of this project's builds, or what `nitro-cli` prints when it builds or describes an image.
    ///
    /// # Errors
    /// Anything without the three registers, and registers that are zero.
    pub fn parse(json: &str) -> Result<Self, MeasurementsError> {
        let pcrs = match serde_json::from_str(json)? {
            File::Nested { measurements } => measurements,
            File::Plain(pcrs) => pcrs,
        };
        Ok(Self { pcr0: register(0, &pcrs.pcr0)?, pcr1: register(1, &pcrs.pcr1)?, pcr2: register(2, &pcrs.pcr2)? })
    }
}

fn register(index: u8, text: &str) -> Result<Pcr, MeasurementsError> {
    let pcr: Pcr = text.parse().map_err(|source| MeasurementsError::Pcr { index, source })?;
    if pcr.is_zero() { Err(MeasurementsError::Zero(index)) } else { Ok(pcr) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(pcr2: &str) -> String {
        let [pcr0, pcr1] = ["a", "b"].map(|digit| digit.repeat(96));
        format!(r#""PCR0": "{pcr0}", "PCR1": "{pcr1}", "PCR2": "{pcr2}""#)
    }

    #[test]
    fn our_file_and_that_of_nitro_cli_say_the_same() {
        let pcrs = json(&"c".repeat(96));
        let ours = format!(r#"{{"hashAlgorithm": "SHA384", {pcrs}, "sha256": {{"eif": "00"}}}}"#);
        let theirs = format!(r#"{{"Measurements": {{"HashAlgorithm": "Sha384 {{ ... }}", {pcrs}}}}}"#);
        let read = Measurements::parse(&ours).unwrap();
        assert_eq!(read, Measurements { pcr0: Pcr([0xaa; 48]), pcr1: Pcr([0xbb; 48]), pcr2: Pcr([0xcc; 48]) });
        assert_eq!(Measurements::parse(&theirs).unwrap(), read);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let parse = |text: &str| Measurements::parse(text).unwrap_err();
        assert!(matches!(parse("PCR0"), MeasurementsError::Json(_)));
        assert!(matches!(parse(r#"{"PCR0": "00"}"#), MeasurementsError::Json(_)));
        assert!(matches!(parse(&format!("{{{}}}", json("cc"))), MeasurementsError::Pcr { index: 2, .. }));
        assert!(matches!(parse(&format!("{{{}}}", json(&"0".repeat(96)))), MeasurementsError::Zero(2)));
    }
}
