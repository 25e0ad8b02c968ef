//! One lab for all tests, one test at a time. It stops when this program ends, however it ends.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{EnclaveId, Lab, Options};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_lab");

/// A lab, and the process that stops it.
pub(crate) struct SharedLab {
    pub(crate) lab: Lab,
    /// Stops the lab when its stdin ends, that is, when this process ends.
    _keeper: Child,
}

static LAB: LazyLock<Mutex<SharedLab>> = LazyLock::new(|| {
    let dir = fresh_dir();
    let lab = Lab::open(Some(dir.clone()), None, Some(PROGRAM.into())).expect("open the lab");
    let keeper = Command::new("setsid")
        .args(["sh", "-c", "cat >/dev/null; exec \"$0\" --dir \"$1\" down", PROGRAM])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the keeper");
    Mutex::new(SharedLab { lab, _keeper: keeper })
});

/// The lab with at least `enclaves` tunnels up, locked for this test until dropped.
pub(crate) fn lab_with(enclaves: usize) -> MutexGuard<'static, SharedLab> {
    // A test that panicked before must not fail the others.
    let shared = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let eif = std::env::var_os("ENCLAVE_LAB_EIF").map(PathBuf::from);
    shared.lab.up(&Options { enclaves, eif, ..Options::default() }).expect("bring the lab up");
    shared
}

/// Waits until `is_so`, and panics if that takes too long.
pub(crate) fn wait(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Runs a test, and then `restore`, which gives the next test the lab that it expects, also if this one has failed.
pub(crate) fn restoring(test: impl FnOnce(), restore: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(test));
    restore();
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// Gives the lab its own enclave back.
pub(crate) fn restart_own(lab: &Lab) {
    let enclave = lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    lab.parent().unwrap().trust(&lab.eif_path().unwrap()).unwrap();
    enclave.start(None).unwrap();
    enclave.wait_tunnel().unwrap();
}

/// Injects a fault, in the syntax of `lab fault`.
pub(crate) fn fault(lab: &Lab, words: &str) {
    lab.fault(&words.parse().expect("the words of a fault")).expect("set a fault");
}

impl SharedLab {
    /// Runs the program on this lab.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        run(self.lab.dir(), arguments)
    }
}

/// Runs the program on the lab in `dir`.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Output {
    let dir: [OsString; 2] = ["--dir".into(), dir.into()];
    Command::new(PROGRAM).args(dir).args(arguments).stdin(Stdio::null()).output().expect("run lab")
}

/// A new folder with a short path, for sockets.
pub(crate) fn fresh_dir() -> PathBuf {
    std::env::temp_dir().join(format!("lab-{}", std::process::id()))
}
