//! The process that holds an enclave, from before its start to its end.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stderr, dup2_stdout, setsid};
use serde_json::json;

use crate::command::{Command, Description, Flags, State};
use crate::failure::{Failure, Number, Result};
use crate::heartbeat::Heartbeat;
use crate::hypervisor::{Enclave, Ender, Start, receive, send};
use crate::run::{Said, Wanted};
use crate::sockets::Socket;
use crate::{eif, log};

/// The device of AWS's driver.
const DEVICE: &str = "/dev/nitro_enclaves";
/// aws-nitro-enclaves-cli: `ENCLAVE_MEMORY_EIF_SIZE_RATIO`.
const MEMORY_PER_IMAGE: u64 = 4;
/// The CID of an enclave without `--enclave-cid`.
const DEFAULT_CID: u32 = 16;

/// Returns when the enclave has ended. Reports an error on standard output if it happens before the enclave runs.
pub(crate) fn main(wanted: &Wanted) -> Result<()> {
    // The process that started this one ends first.
    setsid().map_err(Failure::of(Number::ProcessSpawn, "leave the session"))?;
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT]);
    signals.thread_block().map_err(Failure::of(Number::ProcessSpawn, "block signals"))?;
    let result = hold(wanted, signals);
    if let Err(failure) = &result {
        drop(log::line(&failure.to_string()));
        // run-enclave shows it, so this process must not report it again. Once the enclave has run, nothing reads it.
        if say(&Said::Failed(failure.clone())).is_ok() {
            drop(close_streams());
        }
    }
    result
}

fn hold(wanted: &Wanted, signals: SigSet) -> Result<()> {
    let (enclave, description) = start(wanted)?;
    let socket = Socket::bind(&description.enclave_id)?;
    let listener = socket.listener.try_clone().map_err(Failure::of(Number::Socket, "keep the socket"))?;
    let ender = enclave.ender().map_err(Failure::of(Number::Socket, "keep the enclave's stream"))?;
    let holder = Arc::new(Mutex::new(Holder { ender, description, waiting: Vec::new() }));
    let by_signal = holder.clone();
    thread::spawn(move || {
        if signals.wait().is_ok() {
            lock(&by_signal).end();
        }
    });
    let by_command = holder.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may have closed its stream.
            drop(lock(&by_command).answer(stream));
        }
    });
    say(&Said::Running(run_info(&lock(&holder).description)))?;
    close_streams().map_err(Failure::of(Number::FileOperation, "open /dev/null"))?;
    // The end of the stream also means that the enclave has ended.
    drop(enclave.wait());
    lock(&holder).has_ended();
    drop(socket);
    log::line("the enclave has ended")
}

/// Returns when the enclave has booted.
fn start(wanted: &Wanted) -> Result<(Enclave, Description)> {
    let path = &wanted.eif_path;
    let reading = || Failure::of(Number::FileOperation, format!("read the image {}", path.display()));
    let mut image = File::open(path).map_err(reading())?;
    let image_bytes = image.metadata().map_err(reading())?.len();
    let needed_mib = image_bytes.div_ceil(1 << 20) * MEMORY_PER_IMAGE;
    if needed_mib > wanted.memory_mib {
        let what = format!("--memory: {} MiB; expected at least {needed_mib} MiB for this image", wanted.memory_mib);
        return Err(Failure::new(Number::InsufficientMemoryRequested, what));
    }
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    device.map_err(Failure::of(Number::FileOperation, format!("open {DEVICE}")))?;
    eif::check_signature(path)?;
    say(&Said::Progress("Start allocating memory...".to_owned()))?;
    let cid = wanted.cid.unwrap_or(DEFAULT_CID);
    let heartbeat = Heartbeat::listen()?;
    let start = Start {
        cid,
        cpus: u32::try_from(wanted.cpu_ids.len()).expect("a command line has fewer words"),
        memory_mib: wanted.memory_mib,
        is_debug: wanted.is_debug,
        image_bytes,
    };
    let enclave = Enclave::start(&start, &mut image)
        .map_err(Failure::of(Number::EnclaveStart, format!("start enclave {cid}")))?;
    let (ids, memory) = (&wanted.cpu_ids, wanted.memory_mib);
    say(&Said::Progress(format!("Started enclave with enclave-cid: {cid}, memory: {memory} MiB, cpu-ids: {ids:?}")))?;
    // Measures the image while the enclave boots.
    let measurements = eif::measurements(path)?;
    heartbeat.wait(cid)?;
    let description = Description {
        enclave_name: wanted.name.clone(),
        enclave_id: format!("i-0000000000000000-enc{cid:x}"),
        process_id: std::process::id(),
        enclave_cid: cid,
        number_of_cpus: wanted.cpu_ids.len(),
        cpu_ids: wanted.cpu_ids.clone(),
        memory_mib: wanted.memory_mib,
        state: State::Running,
        flags: if wanted.is_debug { Flags::DebugMode } else { Flags::None },
        measurements,
    };
    Ok((enclave, description))
}

/// The handle to terminate the enclave, and the clients that wait for its end.
struct Holder {
    ender: Ender,
    description: Description,
    waiting: Vec<UnixStream>,
}

impl Holder {
    fn answer(&mut self, mut stream: UnixStream) -> io::Result<()> {
        match receive(&mut BufReader::new(stream.try_clone()?))? {
            Some(Command::Describe) => send(&mut stream, &self.description),
            Some(Command::Terminate) => {
                self.waiting.push(stream);
                self.end();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        self.description.state = State::Terminating;
        // If the stream is closed, the enclave has ended already.
        drop(self.ender.end());
    }

    fn has_ended(&mut self) {
        for mut stream in self.waiting.drain(..) {
            drop(send(&mut stream, &self.description));
        }
    }
}

fn lock(holder: &Mutex<Holder>) -> MutexGuard<'_, Holder> {
    holder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The output of `run-enclave`.
fn run_info(description: &Description) -> serde_json::Value {
    json!({
        "EnclaveName": description.enclave_name,
        "EnclaveID": description.enclave_id,
        "ProcessID": description.process_id,
        "EnclaveCID": description.enclave_cid,
        "NumberOfCPUs": description.number_of_cpus,
        "CPUIDs": description.cpu_ids,
        "MemoryMiB": description.memory_mib,
    })
}

fn say(what: &Said) -> Result<()> {
    let mut out = io::stdout().lock();
    send(&mut out, what).and_then(|()| out.flush()).map_err(Failure::of(Number::Socket, "answer run-enclave"))
}

/// Closes stdout and stderr, so that a reader of run-enclave's output sees its end.
fn close_streams() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
