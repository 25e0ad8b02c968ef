//! What the clients of AWS's SDK have in common.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_types::SdkConfig;
use futures_util::FutureExt;

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::https::Https;

/// For a client per call, as each may come with its own credentials; they share the connections.
pub(crate) fn config(region: &str, endpoint: Option<&Endpoint>, https: &Https, credentials: &Credentials) -> SdkConfig {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .http_client(https.client())
        .credentials_provider(SharedCredentialsProvider::new(credentials.expose()))
        .identity_cache(IdentityCache::no_cache())
        // Both are ours: see `retry`.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(endpoint.map(ToString::to_string));
    config.build()
}

/// The URL of KMS in a region.
pub(crate) fn kms_endpoint(region: &str) -> Result<String, String> {
    use aws_sdk_kms::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
    let params = Params::builder().region(region).build().map_err(|error| error.to_string())?;
    let resolver = DefaultResolver::new();
    let endpoint = resolver.resolve_endpoint(&params).now_or_never().ok_or("no answer at once")?;
    endpoint.map(|endpoint| endpoint.url().to_owned()).map_err(|error| error.to_string())
}

/// The URL of a bucket in a region.
pub(crate) fn bucket_endpoint(region: &str, bucket: &str) -> Result<String, String> {
    use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
    let params = Params::builder().region(region).bucket(bucket).build().map_err(|error| error.to_string())?;
    let resolver = DefaultResolver::new();
    let endpoint = resolver.resolve_endpoint(&params).now_or_never().ok_or("no answer at once")?;
    endpoint.map(|endpoint| endpoint.url().to_owned()).map_err(|error| error.to_string())
}

/// The URL of Secrets Manager in a region.
pub(crate) fn secrets_endpoint(region: &str) -> Result<String, String> {
    use aws_sdk_secretsmanager::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
    let params = Params::builder().region(region).build().map_err(|error| error.to_string())?;
    let resolver = DefaultResolver::new();
    let endpoint = resolver.resolve_endpoint(&params).now_or_never().ok_or("no answer at once")?;
    endpoint.map(|endpoint| endpoint.url().to_owned()).map_err(|error| error.to_string())
}
