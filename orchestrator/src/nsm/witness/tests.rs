use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// A module that answers when it is told to, and says what it was asked.
struct Scene {
    witness: Witness,
    release: Sender<()>,
    asked: Receiver<Vec<u8>>,
    thread: JoinHandle<()>,
}

fn scene() -> Scene {
    let (release, released) = channel();
    let (tell, asked) = channel();
    let (witness, module) = over(move |request| {
        let Request::Attestation { nonce: Some(nonce), .. } = request else { panic!("{request:?}") };
        tell.send(nonce.to_vec()).unwrap();
        match released.recv() {
            Ok(()) => Response::Attestation { document: nonce.into_vec() },
            Err(_over) => Response::Error(aws_nitro_enclaves_nsm_api::api::ErrorCode::InternalError),
        }
    });
    Scene { witness, release, asked, thread: module.start(|| Ok(())).unwrap() }
}

impl Scene {
    async fn ask(&self, asker: Asker, nonce: u8) -> io::Result<Vec<u8>> {
        self.witness.document(asker, Some(&[nonce]), None, None).await
    }

    /// One who asks, and has asked.
    async fn asking(&self, asker: Asker, nonce: u8) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + '_>> {
        let mut asking = Box::pin(self.ask(asker, nonce));
        assert!(timeout(Duration::ZERO, &mut asking).await.is_err(), "no wait for {nonce}");
        asking
    }

    /// The same, and the module has begun with it.
    async fn begun(&self, nonce: u8) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + '_>> {
        let begun = self.asking(Asker::Client, nonce).await;
        assert_eq!(self.asked.recv().unwrap(), [nonce]);
        begun
    }
}

#[tokio::test]
async fn kms_is_asked_for_before_clients_who_came_first() {
    let scene = scene();
    let first = scene.begun(1).await;
    let second = scene.asking(Asker::Client, 2).await;
    let third = scene.asking(Asker::Client, 3).await;
    let kms = scene.asking(Asker::Kms, 4).await;
    for _ in 0..4 {
        scene.release.send(()).unwrap();
    }
    assert_eq!(first.await.unwrap(), [1]);
    assert_eq!((second.await.unwrap(), third.await.unwrap(), kms.await.unwrap()), (vec![2], vec![3], vec![4]));
    assert_eq!(scene.asked.try_iter().flatten().collect::<Vec<_>>(), [4, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_hangs_costs_each_asker_the_deadline_and_no_more() {
    let scene = scene();
    let start = Instant::now();
    for round in 1..=3 {
        let (client, kms) = tokio::join!(scene.ask(Asker::Client, 1), scene.ask(Asker::Kms, 2));
        for error in [client.unwrap_err(), kms.unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().starts_with("/dev/nsm: Attestation: no answer within 5s"), "{error}");
        }
        assert_eq!(start.elapsed(), round * DEADLINE);
    }
}

#[tokio::test]
async fn those_who_gave_up_are_not_asked_for_and_hold_no_place() {
    let scene = scene();
    let first = scene.begun(0).await;
    for _ in 0..3 {
        for nonce in 1..=u8::try_from(MAX_WAITING).unwrap() {
            drop(scene.asking(Asker::Client, nonce).await);
        }
    }
    scene.release.send(()).unwrap();
    scene.release.send(()).unwrap();
    assert_eq!((first.await.unwrap(), scene.ask(Asker::Client, 99).await.unwrap()), (vec![0], vec![99]));
    assert_eq!(scene.asked.try_iter().flatten().collect::<Vec<_>>(), [99]);
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_are_refused_at_once_and_clients_leave_room_for_kms() {
    let scene = scene();
    let mut waiting = vec![scene.begun(0).await];
    for _ in 0..MAX_WAITING {
        waiting.push(scene.asking(Asker::Client, 1).await);
    }
    let start = Instant::now();
    assert_eq!(scene.ask(Asker::Client, 2).await.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(scene.ask(Asker::Kms, 2).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn the_thread_ends_with_the_witness() {
    let Scene { witness, release, asked, thread } = scene();
    drop((witness, release, asked));
    thread.join().unwrap();
}

#[test]
fn a_thread_that_cannot_be_confined_is_none() {
    let (_witness, module) = over(|_request| panic!("asked"));
    let error = module.start(|| anyhow::bail!("no filter")).unwrap_err();
    assert_eq!(format!("{error:#}"), "the NSM's thread: no filter");
}
