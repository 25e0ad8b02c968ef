//! Clients that know nothing of enclaves sign with one, through `wallet proxy`.

use super::shared_lab::{lab_with, restart_own, restoring};
use lab::{Clients, EnclaveId, Lab, Variant};

#[test]
fn web3_py_ethers_viem_and_cast_sign_with_an_enclave_and_send_to_a_chain() {
    let shared = lab_with(1);
    let restore = || {
        shared.lab.enclave(EnclaveId::FIRST).stop().unwrap();
        Variant::end(&shared.lab).unwrap();
        restart_own(&shared.lab);
    };
    restoring(|| run_clients(&shared.lab), restore);
}

fn run_clients(lab: &Lab) {
    let variant = Clients::image(lab).unwrap();
    variant.boot(EnclaveId::FIRST).unwrap().wait_tunnel().unwrap();
    let clients = Clients::start(lab, EnclaveId::FIRST, variant.eif_path()).unwrap();
    let names = ["web3py", "ethers", "viem", "cast", "typed"];
    let said = clients.run(&names.map(str::to_owned)).unwrap();
    for name in names {
        let part = said.split(&format!("{name}:\n")).nth(1).unwrap_or_else(|| panic!("{name} is not in {said}"));
        let part = part.split("\n    to a forbidden recipient:").next().unwrap();
        assert!(part.to_lowercase().contains(&Clients::ACCOUNT.to_lowercase()), "{part}");
    }
    assert_eq!(said.matches("to a forbidden recipient:").count(), names.len() - 1, "{said}");
    assert_eq!(said.matches("refused: policy rule").count(), 2, "{said}");
}
