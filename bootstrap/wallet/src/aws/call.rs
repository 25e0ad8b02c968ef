//! Why a request to AWS failed, in one sentence.

use std::error::Error as StdError;

use anyhow::anyhow;
use attestation::Printable;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// AWS's error code, its message and a hint; or why the request to `host` failed.
pub(super) fn cause<E>(host: &str, error: SdkError<E, HttpResponse>) -> anyhow::Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    if let (Some(status), Some(service)) = (status, error.as_service_error()) {
        let code = service.code().unwrap_or("no error code");
        let message = service.message().unwrap_or("no message");
        return anyhow!("{} (HTTP {status}), \"{}\"{}", Printable(code), Printable(message), hint(code));
    }
    let is_unreachable = matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_));
    let route = if is_unreachable { "; expected a way to it: the internet, or an endpoint in the VPC" } else { "" };
    let error = match error.into_source() {
        Ok(source) => anyhow::Error::from_boxed(source),
        Err(error) => anyhow::Error::new(error),
    };
    error.context(format!("ask {host}{route}"))
}

fn hint(code: &str) -> &'static str {
    match code {
        "AccessDeniedException" => "; the role, the key's policy or the secret's policy does not allow it",
        "ExpiredTokenException" | "ExpiredToken" => "; get new credentials, and compare the clocks",
        "UnrecognizedClientException" | "InvalidSignatureException" => {
            "; the credentials are not AWS's, or the clock is wrong"
        }
        "InvalidCiphertextException" => {
            "; the ciphertext is of another key, or bound to another encryption context: compare --key-arn and --context"
        }
        "DisabledException" => "; enable the key",
        "KMSInvalidStateException" => "; the key cannot be used: it is being deleted or is not ready",
        "ResourceExistsException" => "; somebody else made it at the same moment: try again",
        "LimitExceededException" => {
            "; a secret has at most 20 labels: take that of a key that nobody needs from its version, with \
             `aws secretsmanager update-secret-version-stage --secret-id SECRET --version-stage LABEL --remove-from-version-id VERSION`"
        }
        "InvalidRequestException" => {
            "; a secret that is marked for deletion comes back with `aws secretsmanager restore-secret`"
        }
        "ResourceNotFoundException" => "; compare the secret's name and region, and whether it has a value yet",
        "NotFoundException" => "; compare the key's ARN and region",
        _ => "",
    }
}
