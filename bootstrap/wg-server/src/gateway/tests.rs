use std::os::unix::fs::MetadataExt;

use attestation::{Policy, TrustRoot};
use wireguard::device::PrivateKey;

use super::*;

const LAB: &str = include_str!("../../tests/parent.toml");

/// A gateway whose interface is never used.
async fn gateway(dir: &tempfile::TempDir) -> Gateway {
    let config = Config::parse(&LAB.replace("/var/lib/wg-server", dir.path().to_str().unwrap())).unwrap();
    let attestation =
        Attestation { policy: Policy::new(), root: TrustRoot::aws(), key_lifetime: Duration::from_hours(1) };
    let key = PrivateKey::new([7; 32]);
    let (interface, _) = Interface::find(&config.wireguard, &key).await.unwrap();
    let relays = "127.0.0.1:40001".parse().unwrap();
    let sets = Sets::adopt(Vec::new(), None, |_, _| true).unwrap();
    Gateway::new(&config, attestation, interface, key.public_key(), relays, sets).unwrap()
}

#[tokio::test]
async fn only_a_new_enclave_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(&dir).await;
    // Each write makes another file of that name.
    let file = || std::fs::metadata(dir.path().join("leases.json")).unwrap().ino();
    let open = async |cid, role| gateway.open(EnclaveId::here(Cid(cid)), role).await.unwrap().unwrap();
    let first = open(16, Role::Data).await;
    let written = file();
    for role in [Role::Control, Role::Data, Role::Control] {
        assert_eq!(open(16, role).await.addresses, first.addresses);
    }
    gateway.expire().await;
    assert_eq!(file(), written, "a known enclave's streams write nothing");
    let second = open(17, Role::Data).await;
    assert_ne!(file(), written);
    let leases = Leases::load(dir.path(), 253).unwrap();
    assert_eq!([leases.holder(0), leases.holder(1)], [16, 17].map(|cid| Some(EnclaveId::here(Cid(cid)))));
    assert_ne!(second.addresses, first.addresses);
}

#[tokio::test]
async fn a_lease_that_cannot_be_written_lets_nobody_in_and_the_next_try_is_as_good() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(&dir).await;
    let blocked = dir.path().join("leases.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let id = EnclaveId::here(Cid(16));
    for role in [Role::Control, Role::Data] {
        let error = format!("{:#}", gateway.open(id, role).await.unwrap_err());
        assert!(error.starts_with("write the leases "), "{error}");
    }
    assert!(gateway.seen().await.is_empty(), "nothing is left of it");
    std::fs::remove_dir(&blocked).unwrap();
    gateway.open(id, Role::Control).await.unwrap().unwrap();
}
