//! The Nitro Security Module: seeds the kernel's random number generator and signs attestation documents.

pub(crate) mod witness;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroize;

use crate::sys;

const NSM_PATH: &str = "/dev/nsm";
const RNG_PATH: &str = "/sys/devices/virtual/misc/hw_random/rng_current";

/// The name that the kernel's driver registers (drivers/misc/nsm.c).
const RNG_NAME: &str = "nsm-hwrng";

/// The NSM answers in milliseconds. Without an answer after this time it is broken.
const DEADLINE: Duration = Duration::from_secs(5);

/// The NSM's device, open for as long as the machine runs.
pub(crate) struct Nsm {
    device: Arc<File>,
}

impl Nsm {
    /// Opens the device, checks that the kernel uses it as its hardware generator, and credits 512 bits of it to the
    /// kernel's generator.
    pub(crate) async fn open_and_seed() -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open(NSM_PATH).context(NSM_PATH)?;
        let current = fs::read_to_string(RNG_PATH).context(RNG_PATH)?;
        ensure!(current.trim() == RNG_NAME, "{RNG_PATH}: `{}`, expected `{RNG_NAME}`", current.trim());
        let module = Self { device: Arc::new(device) };
        let mut seed = module.random().await?;
        let random = File::open("/dev/random").context("/dev/random")?;
        let result = sys::add_entropy(random.as_fd(), &seed).context("RNDADDENTROPY on /dev/random");
        seed.zeroize();
        result.map(|()| module)
    }

    /// An attestation document: the machine's measurements, `nonce` and `user_data`, signed by the module.
    pub(crate) async fn attest(&self, nonce: [u8; 32], user_data: Vec<u8>) -> Result<Vec<u8>> {
        let request = Request::Attestation {
            user_data: Some(user_data.into()),
            nonce: Some(nonce.to_vec().into()),
            public_key: None,
        };
        let Response::Attestation { document } = self.ask("Attestation", request).await? else {
            bail!("{NSM_PATH}: Attestation: unexpected response");
        };
        Ok(document)
    }

    /// The device, for the signer.
    pub(crate) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    async fn random(&self) -> Result<[u8; 64]> {
        let Response::GetRandom { mut random } = self.ask("GetRandom", Request::GetRandom).await? else {
            bail!("{NSM_PATH}: GetRandom: unexpected response");
        };
        let seed = random.first_chunk::<64>().copied();
        let len = random.len();
        random.zeroize();
        seed.with_context(|| format!("{NSM_PATH}: {len} random bytes, expected at least 64"))
    }

    /// The request blocks in the driver, so it gets a thread of its own, which stays behind if the NSM hangs.
    async fn ask(&self, name: &'static str, request: Request) -> Result<Response> {
        let (sender, receiver) = oneshot::channel();
        let device = Arc::clone(&self.device);
        thread::Builder::new()
            .name("nsm".into())
            .spawn(move || {
                // The receiver is gone only after the deadline.
                drop(sender.send(nsm_process_request(device.as_raw_fd(), request)));
            })
            .context("start a thread")?;
        let answer =
            timeout(DEADLINE, receiver).await.map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed));
        let response = answer
            .and_then(|answer| answer.map_err(io::Error::other))
            .with_context(|| format!("{NSM_PATH}: {name}"))?;
        if let Response::Error(code) = response {
            bail!("{NSM_PATH}: {name}: {code:?}");
        }
        Ok(response)
    }
}
