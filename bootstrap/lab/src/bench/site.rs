//! The benchmark's namespaces and servers on the parent.
//!
//! ```text
//! enclave, agent:7007 -- tunnel -- wg0 203.0.113.1 -- uplink -- 198.51.100.10:7008
//!
//! namespace bench-a: wg0 192.0.2.129 -- veth-a 192.0.2.1 == 192.0.2.2 veth-b -- wg0 192.0.2.130:7010 :namespace bench-b
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use parent_vm::paths::LAB;
use self_test::{Command as Test, Report};

use crate::host::Parent;

const PORT: u16 = 7010;
/// The far end of the reference.
pub(super) const VETH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 130)), PORT);
/// `mtu` of the lab's configurations, to restore.
const TUNNEL_MTU: u16 = 15360;

const SET_UP: &str = "set -eu
umask 077
cd /run/lab
for side in a b; do
  ip netns add bench-$side
  wg genkey >bench-$side.key
done
ip link add veth-a netns bench-a type veth peer name veth-b netns bench-b
for side in a b; do
  case $side in
  a) own=1 other=2 peer=b ;;
  b) own=2 other=1 peer=a ;;
  esac
  ip -n bench-$side address add 192.0.2.$own/25 dev veth-$side
  ip -n bench-$side link set veth-$side mtu 16000 up
  ip -n bench-$side link add wg0 type wireguard
  ip -n bench-$side address add 192.0.2.$((128 + own))/25 dev wg0
  ip netns exec bench-$side wg set wg0 listen-port 51820 private-key bench-$side.key \\
    peer \"$(wg pubkey <bench-$peer.key)\" allowed-ips 192.0.2.$((128 + other))/32 endpoint 192.0.2.$other:51820
  ip -n bench-$side link set wg0 up
done
ip netns exec bench-b /payload/bin/lab traffic serve 192.0.2.130:7010 </dev/null >/var/log/lab/bench-veth.log 2>&1 &
echo $! >bench-veth.pid
for try in $(seq 100); do
  if ip netns exec bench-b ss -Hltn 'sport = 7010' | grep -q .; then
    exit 0
  fi
  sleep 0.1
done
tail /var/log/lab/bench-*.log >&2
exit 1
";

/// Removes whatever exists.
const TEAR_DOWN: &str = "cd /run/lab
[ ! -e bench-veth.pid ] || kill $(cat bench-veth.pid) || true
rm -f bench-veth.pid
for side in a b; do
  [ ! -e /run/netns/bench-$side ] || ip netns del bench-$side
  rm -f bench-$side.key
done
";

/// The parent, ready for the benchmark.
#[derive(Debug)]
pub(super) struct Site<'parent> {
    parent: &'parent Parent,
}

impl<'parent> Site<'parent> {
    /// Sets everything up, after removing what an interrupted benchmark has left.
    ///
    /// # Errors
    /// The step that failed.
    pub(super) fn set_up(parent: &'parent Parent) -> Result<Self> {
        let site = Self { parent };
        site.tear_down()?;
        parent.shell(SET_UP).context("set up the reference paths")?;
        Ok(site)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub(super) fn tear_down(&self) -> Result<()> {
        self.set_tunnel_mtu(TUNNEL_MTU)?;
        self.parent.shell(TEAR_DOWN).map(drop).context("remove the reference paths")
    }

    /// Sets the MTU of the parent's wg0. TCP there announces a matching segment size to the enclave, which keeps to
    /// it.
    ///
    /// # Errors
    /// No wg0.
    pub(super) fn set_tunnel_mtu(&self, mtu: u16) -> Result<()> {
        self.parent.shell(&format!("ip link set wg0 mtu {mtu}")).map(drop)
    }

    /// Sets the MTU at both ends of the reference.
    ///
    /// # Errors
    /// There is no reference.
    pub(super) fn set_reference_mtu(&self, mtu: u16) -> Result<()> {
        let set = |side| format!("ip -n bench-{side} link set wg0 mtu {mtu}");
        self.parent.shell(&format!("{} && {}", set("a"), set("b"))).map(drop)
    }

    /// Runs a test from the near end of the reference.
    ///
    /// # Errors
    /// The test's error.
    pub(super) fn test_reference(&self, test: &Test) -> Result<Report> {
        self.test(&["ip", "netns", "exec", "bench-a"], test)
    }

    /// Runs a test from the parent, whose address is the gateway's.
    ///
    /// # Errors
    /// Those of the test.
    pub(super) fn test_gateway(&self, test: &Test) -> Result<Report> {
        self.test(&[], test)
    }

    fn test(&self, within: &[&str], test: &Test) -> Result<Report> {
        let json = serde_json::to_string(test)?;
        let line = self.parent.output(&[within, &[LAB, "traffic", "ask", &json]].concat())?;
        serde_json::from_str(&line).with_context(|| format!("read the report {line:?}"))
    }
}
