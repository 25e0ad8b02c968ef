//! Which enclaves the operator allows, compared with a document's claims.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::claims::Claims;
use crate::measurements::Measurements;
use crate::pcr::Pcr;

/// The PCRs that identify the image. PCR2 alone is the configuration of an unknown image, PCR3 the parent instance's
/// role, PCR4 the parent instance. The running programs choose PCR16 and above.
const IDENTIFYING: [u8; 3] = [0, 1, 8];

/// The images that an enclave may run, and the values that other PCRs may have.
///
/// Allows an enclave if its PCRs are those of one image, and each PCR with given values has one of them. A policy
/// without any image, and without values for PCR0, PCR1 or PCR8, refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    images: Vec<(String, Measurements)>,
    values: BTreeMap<u8, BTreeSet<Pcr>>,
}

/// Why a value cannot be part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A PCR that is zero in every enclave, or does not exist.
    #[error("PCR{0} does not identify an enclave, expected PCR0 to PCR4, PCR8, or PCR16 to PCR31")]
    Index(u8),
    /// A PCR that nothing was measured into.
    #[error("PCR{0} of zeros means that nothing was measured, expected another value")]
    Zero(u8),
}

/// Why a policy refuses an enclave. Its labels are `Box<str>` to keep every error of this crate below 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// See [`Policy::is_empty`].
    #[error("the policy allows no image, expected at least one")]
    Empty,
    /// In debug mode, PCR0-2 are zero and the parent can read the console.
    #[error("PCR{0} is zero: the enclave runs in debug mode, which is never allowed")]
    Debug(u8),
    /// A document has the locked PCRs: PCR0 to PCR15 always, the others once the enclave locks them.
    #[error("PCR{0} is not in the document: the enclave has not extended and locked it")]
    Absent(u8),
    /// PCR1 is that of an allowed image, PCR2 is not.
    #[error("PCR2 is {actual}, expected {expected} ({label}): same release (PCR1), another configuration")]
    Configuration {
        /// The document's PCR2.
        actual: Pcr,
        /// The policy's image.
        label: Box<str>,
        /// That image's PCR2.
        expected: Pcr,
    },
    /// PCR2 is that of an allowed image, PCR1 is not.
    #[error("PCR1 is {actual}, expected {expected} ({label}): same configuration (PCR2), another release")]
    Release {
        /// The document's PCR1.
        actual: Pcr,
        /// The policy's image.
        label: Box<str>,
        /// That image's PCR1.
        expected: Pcr,
    },
    /// PCR0 is not that of an allowed image.
    #[error("PCR0 is {actual}, expected that of {labels}")]
    Image {
        /// The document's PCR0.
        actual: Pcr,
        /// All of the policy's images.
        labels: String,
    },
    /// Not one of the values in the policy or the image's measurements.
    #[error("PCR{index} is {actual}, expected {expected}")]
    Value {
        /// The PCR's number.
        index: u8,
        /// The document's value.
        actual: Pcr,
        /// The allowed values.
        expected: String,
    },
}

impl Policy {
    /// A policy that refuses everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image. `label` names it in a [`Violation`], for example by its measurements file.
    pub fn allow_image(&mut self, label: impl Into<String>, measurements: Measurements) {
        self.images.push((label.into(), measurements));
    }

    /// Adds an allowed value of a PCR.
    ///
    /// # Errors
    /// If the PCR is not in use, or the value is zero.
    pub fn allow(&mut self, index: u8, value: Pcr) -> Result<(), PolicyError> {
        if !is_in_use(index) {
            return Err(PolicyError::Index(index));
        }
        if value.is_zero() {
            return Err(PolicyError::Zero(index));
        }
        self.values.entry(index).or_default().insert(value);
        Ok(())
    }

    /// Whether the policy allows no image, and so refuses everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && !IDENTIFYING.iter().any(|index| self.values.contains_key(index))
    }

    /// The label of the image whose PCR0 to PCR2 these are. None: the policy allows it by values of PCRs, or not at all.
    #[must_use]
    pub fn label(&self, claims: &Claims) -> Option<&str> {
        self.images.iter().find(|(_, image)| is_same(image, claims)).map(|(label, _)| label.as_str())
    }

    /// The labels of all images whose measurements these are, those of PCRs other than PCR0 to PCR2 included.
    pub fn labels(&self, claims: &Claims) -> impl Iterator<Item = &str> {
        let same =
            self.images.iter().filter(|(_, image)| is_same(image, claims) && check_others(image, claims).is_ok());
        same.map(|(label, _)| label.as_str())
    }

    /// Compares a document's claims with the policy.
    ///
    /// # Errors
    /// The first PCR that is not allowed.
    pub fn check(&self, claims: &Claims) -> Result<(), Violation> {
        let register = |index| claims.pcrs.get(&index).copied().ok_or(Violation::Absent(index));
        let actual = Measurements::new(register(0)?, register(1)?, register(2)?);
        for (index, pcr) in [(0, actual.pcr0), (1, actual.pcr1), (2, actual.pcr2)] {
            if pcr.is_zero() {
                return Err(Violation::Debug(index));
            }
        }
        if self.is_empty() {
            return Err(Violation::Empty);
        }
        self.check_image(&actual, claims)?;
        for (&index, allowed) in &self.values {
            let actual = register(index)?;
            if !allowed.contains(&actual) {
                return Err(Violation::Value { index, actual, expected: list(allowed, " or ") });
            }
        }
        Ok(())
    }

    /// The error is about the image that matches best.
    fn check_image(&self, actual: &Measurements, claims: &Claims) -> Result<(), Violation> {
        if self.images.is_empty() {
            return Ok(());
        }
        let three = |image: &Measurements| [image.pcr0, image.pcr1, image.pcr2];
        let same = self.images.iter().filter(|(_, image)| three(image) == three(actual));
        let verdicts: Vec<_> = same.map(|(_, image)| check_others(image, claims)).collect();
        if verdicts.contains(&Ok(())) {
            return Ok(());
        }
        if let Some(verdict) = verdicts.into_iter().next() {
            return verdict;
        }
        if let Some((label, image)) = self.images.iter().find(|(_, image)| image.pcr1 == actual.pcr1)
            && image.pcr2 != actual.pcr2
        {
            return Err(Violation::Configuration {
                actual: actual.pcr2,
                label: label.as_str().into(),
                expected: image.pcr2,
            });
        }
        if let Some((label, image)) = self.images.iter().find(|(_, image)| image.pcr2 == actual.pcr2)
            && image.pcr1 != actual.pcr1
        {
            return Err(Violation::Release { actual: actual.pcr1, label: label.as_str().into(), expected: image.pcr1 });
        }
        let labels = list(self.images.iter().map(|(label, _)| label), ", ");
        Err(Violation::Image { actual: actual.pcr0, labels })
    }
}

/// The hypervisor locks PCR0 to PCR15 at boot, and measures into PCR0 to PCR4 and PCR8 only.
fn is_in_use(index: u8) -> bool {
    matches!(index, 0..=4 | 8 | 16..Pcr::COUNT)
}

fn is_same(image: &Measurements, claims: &Claims) -> bool {
    let mut three = [image.pcr0, image.pcr1, image.pcr2].into_iter().zip(0..);
    three.all(|(pcr, index)| claims.pcrs.get(&index) == Some(&pcr))
}

/// Compares the image's PCRs other than PCR0-2.
fn check_others(image: &Measurements, claims: &Claims) -> Result<(), Violation> {
    for (&index, expected) in &image.others {
        let actual = *claims.pcrs.get(&index).ok_or(Violation::Absent(index))?;
        if actual != *expected {
            return Err(Violation::Value { index, actual, expected: expected.to_string() });
        }
    }
    Ok(())
}

fn list(items: impl IntoIterator<Item = impl ToString>, separator: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests;
