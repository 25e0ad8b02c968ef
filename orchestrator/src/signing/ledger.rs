//! The ledger's bucket in S3, with the role's credentials.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms::config::BucketSettings;
use kms::{Bucket, BucketError, Credentials, ObjectVersion, RoleError, VersionList, Written};
use signer::ledger::{Creation, Store, StoreError, Version, Versions};

use super::keys::{Aws, sentence};

/// See the module.
pub(super) struct S3 {
    aws: Arc<Aws>,
    bucket: Bucket,
}

impl S3 {
    /// Makes no request.
    pub(super) fn new(aws: Arc<Aws>, settings: BucketSettings) -> Self {
        let bucket = Bucket::new(settings, aws.https.clone());
        Self { aws, bucket }
    }

    async fn lend<T, F>(&self, request: impl Fn(Arc<Credentials>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        self.aws.imds.lend(request).await.map_err(|error| match &error {
            RoleError::Call(call) if !call.is_transient() => StoreError::Refused(sentence(&error)),
            RoleError::Refused { .. } => StoreError::Refused(sentence(&error)),
            RoleError::Call(_) | RoleError::None(_) | RoleError::NoNewer { .. } => {
                StoreError::Unavailable(sentence(&error))
            }
        })
    }
}

#[async_trait]
impl Store for S3 {
    async fn check(&self) -> Result<(), StoreError> {
        self.lend(|credentials| async move { self.bucket.check(&credentials).await }).await
    }

    async fn create(&self, name: &str, content: &[u8], keep: Duration) -> Result<Creation, StoreError> {
        let create =
            |credentials: Arc<Credentials>| async move { self.bucket.create(name, content, keep, &credentials).await };
        Ok(match self.lend(create).await? {
            Written::Now(version) => Creation::Made { version },
            Written::NotNow => Creation::Taken,
        })
    }

    async fn versions(&self, prefix: &str, after: Option<&str>) -> Result<Versions, StoreError> {
        let list =
            |credentials: Arc<Credentials>| async move { self.bucket.versions(prefix, after, &credentials).await };
        let VersionList { versions, markers, is_whole, now } = self.lend(list).await?;
        let version = |ObjectVersion { name, id, modified }| Version { name, id, modified };
        Ok(Versions { versions: versions.into_iter().map(version).collect(), markers, is_whole, now })
    }

    async fn read(&self, version: &Version, longest: usize) -> Result<Vec<u8>, StoreError> {
        let Version { name, id, .. } = version;
        let read =
            |credentials: Arc<Credentials>| async move { self.bucket.read(name, id, longest, &credentials).await };
        self.lend(read).await
    }
}
