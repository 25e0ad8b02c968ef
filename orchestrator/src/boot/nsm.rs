//! The Nitro Security Module: it must be there, be the kernel's source of randomness, and seed the kernel now.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use zeroize::Zeroize;

use crate::sys;

const NSM_PATH: &str = "/dev/nsm";
const RNG_PATH: &str = "/sys/devices/virtual/misc/hw_random/rng_current";

/// The name that the kernel's driver registers (drivers/misc/nsm.c).
const RNG_NAME: &str = "nsm-hwrng";

/// The module answers in milliseconds; one that does not is broken, and the machine with it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Checks both, and credits the kernel's generator with 512 bits from the module.
pub(super) fn check_and_seed() -> Result<()> {
    let module = OpenOptions::new().read(true).write(true).open(NSM_PATH).context(NSM_PATH)?;
    let current = fs::read_to_string(RNG_PATH).context(RNG_PATH)?;
    ensure!(current.trim() == RNG_NAME, "{RNG_PATH}: `{}`, expected `{RNG_NAME}`", current.trim());
    let mut seed = random(module)?;
    let random = File::open("/dev/random").context("/dev/random")?;
    let result = sys::add_entropy(random.as_fd(), &seed).context("RNDADDENTROPY on /dev/random");
    seed.zeroize();
    result
}

/// The request blocks in the driver, so it has a thread of its own, which is left behind when the module hangs.
fn random(module: File) -> Result<[u8; 64]> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("nsm".into())
        .spawn(move || {
            // Nobody listens any more only when the machine is going down.
            drop(sender.send(nsm_process_request(module.as_raw_fd(), Request::GetRandom)));
        })
        .context("start a thread")?;
    let response = receiver
        .recv_timeout(DEADLINE)
        .map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))
        .context(NSM_PATH)?;
    if let Response::Error(code) = response {
        bail!("{NSM_PATH}: GetRandom: {code:?}");
    }
    let Response::GetRandom { mut random } = response else {
        bail!("{NSM_PATH}: GetRandom: an answer to another request");
    };
    let seed = random.first_chunk::<64>().copied();
    let len = random.len();
    random.zeroize();
    seed.with_context(|| format!("{NSM_PATH}: {len} random bytes, expected at least 64"))
}
