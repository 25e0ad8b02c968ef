//! One log line for each request: the caller, the operation and the outcome.

use crate::arn::KeyArn;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::operation::Operation;
use crate::policy::Caller;
use crate::recipient::Recipient;

/// The fields of a request's log line, in the order in which they become known.
#[derive(Debug, Default)]
pub(crate) struct Record {
    caller: Option<String>,
    operation: Option<Operation>,
    fault: Option<Fault>,
    key: Option<String>,
    enclave: Option<String>,
    /// The statement that allowed it.
    allowed_by: Option<String>,
}

impl Record {
    pub(crate) fn caller(&mut self, caller: &Caller) {
        self.caller = Some(caller.arn.to_string());
    }

    pub(crate) fn operation(&mut self, operation: Operation) {
        self.operation = Some(operation);
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    pub(crate) fn key(&mut self, arn: &KeyArn) {
        self.key = Some(arn.to_string());
    }

    /// Logs PCR0 to PCR2, which most policies check.
    pub(crate) fn recipient(&mut self, Recipient { claims, .. }: &Recipient) {
        let registers = (0..=2).filter_map(|index| Some(format!(" PCR{index} {}", claims.pcrs.get(&index)?)));
        self.enclave = Some(claims.module_id.escape_debug().chain(registers.collect::<String>().chars()).collect());
    }

    pub(crate) fn allowed_by(&mut self, statement: &str) {
        self.allowed_by = Some(statement.to_owned());
    }

    /// Writes the line.
    pub(crate) fn write(&self, request_id: &str, outcome: Result<(), &Failure>) {
        let Self { caller, operation, fault, key, enclave, allowed_by } = self;
        let operation = operation.map(tracing::field::display);
        let fault = fault.map(tracing::field::debug);
        match outcome {
            Ok(()) => {
                tracing::info!(request_id, operation, caller, key, enclave, allowed_by, fault, "answered");
            }
            Err(Failure { kind, reason, .. }) => {
                let error = kind.name();
                tracing::info!(request_id, operation, caller, key, enclave, fault, error, reason, "refused");
            }
        }
    }
}
