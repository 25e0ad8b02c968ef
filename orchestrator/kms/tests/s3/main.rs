//! A bucket in moto's S3, behind the conditions that moto leaves out (`bootstrap/lab/internet/s3.py`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a panic fails the test"
)]

mod harness;

use std::time::{Duration, SystemTime};

use kms::{Bucket, BucketError, Written};

use harness::{ADMINISTRATOR, OWNER, ROLE, S3};

const DAY: Duration = Duration::from_hours(24);

async fn ledger(s3: &S3, name: &str) -> Bucket {
    s3.make_bucket(name, true).await;
    let bucket = s3.bucket(name, OWNER);
    bucket.check(&s3.credentials(ROLE)).await.unwrap();
    bucket
}

#[tokio::test]
async fn an_object_is_written_once_listed_and_read() {
    let s3 = S3::start();
    let (bucket, role) = (ledger(&s3, "example").await, s3.credentials(ROLE));
    let Written::Now(id) = bucket.create("nonce/a/b", b"one", DAY, &role).await.unwrap() else { panic!("not written") };
    assert_eq!(bucket.create("nonce/a/b", b"two", DAY, &role).await.unwrap(), Written::NotNow);
    bucket.create("nonce/b/b", b"three", DAY, &role).await.unwrap();

    let list = bucket.versions("nonce/a/", None, &role).await.unwrap();
    let [version] = &list.versions[..] else { panic!("{list:?}") };
    assert_eq!((version.name.as_str(), &version.id, list.markers, list.is_whole), ("nonce/a/b", &id, 0, true));
    let names = async |after| {
        let list = bucket.versions("nonce/", after, &role).await.unwrap();
        list.versions.into_iter().map(|version| version.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["nonce/a/b", "nonce/b/b"]);
    assert_eq!(names(Some("nonce/a/")).await, ["nonce/a/b", "nonce/b/b"]);
    assert_eq!(names(Some("nonce/a/b")).await, ["nonce/b/b"]);
    for time in [version.modified, list.now] {
        let difference = SystemTime::now().duration_since(time).unwrap_or_else(|error| error.duration());
        assert!(difference < Duration::from_mins(1), "{difference:?}");
    }
    assert_eq!(bucket.read("nonce/a/b", &id, 3, &role).await.unwrap(), b"one");
    assert!(matches!(bucket.read("nonce/a/b", &id, 2, &role).await, Err(BucketError::Length(2))));
}

#[tokio::test]
async fn what_an_administrator_hides_is_listed_and_nobody_can_delete_it() {
    let s3 = S3::start();
    let (bucket, role) = (ledger(&s3, "example").await, s3.credentials(ROLE));
    let Written::Now(first) = bucket.create("nonce/a/b", b"one", DAY, &role).await.unwrap() else { panic!() };
    let administrator = s3.client(ADMINISTRATOR);
    // The role may not even try.
    s3.client(ROLE).delete_object().bucket("example").key("nonce/a/b").send().await.unwrap_err();
    administrator.delete_object().bucket("example").key("nonce/a/b").send().await.unwrap();
    administrator.delete_object().bucket("example").key("nonce/a/b").version_id(&first).send().await.unwrap_err();
    let Written::Now(second) = bucket.create("nonce/a/b", b"two", DAY, &role).await.unwrap() else { panic!("hidden") };
    let list = bucket.versions("nonce/a/", None, &role).await.unwrap();
    let ids: Vec<_> = list.versions.iter().map(|version| version.id.clone()).collect();
    assert!(ids.contains(&first) && ids.contains(&second) && list.markers == 1, "{list:?}");
    assert_eq!(bucket.read("nonce/a/b", &first, 100, &role).await.unwrap(), b"one");
}

#[tokio::test]
async fn a_bucket_that_is_not_as_it_has_to_be_is_refused_and_the_reason_named() {
    let s3 = S3::start();
    s3.make_bucket("example", true).await;
    s3.make_bucket("without-lock", false).await;
    let role = s3.credentials(ROLE);
    for (name, owner, expected) in [
        ("without-lock", OWNER, "has no versioning"),
        ("missing", OWNER, "NoSuchBucket"),
        ("example", "444455556666", "expected the bucket example of account 444455556666"),
    ] {
        let error = s3.bucket(name, owner).check(&role).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    s3.enable_versioning("without-lock").await;
    let error = s3.bucket("without-lock", OWNER).check(&role).await.unwrap_err();
    assert!(matches!(error, BucketError::NoLock(_)), "{error}");
    let error = s3.bucket_in("us-east-1", "example", OWNER).check(&role).await.unwrap_err().to_string();
    assert!(error.contains("expected the bucket example in us-east-1, the region of kms.key_arn"), "{error}");
    // Before the check, there is no time to keep anything until.
    let error = s3.bucket("example", OWNER).create("nonce/a/b", b"one", DAY, &role).await.unwrap_err();
    assert!(matches!(error, BucketError::Missing("Date")), "{error}");
}

#[tokio::test]
async fn each_request_names_the_owner() {
    let s3 = S3::start();
    s3.make_bucket("example", true).await;
    let (right, role) = (s3.bucket("example", OWNER), s3.credentials(ROLE));
    right.check(&role).await.unwrap();
    let Written::Now(id) = right.create("nonce/a/b", b"one", DAY, &role).await.unwrap() else { panic!() };
    let wrong = s3.bucket("example", "444455556666");
    let is_denied = |error: BucketError| error.to_string().contains("AccessDenied");
    // It learns S3's time even so.
    assert!(wrong.check(&role).await.is_err_and(is_denied));
    assert!(wrong.create("nonce/b/b", b"one", DAY, &role).await.is_err_and(is_denied));
    assert!(wrong.versions("nonce/", None, &role).await.is_err_and(is_denied));
    assert!(wrong.read("nonce/a/b", &id, 100, &role).await.is_err_and(is_denied));
}

#[tokio::test]
async fn of_many_writes_at_once_one_succeeds() {
    let s3 = S3::start();
    let (bucket, role) = (ledger(&s3, "example").await, s3.credentials(ROLE));
    let write = |content: &'static [u8]| bucket.create("nonce/a/b", content, DAY, &role);
    let (a, b, c, d) = tokio::join!(write(b"a"), write(b"b"), write(b"c"), write(b"d"));
    let made = [a, b, c, d].into_iter().filter(|written| matches!(written, Ok(Written::Now(_)))).count();
    assert_eq!((made, bucket.versions("nonce/a/", None, &role).await.unwrap().versions.len()), (1, 1));
}

#[tokio::test]
async fn faults_are_named_and_those_that_pass_are_known() {
    let s3 = S3::start();
    let (bucket, role) = (ledger(&s3, "example").await, s3.credentials(ROLE));
    s3.fail("PutObject slow-down 1\nListObjectVersions lose-answer 1");
    let error = bucket.create("nonce/a/b", b"one", DAY, &role).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("s3:PutObject"), "{error}");
    let error = bucket.versions("nonce/", None, &role).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("s3:ListBucketVersions"), "{error}");
    s3.fail("PutObject conflict 1");
    assert_eq!(bucket.create("nonce/a/b", b"one", DAY, &role).await.unwrap(), Written::NotNow);
    assert!(matches!(bucket.create("nonce/a/b", b"one", DAY, &role).await, Ok(Written::Now(_))));
    // Written, and nobody knows.
    s3.fail("PutObject lose-answer 1");
    assert!(bucket.create("nonce/b/b", b"one", DAY, &role).await.is_err_and(|error| error.is_transient()));
    assert_eq!(bucket.create("nonce/b/b", b"one", DAY, &role).await.unwrap(), Written::NotNow);
}

#[tokio::test]
async fn an_object_is_kept_until_a_time_of_s3_s_clock() {
    let s3 = S3::ahead(600);
    let (bucket, role) = (ledger(&s3, "example").await, s3.credentials(ROLE));
    let Written::Now(id) = bucket.create("nonce/a/b", b"one", DAY, &role).await.unwrap() else { panic!() };
    let head = s3.client(ADMINISTRATOR).head_object().bucket("example").key("nonce/a/b").version_id(id).send().await;
    let until = SystemTime::try_from(*head.unwrap().object_lock_retain_until_date().unwrap()).unwrap();
    let ahead = until.duration_since(SystemTime::now() + DAY).expect("later than this machine's day");
    assert!((Duration::from_mins(9)..=Duration::from_mins(10)).contains(&ahead), "{ahead:?}");
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_named() {
    let s3 = S3::ahead(3600);
    let error = s3.bucket("example", OWNER).check(&s3.credentials(ROLE)).await.unwrap_err().to_string();
    assert!(error.contains("RequestTimeTooSkewed"), "{error}");
    assert!(error.ends_with("expected a clock that differs from S3's by less than 15 minutes"), "{error}");
}
