use std::os::unix::fs::MetadataExt;

use attestation::{Policy, TrustRoot};
use tunnel::control::KemKey;
use wireguard::device::PrivateKey;

use super::*;
use crate::health::{Health, Topic};
use crate::status::Vitals;

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

#[tokio::test]
async fn the_watchdog_learns_which_streams_are_open_why_a_document_was_refused_and_what_is_wrong_with_the_host() {
    let (dir, health) = (tempfile::tempdir().unwrap(), Health::default());
    let gateway = gateway(&dir).await;
    let vitals = async |cid| Vitals::of(&gateway, &health, cid).await;
    // There is no interface here.
    let Vitals { tunnel_problems: without_interface, .. } = vitals(16).await;
    assert_eq!(without_interface.len(), 1);
    let nothing = || Vitals {
        has_control: false,
        has_data: false,
        is_peer: false,
        latest_handshake: None,
        signer: None,
        refused: None,
        tunnel_problems: without_interface.clone(),
        path_problems: Vec::new(),
    };
    assert_eq!(vitals(16).await, nothing());

    let opened = gateway.open(EnclaveId::here(Cid(16)), Role::Control).await.unwrap().unwrap();
    assert_eq!(vitals(16).await, Vitals { has_control: true, ..nothing() });
    gateway.open(EnclaveId::here(Cid(16)), Role::Data).await.unwrap().unwrap();
    let connected = || Vitals { has_control: true, has_data: true, ..nothing() };
    assert_eq!(vitals(16).await, connected());

    let (nonce, public_key) = ([1; 32], gateway.public_key());
    let offer = Offer { nonce, public_key, ipv4: opened.addresses.ipv4, ipv6: opened.addresses.ipv6 };
    let (public_key, kem_key) = (PublicKey([2; 32]), KemKey([0; 1184]));
    let answer = Answer { public_key, kem_key, document: b"no document".to_vec() };
    let refused = gateway.answer(&opened, &offer, answer).await.unwrap().err().unwrap();
    assert_eq!(vitals(16).await, Vitals { refused: Some(refused), ..connected() });
    assert_eq!(vitals(17).await, nothing(), "another enclave");

    let topics = [Topic::Firewall, Topic::Interface, Topic::ForeignFirewall, Topic::Connections];
    for topic in topics.into_iter().chain([Topic::LegacyFirewall, Topic::Peers, Topic::Egress]) {
        health.set_problem(topic, Some(format!("{topic:?}")));
    }
    let Vitals { tunnel_problems, path_problems, .. } = vitals(16).await;
    assert_eq!(tunnel_problems[..2], ["Firewall", "Interface"]);
    assert_eq!(
        (tunnel_problems.len(), path_problems),
        (3, ["ForeignFirewall", "Connections"].map(str::to_owned).into())
    );
}
