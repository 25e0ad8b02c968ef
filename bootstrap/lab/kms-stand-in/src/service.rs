//! Handles a request: authenticates the caller, evaluates the policy, answers.

mod re_encrypt;

use std::time::SystemTime;

use anyhow::Result;
use attestation::TrustRoot;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::fill;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use kms::cms::EnvelopedData;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::access_key::AccessKey;
use crate::arn::{KeyArn, KeyId};
use crate::blob::{self, Blob, Sealer};
use crate::cms;
use crate::config::Config;
use crate::context::EncryptionContext;
use crate::failure::{Failure, Kind};
use crate::fault::{Fault, Faults};
use crate::key::{Key, KeyState};
use crate::log::Record;
use crate::operation::{
    self, Decrypt, DescribeKey, Encrypt, GenerateDataKey, GenerateRandom, GetKeyPolicy, KeySpec, ListGrants, Operation,
    RecipientInfo,
};
use crate::policy::{Call, Caller, Decision, Registers};
use crate::recipient::Recipient;
use crate::signature;

const JSON: &str = "application/x-amz-json-1.1";
const TARGET: &str = "x-amz-target";
const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
/// The name of a key's only policy.
const POLICY_NAME: &str = "default";
/// KMS's limits for `Plaintext` (Encrypt) and `NumberOfBytes`.
const MAX_PLAINTEXT: usize = 4096;
const MAX_RANDOM: u32 = 1024;
/// Not a key of any configuration: the account differs.
const UNRELATED_KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000";

/// The service, without sockets.
#[derive(Debug)]
pub struct StandIn {
    region: String,
    keys: Vec<Key>,
    access_keys: Vec<AccessKey>,
    root: TrustRoot,
    faults: Faults,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Answer {
    /// Send this.
    Response(Response<Bytes>),
    /// Send nothing for as long as the client waits.
    Stall,
    /// Close the connection.
    HangUp,
}

/// An authenticated request.
struct Request<'a> {
    caller: &'a Caller,
    operation: Operation,
    fault: Option<Fault>,
    body: &'a [u8],
    now: SystemTime,
    record: &'a mut Record,
}

enum Outcome {
    Answer(Map<String, Value>),
    Stall,
    HangUp,
}

impl StandIn {
    /// Creates the service, and missing files of key material.
    ///
    /// # Errors
    /// If key material cannot be read or created.
    pub fn new(config: Config) -> Result<Self> {
        let keys = config.keys.into_iter().map(crate::config::KeySettings::open).collect::<Result<_>>()?;
        Ok(Self {
            region: config.region,
            keys,
            access_keys: config.access_keys,
            root: config.root,
            faults: Faults::new(config.fault_path),
        })
    }

    /// Replaces the configuration's trust root, for tests whose root is not in a file.
    #[must_use]
    pub fn trusting(self, root: TrustRoot) -> Self {
        Self { root, ..self }
    }

    /// The faults, to set one.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Answers a request and logs a line about it.
    #[must_use]
    pub fn answer(&self, request: &Parts, body: &[u8], now: SystemTime) -> Answer {
        let mut record = Record::default();
        let outcome = self.perform(request, body, now, &mut record);
        let request_id = request_id();
        record.write(&request_id, outcome.as_ref().map(|_| ()));
        match outcome {
            Ok(Outcome::Answer(answer)) => Answer::Response(response(StatusCode::OK, &request_id, &answer.into())),
            Ok(Outcome::Stall) => Answer::Stall,
            Ok(Outcome::HangUp) => Answer::HangUp,
            Err(failure) => Answer::Response(refusal(&request_id, &failure)),
        }
    }

    fn perform(&self, parts: &Parts, body: &[u8], now: SystemTime, record: &mut Record) -> Result<Outcome, Failure> {
        let access_key = signature::verify(parts, body, &self.access_keys, &self.region, now)?;
        record.caller(&access_key.caller);
        let operation = requested(parts)?;
        record.operation(operation);
        let fault = self.faults.take(operation).map_err(|error| internal(&format!("{error:#}")))?;
        if let Some(fault) = fault {
            record.fault(fault);
        }
        match fault {
            Some(Fault::Throttling) => return Err(Failure::new(Kind::Throttling, "Rate exceeded")),
            Some(Fault::InternalError) => return Err(internal("a fault was set")),
            Some(Fault::Stall) => return Ok(Outcome::Stall),
            Some(Fault::HangUp) => return Ok(Outcome::HangUp),
            Some(
                Fault::Plaintext
                | Fault::PlaintextOnly
                | Fault::WrongKeyId
                | Fault::TruncatedCms
                | Fault::WrongAlgorithm
                | Fault::BadPadding
                | Fault::BadKey,
            )
            | None => {}
        }
        let request = Request { caller: &access_key.caller, operation, fault, body, now, record };
        let answer = match operation {
            Operation::Decrypt => self.decrypt(request),
            Operation::DescribeKey => self.describe_key(request),
            Operation::Encrypt => self.encrypt(request),
            Operation::GenerateDataKey => self.generate_data_key(request),
            Operation::GenerateRandom => self.generate_random(request),
            Operation::GetKeyPolicy => self.get_key_policy(request),
            Operation::ListGrants => self.list_grants(request),
            Operation::ReEncrypt => self.re_encrypt(request),
        };
        answer.map(Outcome::Answer)
    }

    fn decrypt(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: Decrypt = operation::parameters(request.body)?;
        let context = parameters.encryption_context.unwrap_or_else(EncryptionContext::empty);
        let recipient = self.recipient(&mut request, parameters.recipient)?;
        let bytes = &parameters.ciphertext_blob.0;
        check_length("CiphertextBlob", bytes.len(), blob::MAX_LEN)?;
        let key = self.source(parameters.key_id.as_deref(), bytes)?;
        request.authorize(key, &context, recipient.as_ref())?;
        let plaintext = open(key, bytes, &context)?;
        let mut answer = request.deliver(&plaintext, recipient.as_ref())?;
        answer.insert("KeyId".to_owned(), request.key_id(&key.arn).into());
        answer.insert("EncryptionAlgorithm".to_owned(), ALGORITHM.into());
        Ok(answer)
    }

    fn describe_key(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: DescribeKey = operation::parameters(request.body)?;
        let key = self.key(&parameters.key_id)?;
        request.authorize(key, &EncryptionContext::empty(), None)?;
        let metadata = json!({
            "AWSAccountId": key.arn.account().to_string(),
            "Arn": request.key_id(&key.arn),
            "CustomerMasterKeySpec": ALGORITHM,
            "Description": "",
            "Enabled": key.state == KeyState::Enabled,
            "EncryptionAlgorithms": [ALGORITHM],
            "KeyId": key.arn.id().to_string(),
            "KeyManager": "CUSTOMER",
            "KeySpec": ALGORITHM,
            "KeyState": key.state.name(),
            "KeyUsage": "ENCRYPT_DECRYPT",
            "MultiRegion": false,
            "Origin": "AWS_KMS",
        });
        Ok(Map::from_iter([("KeyMetadata".to_owned(), metadata)]))
    }

    fn encrypt(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: Encrypt = operation::parameters(request.body)?;
        let context = parameters.encryption_context.unwrap_or_else(EncryptionContext::empty);
        check_length("Plaintext", parameters.plaintext.0.len(), MAX_PLAINTEXT)?;
        let key = self.key(&parameters.key_id)?;
        request.authorize(key, &context, None)?;
        key.check_state()?;
        let blob = sealer(key).seal(&parameters.plaintext.0, &context, random()?);
        Ok(Map::from_iter([
            ("CiphertextBlob".to_owned(), STANDARD.encode(blob).into()),
            ("KeyId".to_owned(), request.key_id(&key.arn).into()),
            ("EncryptionAlgorithm".to_owned(), ALGORITHM.into()),
        ]))
    }

    fn generate_data_key(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: GenerateDataKey = operation::parameters(request.body)?;
        let context = parameters.encryption_context.unwrap_or_else(EncryptionContext::empty);
        let len = match (parameters.key_spec, parameters.number_of_bytes) {
            (Some(KeySpec::Aes128), None) => 16,
            (Some(KeySpec::Aes256), None) => 32,
            (None, Some(len)) => len,
            (None, None) | (Some(_), Some(_)) => {
                let message = "Please specify either number of bytes or key spec.";
                return Err(Failure::new(Kind::Validation, message));
            }
        };
        let recipient = self.recipient(&mut request, parameters.recipient)?;
        let key = self.key(&parameters.key_id)?;
        request.authorize(key, &context, recipient.as_ref())?;
        key.check_state()?;
        let data_key = random_bytes(len)?;
        let mut answer = request.deliver(&data_key, recipient.as_ref())?;
        let blob = sealer(key).seal(&data_key, &context, random()?);
        answer.insert("CiphertextBlob".to_owned(), STANDARD.encode(blob).into());
        answer.insert("KeyId".to_owned(), request.key_id(&key.arn).into());
        Ok(answer)
    }

    /// There is no key, so only IAM policies can allow it.
    fn generate_random(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: GenerateRandom = operation::parameters(request.body)?;
        let len = parameters
            .number_of_bytes
            .ok_or_else(|| Failure::new(Kind::Validation, "Please specify number of bytes."))?;
        let recipient = self.recipient(&mut request, parameters.recipient)?;
        if !request.caller.arn.is_root() && !request.caller.iam_allows(request.operation.action()) {
            let why = format!("because no identity-based policy allows the {} action", request.operation.action());
            let action = request.operation.action();
            return Err(request.denied(action, "*", &why, "not in the caller's iam_actions"));
        }
        request.deliver(&random_bytes(len)?, recipient.as_ref())
    }

    /// The policy's text in the configuration.
    fn get_key_policy(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: GetKeyPolicy = operation::parameters(request.body)?;
        let key = self.key_without_alias(&parameters.key_id)?;
        request.authorize(key, &EncryptionContext::empty(), None)?;
        if let Some(other) = parameters.policy_name.filter(|name| name != POLICY_NAME) {
            return Err(Failure::new(Kind::NotFound, format!("No such policy exists: {other:?}")));
        }
        let answer = [("Policy", key.policy.text()), ("PolicyName", POLICY_NAME)];
        Ok(answer.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect())
    }

    /// Always empty: CreateGrant is not supported.
    fn list_grants(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: ListGrants = operation::parameters(request.body)?;
        let key = self.key_without_alias(&parameters.key_id)?;
        request.authorize(key, &EncryptionContext::empty(), None)?;
        Ok(Map::from_iter([("Grants".to_owned(), json!([])), ("Truncated".to_owned(), false.into())]))
    }

    /// The key that a ciphertext is of, or that the request says it is of.
    fn source(&self, name: Option<&str>, ciphertext: &[u8]) -> Result<&Key, Failure> {
        match (name, Blob::parse(ciphertext)) {
            (Some(name), _) => self.key(name),
            (None, Some(blob)) => self.key_of(blob.key_id),
            (None, None) => Err(invalid_ciphertext("not a ciphertext of the stand-in")),
        }
    }

    fn recipient(&self, request: &mut Request<'_>, info: Option<RecipientInfo>) -> Result<Option<Recipient>, Failure> {
        let Some(RecipientInfo { key_encryption_algorithm, attestation_document }) = info else {
            return Ok(None);
        };
        let recipient = Recipient::verify(&key_encryption_algorithm, &attestation_document.0, &self.root, request.now)?;
        request.record.recipient(&recipient);
        Ok(Some(recipient))
    }

    fn key(&self, name: &str) -> Result<&Key, Failure> {
        let found = self.keys.iter().find(|key| key.answers_to(name));
        found.ok_or_else(|| Failure::new(Kind::NotFound, format!("Key '{name}' does not exist")))
    }

    /// Management operations accept an ARN or a UUID, but no alias.
    fn key_without_alias(&self, name: &str) -> Result<&Key, Failure> {
        if name.contains("alias/") {
            return Err(Failure::new(Kind::NotFound, format!("Invalid keyId '{name}'")));
        }
        self.key(name)
    }

    /// KMS does not disclose whether a key exists that only the ciphertext names.
    fn key_of(&self, id: KeyId) -> Result<&Key, Failure> {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                       region, or you are not allowed to access.";
        let found = self.keys.iter().find(|key| key.arn.id() == id);
        found.ok_or_else(|| Failure::new(Kind::AccessDenied, message).because(format!("no key {id}")))
    }
}

impl Request<'_> {
    /// Evaluates the key's policy.
    fn authorize(
        &mut self,
        key: &Key,
        context: &EncryptionContext,
        recipient: Option<&Recipient>,
    ) -> Result<(), Failure> {
        let registers: Option<&Registers> = recipient.map(|recipient| &recipient.claims.pcrs);
        let action = self.operation.action();
        self.authorize_call(key, &Call { caller: self.caller, action, context, registers, is_same_key: None })
    }

    fn authorize_call(&mut self, key: &Key, call: &Call<'_>) -> Result<(), Failure> {
        self.record.key(&key.arn);
        match key.policy.decide(call) {
            Decision::Allowed(statement) => {
                self.record.allowed_by(&statement);
                Ok(())
            }
            Decision::Denied(statement) => {
                let why = "with an explicit deny in a resource-based policy";
                Err(self.denied(call.action, key.arn.as_str(), why, &statement))
            }
            Decision::NotAllowed(reason) => {
                let why = format!("because no resource-based policy allows the {} action", call.action);
                Err(self.denied(call.action, key.arn.as_str(), &why, &reason))
            }
        }
    }

    fn denied(&self, action: &str, resource: &str, why: &str, reason: &str) -> Failure {
        let caller = &self.caller.arn;
        let message = format!("User: {caller} is not authorized to perform: {action} on resource: {resource} {why}");
        Failure::new(Kind::AccessDenied, message).because(reason)
    }

    /// Adds the secret: encrypted for the enclave if the request is attested, in plaintext otherwise.
    fn deliver(&self, secret: &[u8], recipient: Option<&Recipient>) -> Result<Map<String, Value>, Failure> {
        let mut answer = Map::new();
        if recipient.is_none() || matches!(self.fault, Some(Fault::Plaintext | Fault::PlaintextOnly)) {
            answer.insert("Plaintext".to_owned(), STANDARD.encode(secret).into());
        }
        if let Some(Recipient { key, .. }) = recipient
            && self.fault != Some(Fault::PlaintextOnly)
        {
            let enveloped = key.seal(secret).map_err(crypto)?;
            let ber = faulty(enveloped, self.fault);
            answer.insert("CiphertextForRecipient".to_owned(), STANDARD.encode(ber).into());
        }
        Ok(answer)
    }

    fn key_id(&self, arn: &KeyArn) -> String {
        if self.fault == Some(Fault::WrongKeyId) { UNRELATED_KEY.to_owned() } else { arn.to_string() }
    }
}

fn requested(parts: &Parts) -> Result<Operation, Failure> {
    if parts.method != Method::POST || parts.uri.path() != "/" || parts.uri.query().is_some() {
        return Err(Failure::new(
            Kind::UnknownOperation,
            format!("No {} {}, expected POST /.", parts.method, parts.uri),
        ));
    }
    if parts.headers.get(CONTENT_TYPE).is_none_or(|value| value != JSON) {
        return Err(Failure::new(Kind::Serialization, format!("Content-Type is not {JSON}.")));
    }
    let target = parts.headers.get(TARGET).and_then(|value| value.to_str().ok());
    Operation::parse(target.unwrap_or_default())
}

fn faulty(mut enveloped: EnvelopedData, fault: Option<Fault>) -> Vec<u8> {
    match fault {
        Some(Fault::BadPadding) => cms::spoil_padding(&mut enveloped),
        Some(Fault::BadKey) => cms::spoil_key(&mut enveloped),
        Some(_) | None => {}
    }
    let mut ber = if fault == Some(Fault::WrongAlgorithm) {
        cms::to_ber_with_another_algorithm(&enveloped)
    } else {
        cms::to_ber(&enveloped)
    };
    if fault == Some(Fault::TruncatedCms) {
        ber.truncate(ber.len() / 2);
    }
    ber
}

fn sealer(key: &Key) -> Sealer<'_> {
    Sealer { arn: &key.arn, material: key.material.expose() }
}

fn open(key: &Key, ciphertext: &[u8], context: &EncryptionContext) -> Result<Zeroizing<Vec<u8>>, Failure> {
    key.check_state()?;
    let blob = Blob::parse(ciphertext).ok_or_else(|| invalid_ciphertext("not a ciphertext of the stand-in"))?;
    if blob.key_id != key.arn.id() {
        let message = "The key ID in the request does not identify a CMK that can perform this operation.";
        let reason = format!("the ciphertext is of key {}", blob.key_id);
        return Err(Failure::new(Kind::IncorrectKey, message).because(reason));
    }
    let plaintext = sealer(key).open(&blob, context);
    plaintext.ok_or_else(|| invalid_ciphertext("changed, or encrypted with another context"))
}

fn check_length(name: &str, len: usize, max: usize) -> Result<(), Failure> {
    if (1..=max).contains(&len) {
        return Ok(());
    }
    Err(Failure::new(Kind::Validation, format!("{name} of {len} bytes, expected 1 to {max}")))
}

fn random<const LEN: usize>() -> Result<[u8; LEN], Failure> {
    let mut bytes = [0; LEN];
    fill(&mut bytes).map_err(crypto)?;
    Ok(bytes)
}

fn random_bytes(len: u32) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !(1..=MAX_RANDOM).contains(&len) {
        return Err(Failure::new(Kind::Validation, format!("NumberOfBytes {len}, expected 1 to {MAX_RANDOM}")));
    }
    let mut bytes = Zeroizing::new(vec![0; len as usize]);
    fill(&mut bytes).map_err(crypto)?;
    Ok(bytes)
}

fn invalid_ciphertext(reason: &str) -> Failure {
    Failure::new(Kind::InvalidCiphertext, "The ciphertext is not valid.").because(reason)
}

fn internal(reason: &str) -> Failure {
    Failure::new(Kind::Internal, "The request was rejected because an internal exception occurred.").because(reason)
}

fn crypto(error: Unspecified) -> Failure {
    internal(&format!("cryptography library: {error}"))
}

/// The answer to a request that is too long to read.
pub(crate) fn too_large() -> Response<Bytes> {
    let failure = Failure::new(Kind::RequestTooLarge, "The request is too large.");
    let request_id = request_id();
    Record::default().write(&request_id, Err(&failure));
    refusal(&request_id, &failure)
}

fn refusal(request_id: &str, failure: &Failure) -> Response<Bytes> {
    let body = json!({"__type": failure.kind.name(), "message": failure.message});
    response(failure.kind.status(), request_id, &body)
}

fn response(status: StatusCode, request_id: &str, body: &Value) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, JSON)
        .header("x-amzn-requestid", request_id)
        .header("cache-control", "no-cache, no-store, must-revalidate, private")
        .body(body.to_string().into())
        .expect("these headers have no characters that a header must not have")
}

/// Correlates the log and the client's answer.
fn request_id() -> String {
    KeyId(random().expect("the system has random numbers")).to_string()
}

#[cfg(test)]
mod tests;
