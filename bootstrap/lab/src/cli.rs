//! The command line.

mod follow;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use parent_vm::EnclaveId;
use tracing_subscriber::EnvFilter;

use crate::fault::FaultCommand;
use crate::host::{Blind, Lab, Options};
use crate::rogue::Rogue;
use crate::{bench, transcript};

/// A Nitro host on a laptop: a parent and its enclaves in QEMU, on one vsock switch that can do wrong on command.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    /// The lab's folder [default: $ENCLAVE_LAB_DIR, or enclave-wireguard/lab in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// The project's checkout [default: the one that this program lies in]
    #[arg(long, global = true)]
    project: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot the parent and enclaves, wait until the tunnels are up, say where things are
    Up {
        /// How many enclaves
        #[arg(long, default_value_t = 1)]
        enclaves: usize,
        /// What the switch does wrong from the start, in the words of `lab fault`: "stall --port 820 --for 5s"
        #[arg(long = "fault", value_name = "WORDS")]
        faults: Vec<FaultCommand>,
        /// An enclave image [default: built from bootstrap/lab/config/enclave]
        #[arg(long)]
        eif: Option<PathBuf>,
        /// A parent as EC2 gives it, at its first boot: nothing of this project is installed, and there are no enclaves
        #[arg(long, conflicts_with_all = ["enclaves", "eif"])]
        bare: bool,
        /// Do not wait for the tunnels
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop everything, leave nothing behind
    Down,
    /// What runs, since when, and the tunnels' state
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Run a command on the parent; its exit status is ours
    Exec {
        /// `parent`
        #[arg(value_parser = ["parent"])]
        machine: String,
        /// The command and its arguments, as they are
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Show an enclave's console
    Console {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Go on as it grows
        #[arg(short, long)]
        follow: bool,
    },
    /// Have the vsock switch do something wrong
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Start and stop enclaves, as nitro-cli would
    #[command(subcommand)]
    Enclave(EnclaveVerb),
    /// Blind mode: the gateway moves to a host of the lab's internet, the parent only carries
    #[command(subcommand)]
    Blind(BlindVerb),
    /// Have wg-server take enclaves of this image for peers, and no others
    Trust {
        /// The image; its measurements.json is beside it
        eif: PathBuf,
    },
    /// Bring the lab up and show, step by step, that the tunnel works
    Run {
        /// An enclave image [default: built from bootstrap/lab/config/enclave]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
    /// Measure throughput and latency beside their references, write docs/benchmark/
    Bench(bench::Options),
    /// The vsock switch
    #[command(hide = true)]
    Switch(vsock_switch::Options),
    /// Run the machine of an enclave for a nitro-cli in the parent
    #[command(hide = true)]
    Hypervisor,
    #[command(flatten)]
    OnParent(parent_vm::Verb),
}

#[derive(Debug, Subcommand)]
enum BlindVerb {
    /// Start the gateway and the parent's relay, and boot an enclave whose image pins the gateway's key
    On {
        /// Its CID
        #[arg(default_value_t = EnclaveId::SECOND)]
        enclave: EnclaveId,
    },
    /// Terminate that enclave, and put the parent's own gateway back
    Off {
        /// Its CID
        #[arg(default_value_t = EnclaveId::SECOND)]
        enclave: EnclaveId,
    },
}

/// What to look at in blind mode.
const BLIND_WAYS_ON: &str = "
  target/release/lab exec parent -- ip netns exec gateway wg show                   the gateway's side of the tunnel
  target/release/lab exec parent -- tcpdump -n -i uplink0 not port 22               what the parent sees of it
  target/release/lab exec parent -- /usr/local/bin/wg-server status --runtime-dir /run/wg-gateway
  target/release/lab blind off                                                      back to the parent's own gateway
";

#[derive(Debug, Subcommand)]
enum EnclaveVerb {
    /// Boot an enclave
    Start {
        /// Its CID
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Its image [default: the one of `lab up`]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
    /// Terminate an enclave
    Stop {
        /// Its CID
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
    },
    /// Boot one that the gateway must refuse in the place of an enclave, show what the gateway says
    Rogue {
        /// What is wrong with it
        rogue: Rogue,
        /// Its CID
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
    },
    /// Terminate it and boot it anew
    Restart {
        /// Its CID
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Its image [default: the one of `lab up`]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
}

/// Does what the command line says.
///
/// # Errors
/// Those of the verb.
pub fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let open = || Lab::open(arguments.dir, arguments.project, None);
    match arguments.verb {
        Verb::Up { enclaves, faults, eif, bare, no_wait } => {
            let lab = open()?;
            let enclaves = if bare { 0 } else { enclaves };
            lab.up(&Options { enclaves, faults, eif, wait: !no_wait, is_bare: bare })?;
            print(&format!("{}{}", lab.status()?, transcript::WAYS_ON))
        }
        Verb::Down => match open()?.down()? {
            true => print("the lab is down, its folder is removed\n"),
            false => print("no lab is up\n"),
        },
        Verb::Status { json } => {
            let status = open()?.status()?;
            print(&if json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.to_string() })?;
            Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Exec { command, .. } => exec(&open()?, &command),
        Verb::Console { enclave, follow } => follow::show(&open()?, enclave, follow),
        Verb::Fault(fault) => print(&format!("{}\n", open()?.fault(&fault)?)),
        Verb::Enclave(EnclaveVerb::Start { enclave, eif }) => start(&open()?, enclave, eif),
        Verb::Enclave(EnclaveVerb::Stop { enclave }) => match open()?.enclave(enclave).stop()? {
            true => print(&format!("enclave {enclave} is terminated\n")),
            false => print(&format!("enclave {enclave} does not run\n")),
        },
        Verb::Enclave(EnclaveVerb::Rogue { rogue, enclave }) => {
            let reason = open()?.enclave(enclave).replace(rogue)?;
            print(&format!("the gateway refuses enclave {enclave}: {reason}\n"))
        }
        Verb::Blind(BlindVerb::On { enclave }) => {
            let lab = open()?;
            Blind::begin(&lab)?.boot(enclave)?;
            print(&format!("enclave {enclave} has a tunnel to 192.0.2.10, which its image pins\n{BLIND_WAYS_ON}"))
        }
        Verb::Blind(BlindVerb::Off { enclave }) => {
            let lab = open()?;
            lab.enclave(enclave).stop()?;
            Blind::end(&lab)?;
            print("the parent's own wg-server is the gateway again\n")
        }
        Verb::Trust { eif } => {
            open()?.parent()?.trust(&eif)?;
            print(&format!("wg-server takes enclaves of {} for peers, and no others\n", eif.display()))
        }
        Verb::Enclave(EnclaveVerb::Restart { enclave, eif }) => {
            let lab = open()?;
            lab.enclave(enclave).check_image(eif.as_deref())?;
            lab.enclave(enclave).stop()?;
            start(&lab, enclave, eif)
        }
        Verb::Run { eif } => transcript::run(&open()?, eif).map(|()| ExitCode::SUCCESS),
        Verb::Bench(options) => print(&bench::run(&open()?, &options)?),
        Verb::Switch(options) => vsock_switch::run(options).map(|()| ExitCode::SUCCESS),
        Verb::Hypervisor => open()?.hypervisor(),
        Verb::OnParent(verb) => print(&parent_vm::run(verb)?),
    }
}

fn start(lab: &Lab, id: EnclaveId, eif: Option<PathBuf>) -> Result<ExitCode> {
    let enclave = lab.enclave(id);
    enclave.start(eif.as_deref())?;
    let handshake = enclave.wait_tunnel()?;
    let seconds = handshake.since_kernel_start.as_secs_f64();
    print(&format!("enclave {id} runs, its tunnel came up {seconds:.2} s after its kernel started\n"))
}

fn exec(lab: &Lab, command: &[String]) -> Result<ExitCode> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let status = lab.parent()?.command(command, is_terminal).status().context("run ssh")?;
    // ssh has the command's status, or 255 if it did not get that far; a signal of its own has none.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// To stdout; a reader that leaves early is no error.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
