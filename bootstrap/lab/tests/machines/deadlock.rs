//! Two guests that cause each other to send more replies than fit in their rings. With unpatched Linux 6.12, both
//! stop receiving and never start again. With our kernel they continue.
//!
//! The parent runs Debian's kernel, which still has the behaviour that our patch removes from the enclave's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::shared_lab::{lab_with, restoring};
use super::traffic::answers;
use lab::{EnclaveId, Lab, Test};

/// Nothing listens on it.
const PORT: u32 = 7999;
/// Several times the 128 entries of a ring.
const REQUESTS: u32 = 4000;
/// From the command to the enclave's flood. The switch is stopped by then.
const AFTER: Duration = Duration::from_secs(3);
/// The floods must meet while the switch is stopped, which a busy machine can miss.
const FLOODS: usize = 4;
/// A tunnel that does not answer for this long, with both sides idle, does not recover.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lets both sides flood each other while the switch is stopped, then continues the switch.
fn flood_each_other(lab: &Lab) {
    let parent = lab.parent().unwrap();
    let agent = format!("{}:7007", lab.enclave(EnclaveId::FIRST).addresses().unwrap().first().unwrap());
    let flood = Test::VsockFlood { port: PORT, count: REQUESTS, after_seconds: AFTER.as_secs() };
    // It may never answer.
    let mut driver = parent
        .command(&["/payload/bin/lab", "self-test", &agent, &serde_json::to_string(&flood).unwrap()], false)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(AFTER / 2);
    lab.freeze_switch(|| {
        let requests = REQUESTS.to_string();
        parent.output(&["/payload/bin/lab", "flood", "16", &PORT.to_string(), &requests]).unwrap();
        sleep(AFTER);
    })
    .unwrap();
    sleep(Duration::from_secs(3));
    driver.kill().unwrap();
    driver.wait().unwrap();
}

/// Whether the enclave answers through the tunnel before the deadline.
fn answers_in_time(lab: &Lab) -> bool {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if answers(lab) {
            return true;
        }
        sleep(Duration::from_millis(200));
    }
    false
}

/// The switch's state: which guest waits for whose buffers.
fn waits(lab: &Lab) -> String {
    lab.fault(&"list".parse().unwrap()).unwrap()
}

fn image_with_unpatched_kernel(config_dir: &Path, dir: &Path) -> std::path::PathBuf {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../eif/image.sh"))
        .arg("--unpatched-kernel")
        .args([config_dir, dir])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir.join("enclave.eif")
}

#[test]
fn the_patched_kernel_survives_what_stops_the_unpatched_one_for_ever() {
    let shared = lab_with(1);
    let lab = &shared.lab;
    // It would restart an enclave that hangs.
    lab.parent().unwrap().hold("wg-watchdog").unwrap();
    flood_each_other(lab);
    assert!(answers_in_time(lab), "the patched kernel hangs: {}", waits(lab));

    // The parent's kernel hangs as well, so the next test needs a new lab.
    restoring(|| hang_unpatched(lab), || assert!(lab.down().unwrap()));
}

fn hang_unpatched(lab: &Lab) {
    let dir = tempfile::tempdir().unwrap();
    let enclave = lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    let image = image_with_unpatched_kernel(&lab.dir().join("eif/config"), dir.path());
    lab.parent().unwrap().trust(&image).unwrap();
    enclave.start(Some(&image)).unwrap();
    enclave.wait_tunnel().unwrap();
    let hangs = || {
        flood_each_other(lab);
        !answers_in_time(lab)
    };
    assert!((0..FLOODS).any(|_| hangs()), "the unpatched kernel does not hang: this test proves nothing any more");
    let waits = waits(lab);
    assert!(waits.contains("\"waits_for\": 3") && waits.contains("\"waits_for\": 16"), "{waits}");
}
