//! Which enclaves are right: the operator's choice, against what a document claims.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::claims::Claims;
use crate::measurements::Measurements;
use crate::pcr::Pcr;

/// The registers that say what runs. Of the others, PCR2 is the configuration of an unknown image, PCR3 the parent instance's role, PCR4
/// the parent instance; PCR16 and above say what whatever runs has put there.
const IDENTIFYING: [u8; 3] = [0, 1, 8];

/// Which images an enclave may run, and which values other registers may have.
///
/// An enclave is right if its registers are those of any one image, and every register for which values are given has one
/// of them. A policy without any image, and without values for PCR0, PCR1 or PCR8, refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    images: Vec<(String, Measurements)>,
    values: BTreeMap<u8, BTreeSet<Pcr>>,
}

/// Why a value cannot be part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A register that is zero in every enclave, or that none has.
    #[error(
        "PCR{0} says nothing about an enclave, expected PCR0 to PCR4, PCR8, or PCR16 to PCR31, which are its programs' own"
    )]
    Index(u8),
    /// A register that nothing was measured into.
    #[error("zero is what PCR{0} holds when nothing was measured, expected the value to ask for")]
    Zero(u8),
}

/// What a policy does not allow. Its labels are `Box<str>` to keep every error of this crate below 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// See [`Policy::is_empty`].
    #[error("the policy names no image, so none is right")]
    Empty,
    /// The hypervisor hides PCR0-2 of an enclave whose console the parent can read.
    #[error("PCR{0} is zero: the enclave runs in debug mode, which is never right")]
    Debug(u8),
    /// Not in the document, which has the registers that are locked: PCR0 to PCR15 always, the others once the enclave locks them.
    #[error("PCR{0} is not in the document: the enclave has not extended and locked it")]
    Absent(u8),
    /// PCR1 is that of an allowed image, PCR2 is not.
    #[error("PCR2 is {actual}, measurements {label} say {expected}: same release (PCR1), another configuration")]
    Configuration {
        /// The document's PCR2.
        actual: Pcr,
        /// Which of the policy's images.
        label: Box<str>,
        /// That image's PCR2.
        expected: Pcr,
    },
    /// PCR2 is that of an allowed image, PCR1 is not.
    #[error("PCR1 is {actual}, measurements {label} say {expected}: same configuration (PCR2), another release")]
    Release {
        /// The document's PCR1.
        actual: Pcr,
        /// Which of the policy's images.
        label: Box<str>,
        /// That image's PCR1.
        expected: Pcr,
    },
    /// PCR0 is that of no allowed image.
    #[error("PCR0 is {actual}: not the image of measurements {labels}")]
    Image {
        /// The document's PCR0.
        actual: Pcr,
        /// All of the policy's images.
        labels: String,
    },
    /// A register for which the policy, or the measurements of the image, have values, and this is none of them.
    #[error("PCR{index} is {actual}, expected {expected}")]
    Value {
        /// Which register.
        index: u8,
        /// The document's value.
        actual: Pcr,
        /// The policy's values.
        expected: String,
    },
}

impl Policy {
    /// A policy that refuses everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image; `label` names it in a [`Violation`], for instance by the file that its measurements come from.
    pub fn allow_image(&mut self, label: impl Into<String>, measurements: Measurements) {
        self.images.push((label.into(), measurements));
    }

    /// Adds a value to those that a register may have.
    ///
    /// # Errors
    /// Registers that say nothing, and zero.
    pub fn allow(&mut self, index: u8, value: Pcr) -> Result<(), PolicyError> {
        if !says_something(index) {
            return Err(PolicyError::Index(index));
        }
        if value.is_zero() {
            return Err(PolicyError::Zero(index));
        }
        self.values.entry(index).or_default().insert(value);
        Ok(())
    }

    /// Whether the policy says of no image that it is right, and so refuses everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && !IDENTIFYING.iter().any(|index| self.values.contains_key(index))
    }

    /// Compares what a document claims with what is allowed.
    ///
    /// # Errors
    /// The first register that is not as allowed.
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

    /// Of several images, the error speaks of the one that is nearest.
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
fn says_something(index: u8) -> bool {
    matches!(index, 0..=4 | 8 | 16..Pcr::COUNT)
}

/// The registers of an image beyond PCR0-2.
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
