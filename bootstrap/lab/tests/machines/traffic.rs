//! Traffic through the tunnel of the first enclave.

use std::thread;
use std::time::Duration;

use super::shared_lab::wait;
use lab::{EnclaveId, Lab, Report, Test};

/// Large enough for a fault, or for several renewals, in the middle.
const TRANSFER: u64 = 24 << 20;

/// Whether the enclave answers a ping from the parent.
pub(crate) fn answers(lab: &Lab) -> bool {
    lab.parent().unwrap().output(&["ping", "-c1", "-W1", "203.0.113.2"]).is_ok()
}

/// Waits until the enclave answers a ping from the parent.
pub(crate) fn wait_answer(lab: &Lab, patience: Duration) {
    wait("an answer through the tunnel", patience, || answers(lab));
}

/// Runs a hashed transfer both ways over one TCP connection, and `disturb` in the middle of it.
pub(crate) fn transfer_while(lab: &Lab, disturb: impl FnOnce()) {
    let enclave = lab.enclave(EnclaveId::FIRST);
    let test = Test::Tcp { server: "198.51.100.10:7008".parse().unwrap(), bytes: TRANSFER, seed: 7 };
    thread::scope(|scope| {
        let before = received(lab);
        let transfer = scope.spawn(|| enclave.self_test(&test));
        wait("the transfer to be under way", Duration::from_secs(30), || received(lab) > before + (1 << 20));
        assert!(!transfer.is_finished(), "the transfer is over before anything could disturb it");
        disturb();
        // An early end of the connection and a difference of hashes are errors.
        let report = transfer.join().unwrap().expect("the transfer");
        assert!(matches!(report, Report::Transfer(_)), "{report:?}");
    });
}

/// Bytes that have come out of the tunnel on the parent.
fn received(lab: &Lab) -> u64 {
    let text = lab.parent().unwrap().output(&["cat", "/sys/class/net/wg0/statistics/rx_bytes"]).unwrap();
    text.trim().parse().unwrap()
}
