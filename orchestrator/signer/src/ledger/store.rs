//! What the ledger needs of the bucket that it is in.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error;

/// A bucket whose objects are never overwritten: a write of a name that is there makes another version, or is refused.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Checks that the bucket keeps all versions and that nobody can delete one.
    async fn check(&self) -> Result<(), StoreError>;

    /// Writes an object unless there is one of that name, and has it kept for `keep` from now on.
    async fn create(&self, name: &str, content: &[u8], keep: Duration) -> Result<Creation, StoreError>;

    /// The versions of all objects whose names start with `prefix` and come after `after`, also those that are hidden.
    async fn versions(&self, prefix: &str, after: Option<&str>) -> Result<Versions, StoreError>;

    /// The content of one version. More than `longest` bytes are not read, and an error.
    async fn read(&self, version: &Version, longest: usize) -> Result<Vec<u8>, StoreError>;
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// There was no such object.
    Made {
        /// The version that was written.
        version: String,
    },
    /// There is one, or another write of it was under way.
    Taken,
}

/// What a bucket has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Those with a content, sorted by name.
    pub versions: Vec<Version>,
    /// How many delete markers there are, which hide objects from whoever does not ask for versions.
    pub markers: usize,
    /// Whether this is all.
    pub is_whole: bool,
    /// The bucket's time.
    pub now: SystemTime,
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name.
    pub name: String,
    /// S3's name of the version.
    pub id: String,
    /// When the bucket got it, by its own time.
    pub modified: SystemTime,
}

/// Why the bucket is of no use now. The texts are shown to clients, and have no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The same request may succeed in a moment.
    #[error("{0}")]
    Unavailable(String),
    /// AWS refuses, or the bucket is not as it has to be.
    #[error("{0}")]
    Refused(String),
}
