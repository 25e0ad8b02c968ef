use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use attestation::{Claims, Measurements, Pcr, Policy, TrustRoot};
use binding::tunnel::Binding;
use tunnel::control::PublicKey;
use tunnel::port::Cid;
use tunnel::preface::Role;

use super::*;
use crate::admission::Attested;
use crate::config::Config;
use crate::config::lists::name;
use crate::enclave_id::EnclaveId;
use crate::interface::PeerChange;
use crate::lease::Leases;

const LAB: &str = include_str!("../../../tests/parent.toml");
const LISTS: &str = r#"[[egress.lists]]
name = "cid"
names = ["a.example"]
cids = [16]
[[egress.lists]]
name = "image"
names = ["a.example"]
measurements_paths = ["/one.json"]
"#;
const OWN: PublicKey = PublicKey([0xee; 32]);
const FIRST: EnclaveId = EnclaveId::here(Cid(16));
const SECOND: EnclaveId = EnclaveId::here(Cid(17));

struct Setup {
    config: Config,
    attestation: Attestation,
    enclaves: Enclaves,
}

fn pcr(byte: u8) -> Pcr {
    Pcr([byte; Pcr::LEN])
}

impl Setup {
    fn new() -> Self {
        let paths = "measurements_paths = [\"/one.json\", \"/two.json\"]";
        let toml = LAB.replacen("measurements_paths = [\"/etc/wg-server/measurements.json\"]", paths, 1);
        let config = Config::parse(&toml.replacen("[dns]", &format!("{LISTS}[dns]"), 1)).unwrap();
        let mut policy = Policy::new();
        policy.allow_image("/one.json", Measurements::new(pcr(1), pcr(1), pcr(1)));
        policy.allow_image("/two.json", Measurements::new(pcr(2), pcr(2), pcr(2)));
        let (root, key_lifetime) = (TrustRoot::aws(), Duration::from_hours(1));
        let ranges = config.enclaves.ranges;
        let enclaves = Enclaves::new(OWN, ranges, Leases::new(ranges.len()), key_lifetime);
        Self { config, attestation: Attestation { policy, root, key_lifetime }, enclaves }
    }

    fn members(&self) -> Members {
        members(&self.config.egress.lists, &self.attestation, &self.enclaves)
    }

    /// The enclave proves a key, and which image it runs.
    fn candidate(&mut self, id: EnclaveId, key: u8, image: u8) {
        let stream = self.enclaves.opened(id, Role::Control, SystemTime::UNIX_EPOCH).unwrap().0;
        let public_key = PublicKey([key; 32]);
        let binding =
            Binding { public_key, kem_key: [0; 32], tls_key: None, config: [0; 32], gateway: OWN, cid: id.cid };
        let claims = Claims {
            module_id: "module".to_owned(),
            timestamp: SystemTime::UNIX_EPOCH,
            pcrs: BTreeMap::from([0, 1, 2].map(|index| (index, pcr(image)))),
            public_key: None,
            user_data: None,
            nonce: None,
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        };
        let attested = Attested { claims, binding, document: vec![], at: SystemTime::UNIX_EPOCH };
        self.enclaves.answered(id, &stream, Arc::new(attested), Instant::now()).unwrap();
    }

    fn confirm(&mut self, id: EnclaveId, key: u8) -> Vec<PeerChange> {
        self.enclaves.confirmed(id, PublicKey([key; 32]))
    }
}

fn expected(of: &[(&str, &str)]) -> Members {
    let mut members = Members::default();
    for (list, last) in of {
        for address in [format!("203.0.113.{last}"), format!("fd3b:74ac:9d21::{last}")] {
            members.insert(&name(list), address.parse::<IpAddr>().unwrap());
        }
    }
    members
}

#[test]
fn a_list_is_for_the_peers_that_it_names_once_they_have_had_a_handshake() {
    let mut setup = Setup::new();
    setup.candidate(FIRST, 1, 1);
    setup.candidate(SECOND, 2, 1);
    assert_eq!(setup.members(), Members::default(), "no handshake yet");
    setup.confirm(FIRST, 1);
    assert_eq!(setup.members(), expected(&[("cid", "2"), ("image", "2")]));
    setup.confirm(SECOND, 2);
    assert_eq!(setup.members(), expected(&[("cid", "2"), ("image", "2"), ("image", "3")]));
    let later = Instant::now() + Duration::from_hours(2);
    assert_eq!(setup.enclaves.expired(later).len(), 2);
    assert_eq!(setup.members(), Members::default(), "their proofs have expired");
}

#[test]
fn another_image_in_an_enclave_s_place_has_the_lists_of_its_own_image() {
    let mut setup = Setup::new();
    setup.candidate(FIRST, 1, 1);
    setup.confirm(FIRST, 1);
    setup.candidate(FIRST, 2, 2);
    assert_eq!(setup.members(), expected(&[("cid", "2"), ("image", "2")]), "the former key still has the address");
    assert_eq!(setup.confirm(FIRST, 2).len(), 2);
    assert_eq!(setup.members(), expected(&[("cid", "2")]));
}

#[test]
fn an_enclave_of_an_earlier_wg_server_has_the_lists_of_its_cid_only() {
    let mut setup = Setup::new();
    setup.candidate(FIRST, 1, 1);
    let (leases, ranges) = (setup.enclaves.leases().clone(), setup.config.enclaves.ranges);
    setup.enclaves = Enclaves::new(OWN, ranges, leases, Duration::from_hours(1));
    let allowed_ips = ["203.0.113.2/32", "fd3b:74ac:9d21::2/128"].map(|net| net.parse().unwrap());
    let adopted = setup.enclaves.adopt(PublicKey([1; 32]), &allowed_ips, Some(Duration::ZERO), Instant::now());
    assert_eq!(adopted, Some(FIRST));
    assert_eq!(setup.members(), expected(&[("cid", "2")]), "its image is not known");
}
