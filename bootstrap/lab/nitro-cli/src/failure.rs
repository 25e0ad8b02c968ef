//! Errors with the numbers of aws-nitro-enclaves-cli.

use std::fmt;

use serde::{Deserialize, Serialize};

/// AWS's page about the numbers.
const HELP: &str = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html";

/// aws-nitro-enclaves-cli, `document_errors`. The number is also the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Number {
    InvalidArgument = 3,
    ProcessSpawn = 5,
    ReadFromDisk = 7,
    Socket = 11,
    Serde = 17,
    FileOperation = 19,
    InsufficientMemoryRequested = 26,
    EnclaveStart = 33,
    EifParsing = 35,
    EnclaveBoot = 36,
    EnclaveProcessConnection = 39,
    ConsoleConnection = 44,
    Logger = 56,
    EnclaveNaming = 58,
    EifSignature = 59,
}

/// An error that ends the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    number: Number,
    what: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(number: Number, what: impl Into<String>) -> Self {
        Self { number, what: what.into() }
    }

    /// For `map_err`: what was attempted, and the cause.
    pub(crate) fn of<E: fmt::Display>(number: Number, what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |cause| Self::new(number, format!("{what}: {cause}"))
    }

    /// The exit status.
    pub(crate) const fn status(&self) -> u8 {
        self.number as u8
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = format!("E{:02}", self.status());
        // As AWS's, with more lines after the error.
        write!(f, "[ {code} ] {}\n\nMore about {code}: {HELP}#{code}\n\nThe log is {}", self.what, crate::log::PATH)
    }
}
