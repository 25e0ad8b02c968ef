//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::command::{Command, Flags, ask};
use crate::failure::{Failure, Number, Result};
use crate::run::{self, PROCESS_VERB, Wanted};
use crate::{eif, log, process, sockets};

/// CIDs up to the host's are well known: vsock(7).
const LAST_WELL_KNOWN_CID: u32 = 2;

/// Runs and describes enclaves (the lab's stand-in for AWS's nitro-cli).
#[derive(Debug, Parser)]
#[command(name = "nitro-cli", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start an enclave
    RunEnclave(RunEnclave),
    /// Terminate an enclave
    TerminateEnclave(Which),
    /// Print the running enclaves
    DescribeEnclaves,
    /// Print an image's measurements
    DescribeEif {
        /// Image
        #[arg(long)]
        eif_path: PathBuf,
    },
    /// Show the console of an enclave in debug mode
    Console(Which),
    /// Hold an enclave
    #[command(name = PROCESS_VERB, hide = true)]
    EnclaveProcess {
        /// `Wanted`, as JSON
        wanted: String,
    },
}

#[derive(Args, Debug)]
struct RunEnclave {
    /// Ids of its processors
    #[arg(long, num_args = 1.., conflicts_with = "cpu_count", required_unless_present = "cpu_count")]
    cpu_ids: Vec<u32>,
    /// Number of processors
    #[arg(long)]
    cpu_count: Option<u32>,
    /// Memory in MiB
    #[arg(long)]
    memory: u64,
    /// Image
    #[arg(long)]
    eif_path: PathBuf,
    /// Context id; 0 for a free one
    #[arg(long)]
    enclave_cid: Option<u32>,
    /// Debug mode: PCRs of zeros, and a readable console
    #[arg(long)]
    debug_mode: bool,
    /// Name [default: the image's]
    #[arg(long)]
    enclave_name: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// Id of the enclave
    #[arg(long)]
    enclave_id: Option<String>,
    /// Name of the enclave
    #[arg(long)]
    enclave_name: Option<String>,
    /// All enclaves
    #[arg(long)]
    all: bool,
}

/// Runs the command line. The exit status is 0 or the number of the error.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match log::line(&format!("{arguments:?}")).and_then(|()| run(arguments.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            err(&failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::RunEnclave(options) => out(&run::run(wanted(options)?, err)?),
        Verb::TerminateEnclave(which) => {
            for id in ids(which)? {
                let enclave = ask(&sockets::path(&id), Command::Terminate)?;
                err(&format!("Successfully terminated enclave {id}."));
                out(&json!({"EnclaveName": enclave.enclave_name, "EnclaveID": id, "Terminated": true}))?;
            }
            Ok(())
        }
        Verb::DescribeEnclaves => {
            let (found, failed) = sockets::describe_all()?;
            if failed > 0 {
                err(&format!("Failed connections: {failed}"));
            }
            out(&found)
        }
        Verb::DescribeEif { eif_path } => out(&eif::describe(&eif_path)?),
        Verb::Console(which) => ids(which)?.iter().try_for_each(|id| console(id)),
        Verb::EnclaveProcess { wanted } => {
            process::main(&serde_json::from_str(&wanted).map_err(Failure::of(Number::Serde, "read the arguments"))?)
        }
    }
}

fn wanted(options: RunEnclave) -> Result<Wanted> {
    let cid = options.enclave_cid.filter(|cid| *cid != 0);
    if cid.is_some_and(|cid| cid <= LAST_WELL_KNOWN_CID) {
        let what = "--enclave-cid: CIDs up to 2 are reserved; expected 3 or more";
        return Err(Failure::new(Number::InvalidArgument, what));
    }
    let stem = options.eif_path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let Some(name) = options.enclave_name.or(stem) else {
        let what = format!("--eif-path: {} is not a file; expected one like enclave.eif", options.eif_path.display());
        return Err(Failure::new(Number::InvalidArgument, what));
    };
    Ok(Wanted {
        name,
        eif_path: options.eif_path,
        cid,
        memory_mib: options.memory,
        cpu_ids: options.cpu_count.map_or(options.cpu_ids, |count| (1..=count).collect()),
        is_debug: options.debug_mode,
    })
}

fn ids(which: Which) -> Result<Vec<String>> {
    match (which.enclave_id, which.enclave_name) {
        (Some(id), _) => Ok(vec![id]),
        (None, Some(name)) => Ok(vec![sockets::id_of(&name)?]),
        (None, None) => Ok(sockets::describe_all()?.0.into_iter().map(|enclave| enclave.enclave_id).collect()),
    }
}

/// Always an error: the lab has no debug mode, and shows the consoles itself.
fn console(id: &str) -> Result<()> {
    let enclave = ask(&sockets::path(id), Command::Describe)?;
    let what = match enclave.flags {
        Flags::None => "the enclave was not started with --debug-mode",
        Flags::DebugMode => "the lab shows consoles: `lab console`",
    };
    Err(Failure::new(Number::ConsoleConnection, format!("connect to the console of {id}: {what}")))
}

/// Prints one JSON value, as AWS's nitro-cli does.
fn out(object: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(object).map_err(Failure::of(Number::Serde, "write JSON"))?;
    writeln!(std::io::stdout(), "{text}").map_err(Failure::of(Number::FileOperation, "write to standard output"))
}

fn err(text: &str) {
    // If stderr is closed, it cannot be reported.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Verb, clap::Error> {
        Arguments::try_parse_from(["nitro-cli"].into_iter().chain(line.split(' '))).map(|arguments| arguments.verb)
    }

    #[test]
    fn what_the_unit_that_ships_starts_is_understood() {
        let unit = include_str!("../../../aws/systemd/enclave.service");
        for key in ["ExecStart=", "ExecStop=-"] {
            let line = unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let line = line.replace("${ENCLAVE_CPUS}", "2").replace("${ENCLAVE_MEMORY_MIB}", "512");
            let line = line.replace("${ENCLAVE_CID}", "16");
            parse(line.strip_prefix("/usr/bin/nitro-cli ").unwrap()).unwrap();
        }
    }

    #[test]
    fn an_enclave_is_named_by_its_image_and_has_as_many_processors_as_are_asked_for() {
        let Verb::RunEnclave(options) =
            parse("run-enclave --eif-path /a/hello.eif --cpu-count 2 --memory 64 --enclave-cid 0").unwrap()
        else {
            panic!("another verb");
        };
        let wanted = wanted(options).unwrap();
        assert_eq!((&*wanted.name, wanted.cid, &*wanted.cpu_ids), ("hello", None, &[1, 2][..]));
    }

    #[test]
    fn an_image_path_without_a_file_name_is_refused() {
        let Verb::RunEnclave(options) = parse("run-enclave --eif-path /a/.. --cpu-count 2 --memory 64").unwrap() else {
            panic!("another verb");
        };
        let failure = wanted(options).unwrap_err().to_string();
        assert!(failure.starts_with("[ E03 ] --eif-path: /a/.. is not a file"), "{failure}");
    }

    #[test]
    fn arguments_that_contradict_each_other_or_are_missing_are_refused() {
        for line in [
            "run-enclave --eif-path a --memory 64",
            "run-enclave --eif-path a --memory 64 --cpu-count 2 --cpu-ids 1",
            "terminate-enclave",
            "terminate-enclave --enclave-id a --enclave-name b",
            "describe-eif",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_number_of_an_error_is_in_its_text_and_its_status() {
        let Verb::RunEnclave(options) =
            parse("run-enclave --eif-path a --cpu-count 2 --memory 64 --enclave-cid 2").unwrap()
        else {
            panic!("another verb");
        };
        let failure = wanted(options).unwrap_err();
        assert!(failure.to_string().starts_with("[ E03 ] --enclave-cid"), "{failure}");
        assert_eq!(failure.status(), 3);
    }
}
