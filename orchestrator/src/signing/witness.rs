//! Attestation documents for KMS and for the signer's clients.

use std::io;
use std::sync::Arc;

use signer::keys::{Attestor, AttestorError};

use crate::nsm::witness::{Asker, Witness};

/// Documents for the signer's clients.
pub(super) struct Documents(pub(super) Arc<Witness>);

impl Attestor for Documents {
    async fn document(&self, user_data: &[u8], nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        let document = self.0.document(Asker::Client, Some(nonce), Some(user_data), None).await;
        document.map_err(|error| AttestorError(error.to_string()))
    }
}

/// Documents for KMS, which encrypts to the public key in the document.
pub(super) struct Recipients(pub(super) Arc<Witness>);

impl kms::Attestor for Recipients {
    async fn document(&self, public_key: &[u8]) -> io::Result<Vec<u8>> {
        self.0.document(Asker::Kms, None, None, Some(public_key)).await
    }
}
