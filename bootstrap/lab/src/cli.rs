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
use crate::host::{Blind, Lab, Options, run_clients};
use crate::rogue::Rogue;
use crate::{bench, transcript};

/// A Nitro host on a laptop: a parent and its enclaves in QEMU, on a vsock switch that injects faults
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    /// Folder of the lab [default: $ENCLAVE_LAB_DIR, or enclave-wireguard/lab in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Checkout of the project [default: the one that contains this program]
    #[arg(long, global = true)]
    project: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot the parent and its enclaves, wait for their tunnels, and print the status
    Up {
        /// Number of enclaves
        #[arg(long, default_value_t = 1)]
        enclaves: usize,
        /// Inject a fault from the start, in the syntax of `lab fault`: "stall --port 820 --for 5s"
        #[arg(long = "fault", value_name = "FAULT")]
        faults: Vec<FaultCommand>,
        /// Enclave image [default: built from bootstrap/lab/config/enclave]
        #[arg(long)]
        eif: Option<PathBuf>,
        /// Boot the parent as EC2 does the first time: nothing of this project is installed, and there are no
        /// enclaves
        #[arg(long, conflicts_with_all = ["enclaves", "eif"])]
        bare: bool,
        /// Do not wait for the tunnels
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop everything and remove the lab's folder
    Down,
    /// Show what is running, for how long, and the state of the tunnels
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command on the parent, and exit with its status
    Exec {
        /// Where to run it: parent
        #[arg(value_parser = ["parent"])]
        machine: String,
        /// Command and arguments, passed on unchanged
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Show an enclave's console
    Console {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Keep printing until the enclave ends
        #[arg(short, long)]
        follow: bool,
    },
    /// Inject a fault into the vsock
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Start, stop and replace enclaves
    #[command(subcommand)]
    Enclave(EnclaveVerb),
    /// Switch blind mode on or off: the gateway is a host of the lab's internet, and the parent only relays
    #[command(subcommand)]
    Blind(BlindVerb),
    /// Accept only enclaves that run this image
    Trust {
        /// Image, with its measurements.json in the same folder
        eif: PathBuf,
    },
    /// Boot the lab and show step by step that everything works
    Run {
        /// Enclave image [default: built from bootstrap/lab/config/enclave]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
    /// Boot the lab, and have clients such as web3.py and ethers sign with an enclave, through `wallet proxy`
    Clients {
        /// Their names, as `bootstrap/clients/run.sh` has them [default: all]
        names: Vec<String>,
    },
    /// Measure throughput and latency against reference paths, and write docs/benchmark/
    Bench(bench::Options),
    /// Run the vsock switch
    #[command(hide = true)]
    Switch(vsock_switch::Options),
    /// Run the VM of an enclave for nitro-cli in the parent
    #[command(hide = true)]
    Hypervisor,
    #[command(flatten)]
    OnParent(parent_vm::Verb),
}

#[derive(Debug, Subcommand)]
enum BlindVerb {
    /// Start the gateway and the parent's relay, and boot an enclave whose image has the gateway's key
    On {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::SECOND)]
        enclave: EnclaveId,
    },
    /// Terminate that enclave, and start the parent's own gateway again
    Off {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::SECOND)]
        enclave: EnclaveId,
    },
}

/// What to try in blind mode.
const BLIND_NEXT_STEPS: &str = "
  target/release/lab exec parent -- ip netns exec gateway wg show                   show the gateway's side of the tunnel
  target/release/lab exec parent -- tcpdump -n -i uplink0 not port 22               show what the parent sees of it
  target/release/lab exec parent -- /usr/local/bin/wg-server status --runtime-dir /run/wg-gateway
  target/release/lab blind off                                                      return to the parent's own gateway
";

#[derive(Debug, Subcommand)]
enum EnclaveVerb {
    /// Boot an enclave
    Start {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Image [default: the one of `lab up`]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
    /// Terminate an enclave
    Stop {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
    },
    /// Replace an enclave with one that the gateway must refuse, and print the gateway's reason
    Rogue {
        /// What the new enclave does
        rogue: Rogue,
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
    },
    /// Terminate an enclave, and boot it again
    Restart {
        /// CID of the enclave
        #[arg(default_value_t = EnclaveId::FIRST)]
        enclave: EnclaveId,
        /// Image [default: the one of `lab up`]
        #[arg(long)]
        eif: Option<PathBuf>,
    },
}

/// Runs the command line.
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
            print(&format!("{}{}", lab.status()?, transcript::NEXT_STEPS))
        }
        Verb::Down => match open()?.down()? {
            true => print("the lab is down, and its folder is removed\n"),
            false => print("no lab is running\n"),
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
            true => print(&format!("enclave {enclave} terminated\n")),
            false => print(&format!("enclave {enclave} is not running\n")),
        },
        Verb::Enclave(EnclaveVerb::Rogue { rogue, enclave }) => {
            let reason = open()?.enclave(enclave).replace(rogue)?;
            print(&format!("the gateway refused enclave {enclave}: {reason}\n"))
        }
        Verb::Blind(BlindVerb::On { enclave }) => {
            let lab = open()?;
            Blind::begin(&lab)?.boot(enclave)?;
            print(&format!(
                "enclave {enclave} has a tunnel to the gateway 192.0.2.10, whose key is in its image\n{BLIND_NEXT_STEPS}"
            ))
        }
        Verb::Blind(BlindVerb::Off { enclave }) => {
            let lab = open()?;
            lab.enclave(enclave).stop()?;
            Blind::end(&lab)?;
            print("the parent's own wg-server is the gateway again\n")
        }
        Verb::Trust { eif } => {
            open()?.parent()?.trust(&eif)?;
            print(&format!("wg-server now accepts only enclaves that run {}\n", eif.display()))
        }
        Verb::Enclave(EnclaveVerb::Restart { enclave, eif }) => {
            let lab = open()?;
            lab.enclave(enclave).check_image(eif.as_deref())?;
            lab.enclave(enclave).stop()?;
            start(&lab, enclave, eif)
        }
        Verb::Run { eif } => transcript::run(&open()?, eif).map(|()| ExitCode::SUCCESS),
        Verb::Clients { names } => {
            let lab = open()?;
            lab.up(&Options::default())?;
            run_clients(&lab, &names).map(|()| ExitCode::SUCCESS)
        }
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
    print(&format!("enclave {id} is running; its tunnel was up {seconds:.2} s after its kernel started\n"))
}

fn exec(lab: &Lab, command: &[String]) -> Result<ExitCode> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let status = lab.parent()?.command(command, is_terminal).status().context("run ssh")?;
    // ssh exits with the command's status, or with 255 if it could not run it. Killed by a signal, it has no status.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Writes to stdout. A reader that leaves early is not an error.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
