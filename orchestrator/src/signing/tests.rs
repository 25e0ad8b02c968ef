//! Runs the signer inside its sandbox for the sandbox's tests, and tests it while the NSM hangs.

use std::fs::File;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ethereum::key::SecretKey;
use signer::keys::{FetchedKey, GeneratedKey, KeyError, Keys};
use signer_api::key::{Credential, KeyReference};
use tokio::time::sleep;

use super::*;
use crate::nsm::witness::{Module, over};

/// The sample's configuration, open to all clients: those here have no certificate.
fn config() -> Config {
    let (sample, signer) =
        (include_str!("../../../config/enclave/enclave.toml"), include_str!("../../../config/signer.toml"));
    let (before, rest) = signer.split_once("client_ca = ").unwrap();
    let (_, policy) = rest.split_once("[signer.policy]").unwrap();
    let text = format!("{sample}\n{before}open = true\n[signer.policy]{policy}");
    Config::parse(&text, Path::new("/nowhere")).unwrap()
}

/// The output of curl.
fn curl(arguments: &[&str]) -> String {
    let always = ["--silent", "--insecure", "--max-time", "20"];
    let output = Command::new("curl").args(always).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Calls `enter`, then serves a client thread that requests `/health` and a document; returns the responses.
pub(crate) fn serve_once(enter: impl FnOnce(Module) -> JoinHandle<()>) -> String {
    let config = config();
    let signing = config.signing.clone().unwrap();
    let (witness, module) = witness(File::open("/dev/null").unwrap().into());
    let (text, module) = crate::runtime::single_threaded().unwrap().block_on(async {
        let resolver = dns::resolver(&config.name_servers).unwrap();
        let listener = listen(0).unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let client = thread::spawn(move || curl(&[&format!("{url}/health"), &format!("{url}/attestation?nonce=00")]));
        let (keys, service) = prepare(signing, config.digest, resolver, Arc::new(witness)).unwrap();
        let module = enter(module);
        keys.prepare().unwrap();
        let stop = CancellationToken::new();
        let (served, ()) = tokio::join!(service.serve(listener, stop.clone()), async {
            while !client.is_finished() {
                sleep(Duration::from_millis(50)).await;
            }
            stop.cancel();
        });
        served.unwrap();
        (client.join().unwrap(), module)
    });
    // The thread ends once the last `Witness` is gone.
    module.join().unwrap();
    text
}

/// Returns a published test key for every reference.
struct OneKey;

impl Keys for OneKey {
    async fn fetch(&self, _reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        let key = SecretKey::parse(b"4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318").unwrap();
        Ok(FetchedKey { key, version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        Err(KeyError::Busy)
    }
}

/// Requests a signature with that nonce; returns the body and the status.
fn sign(url: &str, nonce: u64) -> String {
    let body = format!(
        r#"{{"transaction_payload": {{"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": {nonce},
        "chainId": 1, "gas": 100000, "maxFeePerGas": 1000, "maxPriorityFeePerGas": 10}}, "secret_id": "any"}}"#
    );
    curl(&["--write-out", "%{http_code}", "--data", &body, url])
}

#[tokio::test]
async fn a_module_that_hangs_holds_up_documents_and_nothing_else() {
    let config = config();
    let (release, released) = mpsc::channel::<()>();
    let (witness, module) = over(move |_request| {
        // Until the test is over.
        assert!(released.recv().is_err());
        aws_nitro_enclaves_nsm_api::api::Response::Error(aws_nitro_enclaves_nsm_api::api::ErrorCode::InternalError)
    });
    let thread = module.start(|| Ok(())).unwrap();
    let signing = config.signing.unwrap();
    let service = Service::new(signing.service, config.digest, OneKey, Documents(Arc::new(witness))).unwrap();
    let listener = listen(0).unwrap();
    let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let client = thread::spawn(move || {
        assert!(sign(&url, 0).ends_with("200"));
        let document = format!("{url}/attestation?nonce=00");
        let asking: Vec<_> = (0..8)
            .map(|_| document.clone())
            .map(|url| thread::spawn(move || curl(&["--write-out", "%{http_code}", &url])))
            .collect();
        let start = Instant::now();
        let mut nonce = 0;
        while !asking.iter().all(JoinHandle::is_finished) {
            nonce += 1;
            let before = Instant::now();
            let answer = sign(&url, nonce);
            assert!(answer.ends_with("200"), "{answer}");
            assert!(before.elapsed() < Duration::from_secs(2), "a signature waited for the module");
        }
        (nonce, start.elapsed(), asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>())
    });
    let stop = CancellationToken::new();
    let (served, ()) = tokio::join!(service.serve(listener, stop.clone()), async {
        while !client.is_finished() {
            sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
    });
    served.unwrap();
    let (signatures, elapsed, answers) = client.join().unwrap();
    let count = |code: &str, status: &str| {
        answers.iter().filter(|answer| answer.contains(code) && answer.ends_with(status)).count()
    };
    // One request waits for the NSM. The others are refused as busy.
    let (unavailable, busy) = (count("attestation_unavailable", "503"), count("busy", "429"));
    assert!(unavailable >= 1 && busy >= 1 && unavailable + busy == answers.len(), "{answers:?}");
    assert!(signatures > 3 && elapsed < Duration::from_secs(15), "{signatures} signatures in {elapsed:?}");
    drop(release);
    thread.join().unwrap();
}
