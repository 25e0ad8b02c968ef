//! S3: a bucket whose objects are written once and kept.
//!
//! Each request names the account that the bucket belongs to (`x-amz-expected-bucket-owner`): a bucket of that name in another account,
//! which anybody can make once this one is gone, is refused.
//!
//! Times are S3's: how long an object is kept counts from the date of an earlier answer, and not from this machine's clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled, ObjectLockMode};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use thiserror::Error;
use tokio::time::Instant;

use crate::config::BucketSettings;
use crate::credentials::Credentials;
use crate::https::{CallError, Https};
use crate::refusal::{Reason, Refusal};
use crate::retry::Attempt;
use crate::role::AwsError;
use crate::sdk;

/// The bucket of one ledger.
pub struct Bucket {
    settings: BucketSettings,
    https: Https,
    clock: Clock,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was no such object; the new version's id.
    Now(String),
    /// There is one (HTTP 412), or another request for it was under way (409).
    NotNow,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object's name.
    pub name: String,
    /// The version's id.
    pub id: String,
    /// When S3 got it.
    pub modified: SystemTime,
}

/// A page of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionList {
    /// Sorted by name; those of a name from the newest to the oldest.
    pub versions: Vec<ObjectVersion>,
    /// How many delete markers there are among them.
    pub markers: usize,
    /// Whether this is all.
    pub is_whole: bool,
    /// S3's time.
    pub now: SystemTime,
}

/// Why the bucket did not do what was asked.
#[derive(Debug, Error)]
pub enum BucketError {
    /// AWS refuses.
    #[error("S3 refuses {action}: {}; {hint}", .refusal.fact())]
    Refused {
        /// The IAM action.
        action: &'static str,
        /// What AWS says.
        refusal: Refusal,
        /// What would be right.
        hint: String,
    },
    /// No answer, or none that can be read.
    #[error("ask S3 for {action}")]
    Call {
        /// The IAM action.
        action: &'static str,
        /// Why.
        source: CallError,
    },
    /// Objects could be overwritten.
    #[error(
        "the bucket {0} has no versioning; expected a bucket that was made with Object Lock, which brings versioning"
    )]
    NoVersioning(String),
    /// Versions could be deleted.
    #[error("the bucket {0} has no Object Lock; expected a bucket that was made with it")]
    NoLock(String),
    /// An answer lacks what the API documents.
    #[error("S3 sent no {0}")]
    Missing(&'static str),
    /// The object is longer than what is read.
    #[error("an object of more than {0} bytes")]
    Length(usize),
}

impl Bucket {
    /// Makes no request yet.
    #[must_use]
    pub fn new(settings: BucketSettings, https: Https) -> Self {
        Self { settings, https, clock: Clock::default() }
    }

    /// Checks that the bucket keeps every version, and that versions can be kept from everybody.
    ///
    /// # Errors
    /// What is in [`BucketError`].
    pub async fn check(&self, credentials: &Credentials) -> Result<(), BucketError> {
        let client = self.sdk(credentials);
        let BucketSettings { name, owner, .. } = &self.settings;
        let asked = client.get_bucket_versioning().bucket(name).expected_bucket_owner(owner);
        let answer = asked.customize().interceptor(self.clock.clone()).send().await;
        let answer = answer.map_err(|error| self.error("s3:GetBucketVersioning", CallError::of(error)))?;
        if answer.status() != Some(&BucketVersioningStatus::Enabled) {
            return Err(BucketError::NoVersioning(name.clone()));
        }
        let asked = client.get_object_lock_configuration().bucket(name).expected_bucket_owner(owner).send().await;
        let answer = match asked.map_err(CallError::of) {
            // S3's way to say that there is none.
            Err(CallError::Refused(refusal)) if refusal.code == "ObjectLockConfigurationNotFoundError" => None,
            answer => {
                answer
                    .map_err(|error| self.error("s3:GetBucketObjectLockConfiguration", error))?
                    .object_lock_configuration
            }
        };
        let lock = answer.and_then(|lock| lock.object_lock_enabled);
        if lock != Some(ObjectLockEnabled::Enabled) {
            return Err(BucketError::NoLock(name.clone()));
        }
        Ok(())
    }

    /// Writes an object unless there is one of that name. For `keep` from now on, nobody can delete it.
    ///
    /// # Errors
    /// What is in [`BucketError`]. It may have been written unless AWS has refused.
    pub async fn create(
        &self,
        name: &str,
        content: &[u8],
        keep: Duration,
        credentials: &Credentials,
    ) -> Result<Written, BucketError> {
        let until = self.clock.now().ok_or(BucketError::Missing("Date"))? + keep;
        let BucketSettings { name: bucket, owner, .. } = &self.settings;
        let asked = self
            .sdk(credentials)
            .put_object()
            .bucket(bucket)
            .expected_bucket_owner(owner)
            .key(name)
            .if_none_match("*")
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(DateTime::from(until))
            .content_type("text/plain")
            .body(ByteStream::from(content.to_vec()))
            .customize()
            .interceptor(self.clock.clone());
        match asked.send().await.map_err(CallError::of) {
            Ok(answer) => answer.version_id.map(Written::Now).ok_or(BucketError::Missing("x-amz-version-id")),
            Err(CallError::Refused(Refusal { status: 409 | 412, .. })) => Ok(Written::NotNow),
            Err(error) => Err(self.error("s3:PutObject", error)),
        }
    }

    /// The first thousand versions, also those behind delete markers, of objects whose names start with `prefix` and come after `after`.
    ///
    /// # Errors
    /// What is in [`BucketError`].
    pub async fn versions(
        &self,
        prefix: &str,
        after: Option<&str>,
        credentials: &Credentials,
    ) -> Result<VersionList, BucketError> {
        let BucketSettings { name: bucket, owner, .. } = &self.settings;
        let asked = self
            .sdk(credentials)
            .list_object_versions()
            .bucket(bucket)
            .expected_bucket_owner(owner)
            .prefix(prefix)
            .set_key_marker(after.map(str::to_owned))
            .customize()
            .interceptor(self.clock.clone());
        let answer = asked.send().await;
        let answer = answer.map_err(|error| self.error("s3:ListBucketVersions", CallError::of(error)))?;
        let (markers, is_whole) = (answer.delete_markers().len(), !answer.is_truncated().unwrap_or(true));
        let version = |version: aws_sdk_s3::types::ObjectVersion| {
            let modified = version.last_modified.and_then(|time| SystemTime::try_from(time).ok());
            Some(ObjectVersion { name: version.key?, id: version.version_id?, modified: modified? })
        };
        let versions = answer.versions.unwrap_or_default().into_iter().map(version).collect::<Option<Vec<_>>>();
        let versions = versions.ok_or(BucketError::Missing("Key, VersionId or LastModified of a version"))?;
        let now = self.clock.now().ok_or(BucketError::Missing("Date"))?;
        Ok(VersionList { versions, markers, is_whole, now })
    }

    /// The content of a version.
    ///
    /// # Errors
    /// What is in [`BucketError`], and more than `longest` bytes.
    pub async fn read(
        &self,
        name: &str,
        version: &str,
        longest: usize,
        credentials: &Credentials,
    ) -> Result<Vec<u8>, BucketError> {
        let action = "s3:GetObjectVersion";
        let BucketSettings { name: bucket, owner, .. } = &self.settings;
        let asked = self
            .sdk(credentials)
            .get_object()
            .bucket(bucket)
            .expected_bucket_owner(owner)
            .key(name)
            .version_id(version)
            .send()
            .await;
        let mut body = asked.map_err(|error| self.error(action, CallError::of(error)))?.body;
        let mut content = Vec::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| self.error(action, CallError::Unreachable(error.into())))?;
            if content.len() + part.len() > longest {
                return Err(BucketError::Length(longest));
            }
            content.extend_from_slice(&part);
        }
        Ok(content)
    }

    fn sdk(&self, credentials: &Credentials) -> Client {
        let BucketSettings { region, endpoint, .. } = &self.settings;
        let config = sdk::config(region, endpoint.as_ref(), &self.https, credentials);
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(endpoint.is_some());
        Client::from_conf(config.build())
    }

    fn error(&self, action: &'static str, error: CallError) -> BucketError {
        let CallError::Refused(refusal) = error else { return BucketError::Call { action, source: error } };
        let BucketSettings { name, owner, region, .. } = &self.settings;
        let hint = match refusal.code.as_str() {
            "RequestTimeTooSkewed" => "expected a clock that differs from S3's by less than 15 minutes".to_owned(),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                format!("expected the bucket {name} in {region}, the region of kms.key_arn")
            }
            _ => format!("expected the bucket {name} of account {owner}, and that the role may {action} there"),
        };
        BucketError::Refused { action, refusal, hint }
    }
}

impl BucketError {
    /// Whether the same request may succeed in a moment.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.is_transient())
    }
}

impl AwsError for BucketError {
    fn reason(&self) -> Option<Reason> {
        let Self::Refused { refusal, .. } = self else { return None };
        Some(refusal.reason)
    }
}

/// S3's time: that of the latest answer, and what has passed since.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<Mutex<Option<(SystemTime, Instant)>>>);

impl Clock {
    fn now(&self) -> Option<SystemTime> {
        let set = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.map(|(time, at)| time + at.elapsed())
    }

    fn set(&self, time: SystemTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        if let Some(time) = date.and_then(|date| SystemTime::try_from(date).ok()) {
            self.set(time);
        }
        Ok(())
    }
}
