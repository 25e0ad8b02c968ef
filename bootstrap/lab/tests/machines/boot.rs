//! Boots that must fail. Each reports the step, its object and the reason in one line, and reboots, which ends the
//! VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::shared_lab::lab_with;
use lab::EnclaveId;

/// From power-on to the end of the VM.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The last line of stdout of a script or program of this checkout.
fn last_line(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap_or_default().to_owned()
}

/// Extracts the parts of the image with the configuration that ships into `dir`.
fn extract(dir: &Path) {
    last_line(Command::new(root().join("bootstrap/eif/image.sh")).arg(root().join("config/enclave")).arg(dir));
    last_line(
        Command::new(root().join("target/release/eif"))
            .arg("extract")
            .arg(dir.join("enclave.eif"))
            .arg(dir.join("parts")),
    );
}

/// The console of a VM that boots the parts with these devices, but is not a Nitro enclave.
fn console_of_machine_with(devices: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    extract(dir.path());
    let part = |name: &str| dir.path().join("parts").join(name);
    let qemu_dir = PathBuf::from(last_line(&mut Command::new(root().join("bootstrap/lab/qemu/build.sh"))));
    let console_path = dir.path().join("console");
    let mut machine = Command::new(qemu_dir.join("bin/qemu-system-x86_64"))
        .arg("-L")
        .arg(qemu_dir.join("firmware"))
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256M", "-smp", "2"])
        .args(lab::TCG)
        .args(["-device", "i8042"])
        .args(["-M", "microvm,acpi=off,pit=on,pic=on,isa-serial=on", "-serial"])
        .arg(format!("file:{}", console_path.display()))
        .arg("-kernel")
        .arg(part("kernel"))
        .arg("-initrd")
        .arg(part("initrd"))
        .args(["-append", &fs::read_to_string(part("cmdline")).unwrap()])
        .args(devices.iter().flat_map(|device| ["-device", *device]))
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while machine.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            machine.kill().unwrap();
            machine.wait().unwrap();
            panic!("the machine goes on:\n{}", fs::read_to_string(&console_path).unwrap());
        }
        sleep(Duration::from_millis(50));
    }
    String::from_utf8_lossy(&fs::read(&console_path).unwrap()).into_owned()
}

#[test]
fn a_machine_without_an_nsm_goes_down_saying_so() {
    let console = console_of_machine_with(&[]);
    assert!(console.contains("boot: nsm: /dev/nsm: No such file or directory (os error 2)"), "{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
}

#[test]
fn a_machine_without_vsock_goes_down_saying_so() {
    let console = console_of_machine_with(&["virtio-nsm-device,id=nsm"]);
    assert!(console.contains("boot: vsock: /dev/vsock: ") && console.contains("has no vsock device"), "{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
}

#[test]
fn an_image_with_a_wrong_configuration_goes_down_naming_the_key() {
    let shared = lab_with(1);
    let dir = tempfile::tempdir().unwrap();
    extract(dir.path());
    let config_dir = dir.path().join("config");
    fs::create_dir(&config_dir).unwrap();
    let config = fs::read_to_string(root().join("config/enclave/enclave.toml")).unwrap();
    fs::write(config_dir.join("enclave.toml"), config.replace("mtu = 15360", "mtu = 64")).unwrap();
    // image.sh would refuse this configuration, so another build makes the image.
    let kernel_dir = last_line(&mut Command::new(root().join("enclave-kernel/build.sh")));
    let out_dir = dir.path().join("wrong");
    last_line(
        Command::new(root().join("target/release/eif"))
            .args(["build", "--kernel", &format!("{kernel_dir}/bzImage"), "--cmdline-file"])
            .arg(root().join("bootstrap/eif/cmdline"))
            .arg("--init")
            .arg(root().join("target/x86_64-unknown-linux-gnu/release/orchestrator"))
            .arg("--config")
            .arg(&config_dir)
            .arg("--out")
            .arg(&out_dir),
    );
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    enclave.start(Some(&out_dir.join("enclave.eif"))).unwrap();
    let end = Instant::now() + PATIENCE;
    while enclave.is_running().unwrap() {
        assert!(Instant::now() < end, "the enclave goes on:\n{}", enclave.console().text().unwrap());
        sleep(Duration::from_millis(50));
    }
    let console = enclave.console().text().unwrap();
    assert!(console.contains("boot: config: /config/enclave.toml: tunnel.mtu: 64 is out of range"), "{console}");
}
