//! The secret with the function's client certificate and its private key, as one PEM text.

use anyhow::{Context as _, Result};

use crate::aws::Aws;
use crate::tls::ClientIdentity;

/// Read when it is first needed, and kept: the function lives on after an event.
pub(super) struct ClientSecret {
    id: String,
    kept: Option<ClientIdentity>,
}

impl ClientSecret {
    /// Of a secret's name or ARN.
    pub(super) fn new(id: String) -> Self {
        Self { id, kept: None }
    }

    /// What an earlier event has read.
    pub(super) fn kept(&self) -> Option<&ClientIdentity> {
        self.kept.as_ref()
    }

    /// Reads the secret again, in place of what was kept.
    ///
    /// # Errors
    /// A secret that cannot be read, or that holds something else; none of it is shown.
    pub(super) async fn read(&mut self, aws: &Aws) -> Result<&ClientIdentity> {
        const EXPECTED: &str = "CLIENT_SECRET_ID, expected a secret whose text is the PEM of the client's certificate and of its private key";
        let text = aws.text(&self.id).await.context(EXPECTED)?;
        let identity = ClientIdentity::from_pem(text.as_bytes());
        let identity = identity.with_context(|| format!("secret {:?}", self.id)).context(EXPECTED)?;
        Ok(self.kept.insert(identity))
    }
}
