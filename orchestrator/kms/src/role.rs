//! A request to AWS with the credentials of the instance's role, and once more with newer ones where AWS refuses those.
//!
//! A role's credentials can be refused although they have not expired here: AWS no longer knows them, or the clocks differ. The metadata
//! service has the new ones, and nobody else can bring them. Revoked sessions, and those of a role that another one has replaced, look
//! like any missing permission (AccessDenied): for these it is asked once in a while, and the request is made again only if it has others.

use std::sync::Arc;

use thiserror::Error;
use tracing::{info, warn};

use crate::client::KmsError;
use crate::credentials::Credentials;
use crate::https::CallError;
use crate::imds::{Imds, ImdsError};
use crate::refusal::Reason;
use crate::secrets::SecretsError;

/// An error of a request to AWS.
pub trait AwsError: std::error::Error + 'static {
    /// What AWS says no for, if it does.
    fn reason(&self) -> Option<Reason>;

    /// Whether AWS refuses who asks, and not what is asked for.
    fn refuses_credentials(&self) -> bool {
        matches!(self.reason(), Some(Reason::ExpiredCredentials | Reason::UnknownCredentials | Reason::Signature))
    }

    /// Whether AWS knows who asks and does not permit it: for good, or because the session is revoked.
    fn denies_access(&self) -> bool {
        self.reason() == Some(Reason::AccessDenied)
    }
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
    /// Makes a request with the role's credentials; if AWS refuses them, gets them again and makes the request once more. If AWS
    /// denies access, the same only where there are others by now.
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
            Err(error) if error.denies_access() => {
                let Some(others) = self.others(&first).await else { return Err(RoleError::Call(error)) };
                return call(Arc::clone(&others)).await.map_err(|error| of_second(&others, error));
            }
            result => return result.map_err(RoleError::Call),
        };
        let second = self.newer_than(&first).await;
        let second = second.map_err(|source| {
            let refusal = causes(&refusal);
            RoleError::NoNewer { role: name(&first), refusal, source }
        })?;
        call(Arc::clone(&second)).await.map_err(|error| of_second(&second, error))
    }

    /// Others than `denied`, which AWS knows and permits nothing.
    async fn others(&self, denied: &Credentials) -> Option<Arc<Credentials>> {
        match self.others_than(denied).await {
            Ok(others) => others.inspect(|others| {
                info!(
                    role = name(others),
                    "AWS denied access to the role's credentials of before: again with new ones"
                );
            }),
            Err(error) => {
                let error = causes(&error);
                warn!(role = name(denied), error, "AWS denies access, and there are no other credentials to ask with");
                None
            }
        }
    }
}

impl AwsError for CallError {
    fn reason(&self) -> Option<Reason> {
        let Self::Refused(refusal) = self else { return None };
        Some(refusal.reason)
    }
}

impl AwsError for KmsError {
    fn reason(&self) -> Option<Reason> {
        let Self::Call(error) = self else { return None };
        error.reason()
    }
}

impl AwsError for SecretsError {
    fn reason(&self) -> Option<Reason> {
        let Self::Call(error) = self else { return None };
        error.reason()
    }
}

/// What a second request came to that was made with these.
fn of_second<E: AwsError>(credentials: &Credentials, error: E) -> RoleError<E> {
    match error.refuses_credentials() {
        true => RoleError::Refused { role: name(credentials), source: error },
        false => RoleError::Call(error),
    }
}

fn name(credentials: &Credentials) -> String {
    credentials.role().unwrap_or_default().to_owned()
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
