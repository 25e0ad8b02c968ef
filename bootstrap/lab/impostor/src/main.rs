//! The lab's hostile enclave: it asks a gateway to add it as a peer, as the orchestrator does, but must be refused.
//!
//! It is the `/init` of its own image. The files in `/config` say what it does, see [`answer`]. It prints the
//! gateway's verdict in one line on the console, and reboots, which ends the VM:
//!
//! ```text
//! impostor: refused: the reason
//! impostor: accepted
//! impostor: error: why it got no verdict
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

/// For each step of the parent.
const DEADLINE: Duration = Duration::from_secs(10);
/// Attempts to connect: wg-server may be starting.
const CONNECTS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);
/// The heartbeat's byte in both directions (aws-nitro-enclaves-cli, enclave_proc).
const BEAT: u8 = 0xB7;

fn main() -> ExitCode {
    let verdict = run().unwrap_or_else(|error| format!("error: {error:#}"));
    // If the console is gone, nothing can be reported.
    drop(writeln!(io::stderr(), "impostor: {verdict}"));
    tcdrain(io::stderr()).ok();
    if std::process::id() == 1 {
        // It does not return. If it fails, the end of PID 1 panics the kernel, which reboots as well.
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
    let exchange = Preface::new(Role::Control).exchange(&mut stream);
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
