//! The ledger's bucket in S3, with the role's credentials.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms::{Bucket, BucketError, Credentials, Imds, ObjectVersion, RoleError, VersionList, Written};
use signer::ledger::{Creation, Store, StoreError, Version, Versions};

/// See the module.
pub(super) struct S3 {
    imds: Arc<Imds>,
    bucket: Bucket,
}

impl S3 {
    /// Makes no request.
    pub(super) fn new(imds: Arc<Imds>, bucket: Bucket) -> Self {
        Self { imds, bucket }
    }

    async fn lend<T, F>(&self, request: impl Fn(Arc<Credentials>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        self.imds.lend(request).await.map_err(|error| {
            let may_pass = match &error {
                RoleError::Call(call) => call.is_transient(),
                RoleError::Refused { .. } => false,
                RoleError::None(_) | RoleError::NoNewer { .. } => true,
            };
            let text = format!("{:#}", anyhow::Error::new(error));
            if may_pass { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
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
