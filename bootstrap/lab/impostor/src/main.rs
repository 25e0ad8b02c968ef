//! The lab's hostile enclave: asks a gateway to be its peer, as an orchestrator does, but without the right to.
//!
//! It is the `/init` of an image of its own; which wrong it does is what the image has in `/config`, see [`answer`]. What
//! the gateway says goes on the console in one line, and the machine restarts, which ends it:
//!
//! ```text
//! impostor: refused: the reason
//! impostor: accepted
//! impostor: error: what it could not even try
//! ```

mod answer;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tunnel::control::{self, ToEnclave, ToGateway};
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock::{self, Stream};

use answer::Wrong;

/// For anything that the parent has to do.
const DEADLINE: Duration = Duration::from_secs(10);
/// wg-server may just be starting.
const CONNECTS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);
/// What both sides of a heartbeat send (aws-nitro-enclaves-cli, enclave_proc).
const BEAT: u8 = 0xB7;

fn main() -> ExitCode {
    let verdict = run().unwrap_or_else(|error| format!("error: {error:#}"));
    // A console that is gone has no reader either.
    drop(writeln!(io::stderr(), "impostor: {verdict}"));
    tcdrain(io::stderr()).ok();
    if std::process::id() == 1 {
        // Its success has no value, and its failure is the end of PID 1: the kernel panics, and restarts as well.
        reboot(RebootMode::RB_AUTOBOOT).ok();
    }
    ExitCode::FAILURE
}

fn run() -> Result<String> {
    match mount(Some("devtmpfs"), "/dev", Some("devtmpfs"), MsFlags::empty(), None::<&str>) {
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(error) => return Err(error).context("mount devtmpfs on /dev"),
    }
    let wrong = Wrong::read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        beat().await.context("heartbeat")?;
        let mut stream = dial().await?;
        timeout(DEADLINE, ask(&mut stream, &wrong)).await.context("ask to be a peer")?
    })
}

async fn beat() -> Result<()> {
    let mut stream = vsock::connect(Cid::PARENT, Port::HEARTBEAT, DEADLINE).await?;
    stream.write_all(&[BEAT]).await?;
    let echo = timeout(DEADLINE, stream.read_u8()).await??;
    ensure!(echo == BEAT, "the answer is {echo:#x}, expected {BEAT:#x}");
    Ok(())
}

async fn dial() -> Result<Stream> {
    let mut tries = 0;
    let mut stream = loop {
        match vsock::connect(Cid::PARENT, Port::CONTROL, DEADLINE).await {
            Ok(stream) => break stream,
            Err(error) if tries == CONNECTS => return Err(error.into()),
            Err(_) => tries += 1,
        }
        sleep(PAUSE).await;
    };
    let exchange = Preface::first(Role::Control).exchange(&mut stream);
    timeout(DEADLINE, exchange).await.context("wait for the preface")?.context("exchange prefaces")?;
    Ok(stream)
}

async fn ask(stream: &mut Stream, wrong: &Wrong) -> Result<String> {
    let ToEnclave::Offer(offer) = control::read(stream).await.context("read the offer")? else {
        bail!("a verdict before there was an answer");
    };
    let answer = wrong.answer(&offer)?;
    control::write(stream, &ToGateway::Answer(answer)).await.context("send the answer")?;
    match control::read(stream).await.context("read the verdict")? {
        ToEnclave::Accepted(_) => Ok("accepted".to_owned()),
        ToEnclave::Refused(reason) => Ok(format!("refused: {}", reason.escape_debug())),
        ToEnclave::Offer(_) => bail!("a second offer instead of a verdict"),
    }
}
