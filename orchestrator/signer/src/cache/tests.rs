use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::*;

const TIME: Duration = Duration::from_mins(10);

fn id(name: &str) -> Id {
    Id::new(&KeyReference::SecretId(name.to_owned()), None)
}

fn fresh() -> Result<SecretKey, KeyError> {
    Ok(SecretKey::generate().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_key_is_fetched_once_and_then_found_until_its_time_is_up() {
    let cache = Cache::new(TIME);
    let now = Instant::now();
    let key = cache.key(id("a"), now, async { fresh() }).await.unwrap();
    let again =
        cache.key(id("a"), now + TIME - Duration::from_millis(1), async { panic!("fetched again") }).await.unwrap();
    assert_eq!(again.address(), key.address());
    let later = cache.key(id("a"), now + TIME, async { fresh() }).await.unwrap();
    assert_ne!(later.address(), key.address());
    assert_eq!(cache.metrics(), CacheMetrics { hits: 1, misses: 2, keys: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_time_is_up_leaves_memory_without_being_asked_for() {
    let cache = Cache::new(TIME);
    let now = Instant::now();
    let key = Arc::downgrade(&cache.key(id("a"), now, async { fresh() }).await.unwrap());
    cache.evict(now + TIME - Duration::from_millis(1));
    assert!(key.upgrade().is_some());
    cache.evict(now + TIME);
    assert!(key.upgrade().is_none(), "the key is still alive");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_for_one_key_fetch_it_once() {
    let cache = Arc::new(Cache::new(TIME));
    let fetches = Arc::new(AtomicUsize::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (cache, fetches) = (Arc::clone(&cache), Arc::clone(&fetches));
        requests.spawn(async move {
            let fetch = async {
                fetches.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(1)).await;
                fresh()
            };
            cache.key(id("a"), Instant::now(), fetch).await.unwrap().address()
        });
    }
    let addresses = requests.join_all().await;
    assert!(addresses.iter().all(|address| *address == addresses[0]));
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
    assert!(cache.state().fetching.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_those_who_wait_and_not_remembered() {
    let cache = Cache::new(TIME);
    let now = Instant::now();
    let failing = || {
        cache.key(id("a"), now, async {
            sleep(Duration::from_secs(1)).await;
            Err(KeyError::NotFound)
        })
    };
    let waiting = cache.key(id("a"), now, async { panic!("fetched beside") });
    let (one, other) = tokio::join!(failing(), waiting);
    assert_eq!((one.unwrap_err(), other.unwrap_err()), (KeyError::NotFound, KeyError::NotFound));
    assert!(cache.key(id("a"), now, async { fresh() }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn when_the_one_that_fetches_is_cancelled_the_next_one_does() {
    let cache = Cache::new(TIME);
    let now = Instant::now();
    let cancelled = tokio::time::timeout(Duration::from_secs(1), cache.key(id("a"), now, std::future::pending()));
    let waiting = cache.key(id("a"), now, async { fresh() });
    let (cancelled, fetched) = tokio::join!(cancelled, waiting);
    assert!(cancelled.is_err() && fetched.is_ok());
    assert!(cache.state().fetching.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_everybody_left_is_forgotten() {
    let cache = Cache::new(TIME);
    let left = cache.key(id("a"), Instant::now(), std::future::pending());
    assert!(tokio::time::timeout(Duration::from_secs(1), left).await.is_err());
    assert!(cache.state().fetching.is_empty());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_of_fetches_requests_are_turned_away() {
    let cache = Arc::new(Cache::new(TIME));
    let mut waiting = JoinSet::new();
    for at in 0..MAX_FETCHES {
        let cache = Arc::clone(&cache);
        waiting
            .spawn(async move { cache.key(id(&at.to_string()), Instant::now(), std::future::pending()).await.is_ok() });
    }
    sleep(Duration::from_millis(1)).await;
    let error = cache.key(id("another"), Instant::now(), async { fresh() }).await.unwrap_err();
    assert_eq!(error, KeyError::Busy);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_of_keys_the_longest_unused_goes() {
    let cache = Cache::new(TIME);
    let now = Instant::now();
    let at = |at: usize| now + Duration::from_millis(at as u64);
    for number in 0..MAX_KEYS {
        cache.key(id(&number.to_string()), at(number), async { fresh() }).await.unwrap();
    }
    cache.key(id("0"), at(MAX_KEYS), async { panic!("fetched again") }).await.unwrap();
    cache.key(id("new"), at(MAX_KEYS), async { fresh() }).await.unwrap();
    assert_eq!(cache.metrics().keys, MAX_KEYS);
    assert!(cache.state().keys.contains_key(&id("0")) && !cache.state().keys.contains_key(&id("1")));
}

#[test]
fn another_credential_is_another_entry() {
    let reference = KeyReference::SecretId("a".to_owned());
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let with = |id: &str, key: &str, token: Option<&str>| {
        Id::new(&reference, Some(&Credential::new(id.to_owned(), secret(key), token.map(secret)))).0
    };
    let ids = [
        Id::new(&reference, None).0,
        Id::new(&KeyReference::EncryptedKey(b"a".to_vec()), None).0,
        with("A", "k", None),
        with("B", "k", None),
        with("A", "l", None),
        with("A", "k", Some("t")),
        with("A", "k", Some("u")),
        with("Ak", "", None),
    ];
    let distinct: std::collections::HashSet<_> = ids.into_iter().collect();
    assert_eq!(distinct.len(), ids.len());
}
