//! What the clients of AWS's SDK have in common.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_types::SdkConfig;

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
