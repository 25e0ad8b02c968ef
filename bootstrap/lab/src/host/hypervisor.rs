//! `lab hypervisor`: runs the VM of an enclave while a nitro-cli process in the parent holds its stream.
//!
//! QEMU starts `lab hypervisor` for each TCP connection from the parent to [`parent_vm::HYPERVISOR`], the connection
//! as its standard input and output.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nitro_cli::hypervisor::{End, Event, Start, receive, send};
use parent_vm::EnclaveId;

use super::enclave::Machine;
use super::{GRACE, Lab};
use crate::plan::Plan;
use crate::process::Process;

const POLL: Duration = Duration::from_millis(20);
/// Ten times the size of an image of this project.
const MAX_IMAGE_BYTES: u64 = 128 << 20;

impl Lab {
    /// Serves one stream on standard input and output.
    ///
    /// # Errors
    /// A stream that ends early or is not nitro-cli's. The VM is stopped first.
    pub fn hypervisor(&self) -> Result<ExitCode> {
        let mut input = BufReader::new(io::stdin());
        let Some(start) = receive::<Start>(&mut input).context("read nitro-cli's request")? else {
            return Ok(ExitCode::SUCCESS);
        };
        let mut image = input.by_ref().take(start.image_bytes);
        let power_on = self.power_on(&start, &mut image);
        // nitro-cli reads the answer only after it has written the whole image.
        io::copy(&mut image, &mut io::sink()).context("read the image")?;
        let process = match power_on {
            Ok(process) => process,
            Err(error) => {
                say(&Event::Refused(format!("{error:#}")))?;
                return Err(error);
            }
        };
        let said = say(&Event::Started);
        if said.is_ok() {
            self.watch(&process, input);
        }
        if process.is_running() {
            process.stop(&self.layout.process_dir(), GRACE)?;
        }
        // nitro-cli may have closed the stream.
        said.and_then(|()| say(&Event::Ended)).or(Ok(())).map(|()| ExitCode::SUCCESS)
    }

    fn power_on(&self, start: &Start, image: &mut impl Read) -> Result<Process> {
        let id: EnclaveId = start.cid.to_string().parse().map_err(anyhow::Error::msg)?;
        ensure!(!start.is_debug, "the lab has no debug mode: `lab console` shows the console of every enclave");
        ensure!(
            start.image_bytes <= MAX_IMAGE_BYTES,
            "the image has {} bytes; expected at most {MAX_IMAGE_BYTES}",
            start.image_bytes
        );
        let enclave = self.enclave(id);
        if enclave.is_running()? {
            bail!("CID {id} is in use by a running enclave");
        }
        let image_path = self.layout.image_path(&id.name());
        let mut file = File::create(&image_path).with_context(|| format!("write {}", image_path.display()))?;
        let copied = io::copy(image, &mut file).context("read the image")?;
        ensure!(copied == start.image_bytes, "the image ended after {copied} of {} bytes", start.image_bytes);
        enclave.power_on(
            &Plan::load(&self.layout)?,
            Machine { image_path, cpus: start.cpus, memory_mib: start.memory_mib },
        )
    }

    /// Returns when the VM has ended, or nitro-cli asks to end it.
    fn watch(&self, process: &Process, mut input: impl BufRead + Send + 'static) {
        let (sender, asked) = mpsc::channel();
        thread::spawn(move || {
            // A stream that ends, or that is not nitro-cli's, ends the VM as well.
            match receive::<End>(&mut input).map(|_| sender.send(())) {
                Ok(_) | Err(_) => {}
            }
        });
        while process.is_running() && asked.recv_timeout(POLL) == Err(mpsc::RecvTimeoutError::Timeout) {}
    }
}

fn say(event: &Event) -> Result<()> {
    send(&mut io::stdout().lock(), event).context("answer nitro-cli")
}
