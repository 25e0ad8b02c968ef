//! QEMU's command lines for the parent and for enclaves.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tunnel::port::Cid;

/// On working KVM, a kernel without a disk panics within about a second.
const KVM_PATIENCE: Duration = Duration::from_secs(10);

/// Options for emulation, with a processor that is cheap to emulate.
///
/// Linux reads the TSC's rate only from an Intel processor; without the rate, an enclave's timers tick every 4 ms. On
/// Intel processors that speculate, Linux isolates page tables. Without PCID, which TCG lacks, that flushes the TLB
/// at each system call. Model 28, an early Atom, does not speculate. Emulated `rep movsb` and AVX are slower than the
/// code that Linux uses without them.
pub const TCG: [&str; 4] = [
    "-accel",
    "tcg",
    "-cpu",
    "max,vendor=GenuineIntel,family=6,model=28,erms=off,fsrm=off,fzrm=off,fsrs=off,avx=off,avx2=off",
];

/// What runs the guests' instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's emulation, which works on any host.
    Tcg,
}

/// The parent instance.
#[derive(Debug)]
pub(crate) struct ParentMachine {
    pub(crate) kernel_path: PathBuf,
    pub(crate) initrd_path: PathBuf,
    pub(crate) rootfs_path: PathBuf,
    /// A tar file.
    pub(crate) payload_path: PathBuf,
    pub(crate) vsock_path: PathBuf,
    pub(crate) console_path: PathBuf,
    /// Port on the host's loopback that is forwarded to the parent's sshd.
    pub(crate) ssh_port: u16,
    /// An address in the parent's network to the host, and the command to run for each connection to it.
    pub(crate) hypervisor: (&'static str, Vec<OsString>),
}

/// An enclave.
#[derive(Debug)]
pub(crate) struct EnclaveMachine {
    pub(crate) cid: Cid,
    pub(crate) eif_path: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) vsock_path: PathBuf,
    pub(crate) console_path: PathBuf,
    /// The key and the certificates of its security module.
    pub(crate) signer_dir: PathBuf,
}

/// One QEMU with its firmware.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    pub(crate) dir: PathBuf,
    pub(crate) accelerator: Accelerator,
}

impl Qemu {
    /// Tries whether KVM works here. Some hosts have a `/dev/kvm` that creates VMs, but Linux does not boot in them.
    /// `kernel_path` is the kernel to try. With `$ENCLAVE_LAB_ACCEL` set to `tcg` nothing is tried.
    pub(crate) fn new(dir: PathBuf, kernel_path: &Path) -> Result<Self> {
        let mut qemu = Self { dir, accelerator: Accelerator::Kvm };
        let wants_tcg = std::env::var_os("ENCLAVE_LAB_ACCEL").is_some_and(|named| named == "tcg");
        if wants_tcg || !Path::new("/dev/kvm").exists() || !has_virtualisation()? || !qemu.boots(kernel_path)? {
            qemu.accelerator = Accelerator::Tcg;
        }
        Ok(qemu)
    }

    pub(crate) fn parent(&self, machine: &ParentMachine) -> Command {
        let mut command = self.command();
        let drive = |id: &str, path: &Path| with_path(&format!("if=none,format=raw,readonly=on,id={id},file="), path);
        command
            .args(["-machine", "q35,memory-backend=memory"])
            .args(["-m", "1G", "-smp", "2"])
            // Shared, because the switch reads and writes the guest's rings.
            .args(["-object", "memory-backend-memfd,id=memory,size=1G,share=on"])
            .arg("-kernel")
            .arg(&machine.kernel_path)
            .arg("-initrd")
            .arg(&machine.initrd_path)
            // no_timer_check: on a busy host an emulated timer may be late, and the kernel would call it broken.
            .args(["-append", "console=ttyS0 quiet loglevel=4 panic=1 no_timer_check"])
            .args([OsString::from("-drive"), drive("root", &machine.rootfs_path)])
            .args(["-device", "virtio-blk-pci,drive=root"])
            .args([OsString::from("-drive"), drive("payload", &machine.payload_path)])
            .args(["-device", "virtio-blk-pci,drive=payload"])
            // The parent does not reach the host's network. Only ssh comes in, and only nitro-cli's streams go out.
            .args([OsString::from("-netdev"), host_network(machine)])
            .args(["-device", "virtio-net-pci,netdev=ssh,romfile="])
            .args(["-device", "virtio-rng-pci"])
            .args([OsString::from("-chardev"), with_path("socket,id=vsock,path=", &machine.vsock_path)])
            .args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
        console(&mut command, &machine.console_path);
        command
    }

    pub(crate) fn enclave(&self, machine: &EnclaveMachine) -> Command {
        let mut command = self.command();
        command
            .args(["-machine", &format!("nitro-enclave,vsock=vsock,id=lab-{}", machine.cid)])
            .args(["-m", &format!("{}M", machine.memory_mib), "-smp", &machine.cpus.to_string()])
            // The machine type creates the module. This form of -global takes a value with commas.
            .args([OsString::from("-global"), global("virtio-nsm-device", "signer", &machine.signer_dir)])
            // `reboot=k` resets the VM with it; without it, -no-reboot misses some reboots.
            .args(["-device", "i8042"])
            .arg("-kernel")
            .arg(&machine.eif_path)
            .args([OsString::from("-chardev"), with_path("socket,id=vsock,path=", &machine.vsock_path)]);
        console(&mut command, &machine.console_path);
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.dir.join("bin/qemu-system-x86_64"));
        command.arg("-L").arg(self.dir.join("firmware")).args(["-nodefaults", "-no-user-config", "-display", "none"]);
        // An enclave that reboots has ended, as on Nitro.
        command.arg("-no-reboot").args(match self.accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => TCG,
        });
        command
    }

    /// True if a kernel without a disk gets as far as the panic about it.
    fn boots(&self, kernel_path: &Path) -> Result<bool> {
        let mut child = self
            .command()
            .args(["-machine", "q35", "-m", "256M", "-smp", "2", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel_path)
            .args(["-append", "console=ttyS0 panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start QEMU to try KVM")?;
        let (sender, lines) = mpsc::channel();
        let readers = [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].map(|stream| {
            let sender = sender.clone();
            // Ends with QEMU, which is killed below.
            std::thread::spawn(move || {
                for line in
                    stream.into_iter().flat_map(|stream| BufReader::new(stream).split(b'\n')).map_while(Result::ok)
                {
                    // The receiver is gone once the answer is known.
                    sender.send(String::from_utf8_lossy(&line).into_owned()).ok();
                }
            })
        });
        drop(sender);
        let end = Instant::now() + KVM_PATIENCE;
        let works = loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("Kernel panic - not syncing: VFS") => break true,
                Ok(line) if line.contains("KVM internal error") => break false,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        child.kill().context("stop QEMU")?;
        child.wait().context("wait for QEMU")?;
        for reader in readers {
            drop(reader.join());
        }
        Ok(works)
    }
}

/// Whether the processor has virtualisation. Some hosts have a `/dev/kvm` without it, in which nothing boots.
fn has_virtualisation() -> Result<bool> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    Ok(cpuinfo.split_ascii_whitespace().any(|word| word == "vmx" || word == "svm"))
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

/// The network between the parent and its host.
fn host_network(machine: &ParentMachine) -> OsString {
    let (address, command) = &machine.hypervisor;
    let words: Vec<_> =
        command.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let forward = format!("user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", machine.ssh_port);
    with_path(&format!("{forward},guestfwd=tcp:{address}-cmd:"), Path::new(&words.join(" ")))
}

fn console(command: &mut Command, path: &Path) {
    command.args([OsString::from("-chardev"), with_path("file,id=console,append=on,path=", path)]);
    command.args(["-serial", "chardev:console"]);
}

/// A path in QEMU's option syntax, which doubles commas.
fn with_path(prefix: &str, path: &Path) -> OsString {
    format!("{prefix}{}", path.to_string_lossy().replace(',', ",,")).into()
}

/// A property of every device of a driver.
fn global(driver: &str, property: &str, path: &Path) -> OsString {
    let mut text = OsString::from(format!("{driver}.{property}="));
    text.push(path);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &Command) -> String {
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    const QEMU: fn() -> Qemu = || Qemu { dir: "/qemu".into(), accelerator: Accelerator::Tcg };

    #[test]
    fn an_enclave_boots_its_image_on_the_switch() {
        let line = arguments(&QEMU().enclave(&EnclaveMachine {
            cid: Cid(17),
            eif_path: "/x.eif".into(),
            cpus: 2,
            memory_mib: 512,
            vsock_path: "/a,b/17.vsock".into(),
            console_path: "/log/17".into(),
            signer_dir: "/a,b/signer".into(),
        }));
        assert!(line.contains("nitro-enclave,vsock=vsock,id=lab-17"), "{line}");
        assert!(line.contains("socket,id=vsock,path=/a,,b/17.vsock"), "{line}");
        assert!(line.contains("-global virtio-nsm-device.signer=/a,b/signer "), "{line}");
        assert!(line.contains("-no-reboot") && line.contains("-m 512M -smp 2"), "{line}");
    }

    #[test]
    fn the_parent_is_reached_from_the_host_s_loopback_only_and_reaches_its_hypervisor() {
        let line = arguments(&QEMU().parent(&ParentMachine {
            kernel_path: "/k".into(),
            initrd_path: "/i".into(),
            rootfs_path: "/r".into(),
            payload_path: "/p".into(),
            vsock_path: "/s".into(),
            console_path: "/c".into(),
            ssh_port: 2222,
            hypervisor: ("10.0.2.100:16", ["/a b,c/lab", "it's"].map(OsString::from).into()),
        }));
        let network = "user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22,guestfwd=tcp:10.0.2.100:16-cmd:'/a b,,c/lab' 'it'\\''s'";
        assert!(line.contains(network), "{line}");
        assert!(line.contains("memory-backend-memfd,id=memory,size=1G,share=on"), "{line}");
    }
}
