//! `wg-server named`: starts named for a wg-server that cannot become another user. It runs as named's user in a separate
//! service, and named is its child.
//!
//! wg-server connects to its socket. Each connection starts one named, and its end ends that named. Each message is a line of
//! JSON:
//!
//! | from | message | meaning |
//! |---|---|---|
//! | starter | `{"started": PID}` | named runs |
//! | starter | `{"failed": "why"}` | named could not be started |
//! | wg-server | `"kill"` | named hangs: send SIGKILL |
//! | starter | `{"ended": STATUS}` | named ended; the status is that of wait(2) |
//!
//! The configuration decides how named runs. wg-server cannot change it.

use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, geteuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::termination::{GRACE, terminate};
use super::{Account, Files, command};
use crate::config::Config;
use crate::{dns, service_manager, signals, sys};

/// For starting a process, or for the end of a killed one.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Started(u32),
    Failed(String),
    Ended(i32),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Kill,
}

/// Serves until SIGTERM.
pub(crate) fn run(config_path: &Path) -> Result<()> {
    let config = Config::load(config_path)?;
    let socket_path = config.dns.named_socket_path.as_deref().context(
        "dns.named_socket_path is not set, so wg-server starts named itself; expected a path like \"/run/wg-named/socket\"",
    )?;
    let wg_server = dns::key_owner(&config)?;
    let account = Account::find(config.dns.user.as_deref(), &[wg_server])?;
    ensure!(
        account.uid == geteuid(),
        "this process has the UID {}, but named must run as dns.user = {:?}; expected User={1} in the unit",
        geteuid(),
        account.name
    );
    umask(Mode::from_bits_truncate(0o027));
    // named ends with this thread.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(signals::run_until_signal(async |stop: CancellationToken| {
        let listener = bind(socket_path)?;
        service_manager::ready();
        tokio::select! {
            never = serve(&listener, &config, wg_server, &stop) => match never {},
            () = stop.cancelled() => Ok(()),
        }
    }))
}

/// Any user may connect to the socket. The credentials of each connection decide who is served.
pub(super) fn bind(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let doing = || format!("listen on {}", path.display());
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(doing);
    }
    let listener = UnixListener::bind(path).with_context(doing)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(doing)?;
    Ok(listener)
}

/// Runs one named after the other, for the user `wg_server` only.
pub(super) async fn serve(
    listener: &UnixListener,
    config: &Config,
    wg_server: Uid,
    stop: &CancellationToken,
) -> Infallible {
    loop {
        let life = async {
            let (stream, _) = listener.accept().await.context("accept")?;
            ensure_is(&stream, wg_server).context("refused")?;
            live(stream, config, stop).await
        };
        if let Err(error) = life.await {
            tracing::warn!("{error:#}");
        }
    }
}

/// Runs one named from its start to its end.
async fn live(stream: UnixStream, config: &Config, stop: &CancellationToken) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut orders = BufReader::new(reader).lines();
    let files = Files::of(config);
    let mut child = match start(config, &files) {
        Ok(child) => child,
        Err(error) => return say(&mut writer, &Said::Failed(format!("{error:#}"))).await,
    };
    let pid = child.id().expect("a child that nobody has waited for has a PID");
    say(&mut writer, &Said::Started(pid)).await?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("wait for named")?,
            order = hear(&mut orders) => match order {
                Ok(Some(Order::Kill)) => child.kill().await.context("kill named")?,
                // wg-server is gone, or sent an invalid message.
                Ok(None) | Err(_) => terminate(&mut child).await?,
            },
            () = stop.cancelled() => terminate(&mut child).await?,
        }
    };
    // wg-server may be gone already.
    drop(say(&mut writer, &Said::Ended(status.into_raw())).await);
    Ok(())
}

fn start(config: &Config, files: &Files) -> Result<tokio::process::Child> {
    files.forget_last_words()?;
    let mut command: Command = command(&config.dns.named_path, files);
    sys::end_with_parent(&mut command);
    command.spawn().with_context(|| format!("start {}", config.dns.named_path.display()))
}

/// wg-server's side of a connection.
#[derive(Debug)]
pub(super) struct Life {
    pid: u32,
    said: Lines<BufReader<OwnedReadHalf>>,
    orders: Option<OwnedWriteHalf>,
    ended: Option<ExitStatus>,
}

impl Life {
    /// Starts named through the `wg-server named` behind this socket, which must run as the user `uid`.
    pub(super) async fn begin(socket_path: &Path, uid: Uid) -> Result<Self> {
        let doing = || {
            format!(
                "dns.named_socket_path: start named through {}, the socket of `wg-server named` (wg-named.service)",
                socket_path.display()
            )
        };
        let connected = timeout(DEADLINE, UnixStream::connect(socket_path)).await.with_context(doing)?;
        let stream = connected.with_context(doing)?;
        ensure_is(&stream, uid).with_context(doing)?;
        let (reader, writer) = stream.into_split();
        let mut said = BufReader::new(reader).lines();
        match timeout(DEADLINE, hear(&mut said)).await.with_context(doing)?.with_context(doing)? {
            Some(Said::Started(pid)) => Ok(Self { pid, said, orders: Some(writer), ended: None }),
            Some(Said::Failed(why)) => bail!("{why}"),
            other => bail!("{}: unexpected answer {other:?}", doing()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        match hear(&mut self.said).await.context("wait for named")? {
            Some(Said::Ended(status)) => Ok(*self.ended.insert(ExitStatus::from_raw(status))),
            _ => bail!("the `wg-server named` that started named has ended: see `journalctl -u wg-named`"),
        }
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        if let Some(orders) = &mut self.orders {
            say(orders, &Order::Kill).await.context("kill named")?;
        }
        timeout(DEADLINE, self.wait()).await.context("kill named")?.map(drop)
    }

    /// Ends the connection, which ends named.
    pub(super) async fn terminate(&mut self) -> Result<()> {
        self.orders = None;
        timeout(GRACE + DEADLINE, self.wait()).await.context("end named")?.map(drop)
    }
}

fn ensure_is(stream: &UnixStream, uid: Uid) -> Result<()> {
    let found = stream.peer_cred().context("read the peer's credentials")?.uid();
    ensure!(found == uid.as_raw(), "the peer has the UID {found}, expected the UID {uid}");
    Ok(())
}

/// The next message, or `None` at the end of the connection. Cancel safe.
async fn hear<T: DeserializeOwned>(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> Result<Option<T>> {
    let line = lines.next_line().await.context("read")?;
    line.map(|line| serde_json::from_str(&line).with_context(|| format!("unexpected message {line:?}"))).transpose()
}

async fn say(writer: &mut OwnedWriteHalf, message: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(message)? + "\n";
    timeout(DEADLINE, writer.write_all(line.as_bytes())).await.context("write")?.context("write")
}
