//! A request to AWS with the credentials of the instance's role, and once more with newer ones where AWS refuses those.
//!
//! A role's credentials can be refused although they have not expired here: AWS no longer knows them, or the clocks differ. The metadata
//! service has the new ones, and nobody else can bring them. Revoked sessions look like any missing permission (AccessDenied), and are
//! no reason to fetch again.

use std::sync::Arc;

use thiserror::Error;

use crate::client::KmsError;
use crate::credentials::Credentials;
use crate::https::CallError;
use crate::imds::{Imds, ImdsError};
use crate::refusal::Reason;
use crate::secrets::SecretsError;

/// An error of a request to AWS.
pub trait AwsError: std::error::Error + 'static {
    /// Whether AWS refuses who asks, and not what is asked for.
    fn refuses_credentials(&self) -> bool;
}

/// Why a request with the role's credentials had no success.
#[derive(Debug, Error)]
pub enum RoleError<E: AwsError> {
    /// Whoever asks is not the reason.
    #[error(transparent)]
    Call(E),
    /// The instance has none.
    #[error("get the credentials of the instance's role")]
    None(#[source] ImdsError),
    /// AWS refused the credentials, and there are no newer ones.
    #[error("AWS refuses the credentials of the instance's role {role} ({refusal}), and to get newer ones")]
    NoNewer {
        /// The role's name.
        role: String,
        /// What AWS said.
        refusal: String,
        /// Why there are none.
        source: ImdsError,
    },
    /// AWS refused the credentials, and then newer ones.
    #[error(
        "AWS refuses the credentials of the instance's role {role}, also after they were fetched again; expected a role that exists \
         and whose sessions are not revoked, and the right time"
    )]
    Refused {
        /// The role's name.
        role: String,
        /// What AWS said at last.
        source: E,
    },
}

impl Imds {
    /// Makes a request with the role's credentials; if AWS refuses them, gets them again and makes the request once more.
    ///
    /// # Errors
    /// What is in [`RoleError`].
    pub async fn lend<T, E, F>(&self, mut call: impl FnMut(Arc<Credentials>) -> F) -> Result<T, RoleError<E>>
    where
        E: AwsError,
        F: Future<Output = Result<T, E>>,
    {
        let first = self.credentials().await.map_err(RoleError::None)?;
        let refusal = match call(Arc::clone(&first)).await {
            Err(error) if error.refuses_credentials() => error,
            result => return result.map_err(RoleError::Call),
        };
        let name = |credentials: &Credentials| credentials.role().unwrap_or_default().to_owned();
        let second = self.newer_than(&first).await;
        let second = second.map_err(|source| {
            let refusal = causes(&refusal);
            RoleError::NoNewer { role: name(&first), refusal, source }
        })?;
        call(Arc::clone(&second)).await.map_err(|error| match error.refuses_credentials() {
            true => RoleError::Refused { role: name(&second), source: error },
            false => RoleError::Call(error),
        })
    }
}

impl AwsError for CallError {
    fn refuses_credentials(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(refusal.reason, Reason::ExpiredCredentials | Reason::UnknownCredentials | Reason::Signature)
    }
}

impl AwsError for KmsError {
    fn refuses_credentials(&self) -> bool {
        matches!(self, Self::Call(error) if error.refuses_credentials())
    }
}

impl AwsError for SecretsError {
    fn refuses_credentials(&self) -> bool {
        matches!(self, Self::Call(error) if error.refuses_credentials())
    }
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
