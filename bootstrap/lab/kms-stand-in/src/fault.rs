//! Faults on command, which a client must survive or refuse.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::operation::Operation;

/// A fault in the answer to a valid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `ThrottlingException`.
    Throttling,
    /// Status 500, `KMSInternalException`.
    InternalError,
    /// No answer, for as long as the client waits.
    Stall,
    /// The connection ends without an answer.
    HangUp,
    /// `Plaintext` beside `CiphertextForRecipient`.
    Plaintext,
    /// `Plaintext` instead of `CiphertextForRecipient`.
    PlaintextOnly,
    /// The `KeyId` of an unrelated key.
    WrongKeyId,
    /// Half of `CiphertextForRecipient`.
    TruncatedCms,
    /// `CiphertextForRecipient` names AES-128-CBC.
    WrongAlgorithm,
    /// The content of `CiphertextForRecipient` has wrong padding.
    BadPadding,
    /// The content key in `CiphertextForRecipient` cannot be decrypted.
    BadKey,
}

/// The active fault: set by the program, or by a file that is read for each request.
///
/// ```toml
/// fault = "throttling"
/// operation = "Decrypt" # without: every operation
/// times = 2             # without: until the file is removed; a changed file starts again
/// ```
#[derive(Debug, Default)]
pub struct Faults {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    set: Option<Order>,
    /// The file's last content, and the remaining number of faults.
    file: Option<(String, Order)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    fault: Fault,
    operation: Option<Operation>,
    times: Option<u32>,
}

impl Faults {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Sets a fault for every operation, that many times or until [`Faults::clear`].
    pub fn set(&self, fault: Fault, times: Option<u32>) {
        self.state().set = Some(Order { fault, operation: None, times });
    }

    /// Clears the fault of [`Faults::set`].
    pub fn clear(&self) {
        self.state().set = None;
    }

    /// The fault for this request, which counts as one of its times.
    pub(crate) fn take(&self, operation: Operation) -> Result<Option<Fault>> {
        let text = self.read()?;
        let mut state = self.state();
        match text {
            None => state.file = None,
            Some(text) if state.file.as_ref().is_some_and(|(known, _)| *known == text) => {}
            Some(text) => {
                let order = toml::from_str(&text).with_context(|| format!("read {}", self.name()))?;
                state.file = Some((text, order));
            }
        }
        let State { set, file } = &mut *state;
        let mut orders = set.iter_mut().chain(file.as_mut().map(|(_, order)| order));
        Ok(orders.find_map(|order| order.take(operation)))
    }

    fn read(&self) -> Result<Option<String>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", self.name())),
        }
    }

    fn name(&self) -> impl fmt::Display {
        self.path.as_deref().unwrap_or("no file".as_ref()).display()
    }

    /// A panic cannot leave the state half changed, so a poisoned lock is safe.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn take(&mut self, operation: Operation) -> Option<Fault> {
        if self.operation.is_some_and(|only| only != operation) {
            return None;
        }
        match &mut self.times {
            None => {}
            Some(0) => return None,
            Some(times) => *times -= 1,
        }
        Some(self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(faults: &Faults) -> Option<Fault> {
        faults.take(Operation::Decrypt).unwrap()
    }

    #[test]
    fn a_fault_occurs_as_many_times_as_set() {
        let faults = Faults::default();
        assert_eq!(take(&faults), None);
        faults.set(Fault::Throttling, Some(2));
        assert_eq!(
            [take(&faults), take(&faults), take(&faults)],
            [Some(Fault::Throttling), Some(Fault::Throttling), None]
        );
        faults.set(Fault::Stall, None);
        assert_eq!([take(&faults), take(&faults)], [Some(Fault::Stall); 2]);
        faults.clear();
        assert_eq!(take(&faults), None);
    }

    #[test]
    fn a_file_turns_a_fault_on_and_its_end_turns_it_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fault.toml");
        let faults = Faults::new(Some(path.clone()));
        assert_eq!(take(&faults), None);
        fs::write(&path, "fault = \"wrong-key-id\"").unwrap();
        assert_eq!([take(&faults), take(&faults)], [Some(Fault::WrongKeyId); 2]);
        fs::write(&path, "fault = \"hang-up\"\ntimes = 1").unwrap();
        assert_eq!([take(&faults), take(&faults)], [Some(Fault::HangUp), None]);
        fs::write(&path, "fault = \"hang-up\"\ntimes = 1\n").unwrap();
        assert_eq!(take(&faults), Some(Fault::HangUp));
        fs::remove_file(&path).unwrap();
        assert_eq!(take(&faults), None);
    }

    #[test]
    fn a_fault_may_be_one_operation_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fault.toml");
        fs::write(&path, "fault = \"internal-error\"\noperation = \"Decrypt\"\ntimes = 1").unwrap();
        let faults = Faults::new(Some(path));
        assert_eq!(faults.take(Operation::Encrypt).unwrap(), None);
        assert_eq!(take(&faults), Some(Fault::InternalError));
    }

    #[test]
    fn a_file_without_a_valid_fault_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fault.toml");
        for (text, part) in [
            ("fault = \"explode\"", "unknown variant `explode`"),
            ("fault = \"stall\"\ntime = 1", "unknown field `time`"),
            ("operation = \"Decrypt\"", "missing field `fault`"),
            ("fault = \"stall\"\noperation = \"decrypt\"", "unknown variant `decrypt`"),
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", Faults::new(Some(path.clone())).take(Operation::Decrypt).unwrap_err());
            assert!(error.contains(part) && error.contains("fault.toml"), "{error}");
        }
    }
}
