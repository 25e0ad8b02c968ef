//! `ReEncrypt`: the same secret for another key, or with another context.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{ALGORITHM, Request, StandIn, check_length, open, random, sealer};
use crate::blob;
use crate::context::EncryptionContext;
use crate::failure::Failure;
use crate::operation::{self, ReEncrypt};
use crate::policy::Call;

impl StandIn {
    /// Authorized twice: for the key and the context of the ciphertext, and for those of the new one.
    pub(super) fn re_encrypt(&self, mut request: Request<'_>) -> Result<Map<String, Value>, Failure> {
        let parameters: ReEncrypt = operation::parameters(request.body)?;
        let context = |given: Option<EncryptionContext>| given.unwrap_or_else(EncryptionContext::empty);
        let (old, new) =
            (context(parameters.source_encryption_context), context(parameters.destination_encryption_context));
        let bytes = &parameters.ciphertext_blob.0;
        check_length("CiphertextBlob", bytes.len(), blob::MAX_LEN)?;
        let source = self.source(parameters.source_key_id.as_deref(), bytes)?;
        let destination = self.key(&parameters.destination_key_id)?;
        let is_same_key = Some(source.arn == destination.arn);
        for (key, action, context) in [(source, "kms:ReEncryptFrom", &old), (destination, "kms:ReEncryptTo", &new)] {
            request
                .authorize_call(key, &Call { caller: request.caller, action, context, registers: None, is_same_key })?;
        }
        let plaintext = open(source, bytes, &old)?;
        destination.check_state()?;
        let blob = sealer(destination).seal(&plaintext, &new, random()?);
        Ok(Map::from_iter([
            ("CiphertextBlob".to_owned(), STANDARD.encode(blob).into()),
            ("SourceKeyId".to_owned(), source.arn.to_string().into()),
            ("KeyId".to_owned(), request.key_id(&destination.arn).into()),
            ("SourceEncryptionAlgorithm".to_owned(), ALGORITHM.into()),
            ("DestinationEncryptionAlgorithm".to_owned(), ALGORITHM.into()),
        ]))
    }
}
