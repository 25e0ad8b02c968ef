use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn interface(peers: Vec<Peer>) -> Interface {
    Interface {
        name: "wg0".into(),
        public_key: Some(PublicKey([1; 32])),
        has_private_key: true,
        listening_port: Some(51_820),
        fwmark: None,
        peers,
    }
}

fn peer() -> Peer {
    Peer {
        public_key: PublicKey([2; 32]),
        has_preshared_key: false,
        endpoint: Some("127.0.0.1:51821".parse().unwrap()),
        allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        latest_handshake: Some(at(1000)),
        received: 92,
        sent: 180,
        persistent_keepalive: Some(15),
    }
}

#[test]
fn a_tunnel_that_is_up_reads_as_wg_prints_it() {
    let expected = "\
interface: wg0
  public key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  private key: (hidden)
  listening port: 51820

peer: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  endpoint: 127.0.0.1:51821
  allowed ips: 0.0.0.0/0, ::/0
  latest handshake: 1 minute, 3 seconds ago
  transfer: 92 B received, 180 B sent
  persistent keepalive: every 15 seconds
";
    assert_eq!(interface(vec![peer()]).show(at(1063)).to_string(), expected);
}

#[test]
fn what_is_not_there_has_no_line_but_allowed_ips() {
    let silent = Peer {
        endpoint: None,
        allowed_ips: vec![],
        latest_handshake: None,
        received: 0,
        sent: 0,
        persistent_keepalive: None,
        ..peer()
    };
    let expected = "\
interface: wg0
  public key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  private key: (hidden)
  listening port: 51820

peer: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  allowed ips: (none)
";
    assert_eq!(interface(vec![silent]).show(at(0)).to_string(), expected);
}

#[test]
fn everything_that_can_be_there_is_in_wgs_order() {
    let full = Peer {
        has_preshared_key: true,
        endpoint: Some("[fd3b::1]:51821".parse().unwrap()),
        latest_handshake: Some(at(1000)),
        received: 1_500_000,
        sent: 3 << 30,
        persistent_keepalive: Some(61),
        ..peer()
    };
    let expected = "\
interface: wg0
  public key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  private key: (hidden)
  listening port: 51820
  fwmark: 0xca6c

peer: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  preshared key: (hidden)
  endpoint: [fd3b::1]:51821
  allowed ips: 0.0.0.0/0, ::/0
  latest handshake: Now
  transfer: 1.43 MiB received, 3.00 GiB sent
  persistent keepalive: every 1 minute, 1 second

peer: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  endpoint: 127.0.0.1:51821
  allowed ips: 0.0.0.0/0, ::/0
  latest handshake: Now
  transfer: 92 B received, 180 B sent
  persistent keepalive: every 15 seconds
";
    let shown = Interface { fwmark: Some(0xca6c), ..interface(vec![full, peer()]) };
    assert_eq!(shown.show(at(1000)).to_string(), expected);
}

#[test]
fn an_interface_without_a_peer_ends_after_its_own_lines() {
    let shown = Interface { has_private_key: false, public_key: None, ..interface(vec![]) };
    assert_eq!(shown.show(at(0)).to_string(), "interface: wg0\n  listening port: 51820\n");
}

#[test]
fn times_are_in_wgs_words() {
    for (seconds, words) in [
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3661, "1 hour, 1 minute, 1 second"),
        (86_400 * 2, "2 days"),
        (365 * 86_400 + 1, "1 year, 1 second"),
    ] {
        assert_eq!(Span(seconds).to_string(), words);
    }
    let backwards = Ago { since: at(5), now: at(4) };
    assert_eq!(backwards.to_string(), "(System clock wound backward; connection problems may ensue.)");
}

#[test]
fn amounts_are_in_wgs_units() {
    for (bytes, words) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1152, "1.12 KiB"),
        (1_048_575, "1024.00 KiB"),
        (1 << 20, "1.00 MiB"),
        (5 << 40, "5.00 TiB"),
        (u64::MAX, "16777216.00 TiB"),
    ] {
        assert_eq!(Bytes(bytes).to_string(), words);
    }
}
