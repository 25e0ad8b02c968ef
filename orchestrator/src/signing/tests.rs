//! What the process does once it is in its sandbox, for the tests of that.

use std::fs::File;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tokio::time::sleep;

use super::*;

/// Has a client of another thread ask for `/health`, and serves it after `enter`; what the client got.
pub(crate) fn serve_once(enter: impl FnOnce()) -> String {
    let (sample, signer) =
        (include_str!("../../../config/enclave/enclave.toml"), include_str!("../../../config/signer.toml"));
    // Everybody is let in: this client has no certificate.
    let (before, rest) = signer.split_once("client_ca = ").unwrap();
    let (_, policy) = rest.split_once("[signer.policy]").unwrap();
    let text = format!("{sample}\n{before}open = true\n[signer.policy]{policy}");
    let config = Config::parse(&text, Path::new("/nowhere")).unwrap();
    let signing = config.signing.clone().unwrap();
    let witness = Arc::new(Witness::new(File::open("/dev/null").unwrap().into()));
    crate::runtime().unwrap().block_on(async {
        let resolver = dns::resolver(&config.name_servers).unwrap();
        let listener = listen(0).unwrap();
        let url = format!("https://127.0.0.1:{}/health", listener.local_addr().unwrap().port());
        let client = thread::spawn(move || {
            let arguments = ["--silent", "--insecure", "--retry", "9", "--retry-connrefused", "--max-time", "20", &url];
            Command::new("curl").args(arguments).output().unwrap()
        });
        let (keys, service) = prepare(signing, config.digest, resolver, witness).unwrap();
        enter();
        keys.prepare().unwrap();
        let stop = CancellationToken::new();
        let (served, ()) = tokio::join!(service.serve(listener, stop.clone()), async {
            while !client.is_finished() {
                sleep(Duration::from_millis(50)).await;
            }
            stop.cancel();
        });
        served.unwrap();
        String::from_utf8(client.join().unwrap().stdout).unwrap()
    })
}
