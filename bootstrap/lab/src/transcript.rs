//! `lab run`: boots the lab and shows step by step that everything works.

mod attestation;
mod blind;
mod clients;
mod egress;
mod home;
mod page;
mod signing;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parent_vm::paths::QUERY_LOG_PATH;
use parent_vm::{EnclaveId, OFF_LIST_NAME, SELF_TEST_SERVERS};
use self_test::command::{Command as Test, Transfer};
use self_test::{Report, Transport};

use crate::cli::print;
use crate::evidence;
use crate::host::{Enclave, Lab, Options, Parent};
use page::{amount, indented, tail};

/// What to do next.
pub(crate) const NEXT_STEPS: &str = "
Next steps:
  target/release/lab console -f                 follow the enclave's console
  target/release/lab exec parent -- wg show     run a command on the parent
  target/release/lab fault --help               inject faults into the vsock
  target/release/lab blind on                   move the gateway to another host
  target/release/lab status                     show what is running
  target/release/lab down                       stop everything
";

const STEPS: u8 = 13;
/// How `wg show` prints a pre-shared key.
const HIDDEN: &str = "preshared key: (hidden)";
const GATEWAY: &str = "203.0.113.1";
const NAME: &str = "aws.com";
/// The probe's interval is 15 s in the lab's configuration.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// In each direction, by family.
const IPV4_TRANSFER: u64 = 4 << 20;
const IPV6_TRANSFER: u64 = 1 << 20;
/// Fits in the tunnel's path MTU of 1420 with IPv6 and UDP headers.
const DATAGRAM: u16 = 1340;
const SEED: u64 = 0x5eed;

/// One lab being shown.
struct Transcript<'lab> {
    lab: &'lab Lab,
    enclave: Enclave<'lab>,
    parent: Parent,
    addresses: Vec<IpAddr>,
}

/// Runs all steps. An error names the step.
pub(crate) fn run(lab: &Lab, eif: Option<PathBuf>) -> Result<()> {
    let context = |number: u8, what: &str| format!("step {number} of {STEPS}, {what}");
    lab.up(&Options { eif, ..Options::default() })
        .with_context(|| context(1, "an enclave boots and its tunnel comes up"))?;
    let enclave = lab.enclave(EnclaveId::FIRST);
    let parent = lab.parent()?;
    let addresses = enclave.addresses().with_context(|| context(1, "an enclave boots"))?;
    let shown = Transcript { lab, enclave, parent, addresses };
    type Step<'lab> = fn(&Transcript<'lab>) -> Result<()>;
    let steps: [(&str, Step<'_>); STEPS as usize] = [
        ("an enclave boots and its tunnel comes up", Transcript::boot),
        ("the enclave's attestation", Transcript::attestation),
        ("`wg show` of both sides", Transcript::wireguard),
        ("pings from the enclave", Transcript::pings),
        ("names resolved by BIND on the parent", Transcript::names),
        ("outbound connections", Transcript::outbound),
        ("data through the tunnel", Transcript::transfers),
        ("a changed image is refused", Transcript::changed_image),
        ("impostors are refused", Transcript::impostors),
        ("blind mode", Transcript::blind_mode),
        ("signing", Transcript::signing),
        ("a client that nobody changed", Transcript::clients),
        ("a signature for a hub", Transcript::home),
    ];
    for ((what, step), number) in steps.into_iter().zip(1..) {
        step(&shown).with_context(|| context(number, what))?;
    }
    print(&format!("\nAll {STEPS} steps passed.\n{NEXT_STEPS}")).map(drop)
}

impl Transcript<'_> {
    fn boot(&self) -> Result<()> {
        title(1, "the enclave boots in QEMU's nitro-enclave machine, and its tunnel comes up")?;
        let console = self.enclave.console().text()?;
        let kernel = evidence::first_handshake(&console).context("the console has no first handshake")?;
        let cid = EnclaveId::FIRST.cid();
        let described = self.parent.output(&["nitro-cli", "describe-enclaves"])?;
        let name = evidence::running_enclave(&described, cid)
            .with_context(|| format!("read {described}"))?
            .with_context(|| format!("nitro-cli has no running enclave {cid}:\n{described}"))?;
        let boot: Vec<_> = console.lines().filter(|line| line.contains("INFO boot: ")).collect();
        let list = self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        body(&format!(
            "Boot messages on the enclave's console:\n{}\
             enclave.service started the enclave. `nitro-cli describe-enclaves` lists it as {name}, RUNNING.\n\
             wg-server leased the addresses {list} to the enclave with CID {cid}.\n\
             The first WireGuard handshake was {:.2} s after the start of the enclave's kernel.\n",
            indented(&boot),
            kernel.as_secs_f64(),
        ))
    }

    fn wireguard(&self) -> Result<()> {
        title(3, "kernel WireGuard on both sides")?;
        let console = self.enclave.console();
        let theirs = self.parent.wg_show()?;
        // After a renewal of keys, the console is a second behind the parent.
        let is_peer = |ours: &String| field(ours, "public key: ").is_some_and(|key| theirs.contains(key));
        let ours = console.wait(
            "`wg show` with a handshake and a key that is a peer of the parent",
            PROBE_PATIENCE,
            || Ok(()),
            |text| evidence::wg_show(text).filter(is_peer),
        )?;
        ensure!(theirs.contains("latest handshake: "), "the parent's wg0 has no handshake:\n{theirs}");
        for address in &self.addresses {
            ensure!(theirs.contains(&address.to_string()), "the parent's wg0 allows no {address}:\n{theirs}");
        }
        let gateway =
            field(&theirs, "public key: ").with_context(|| format!("the parent's wg0 has no key:\n{theirs}"))?;
        ensure!(field(&ours, "peer: ") == Some(gateway), "the enclave's peer is not the parent:\n{ours}");
        for (side, text) in [("enclave", &ours), ("parent", &theirs)] {
            ensure!(text.contains(HIDDEN), "the {side}'s wg0 has no pre-shared key:\n{text}");
        }
        body(&format!(
            "In the enclave (from its console, since it has no shell):\n{}\n\
             On the parent (wg show wg0):\n{}\n\
             Each side has the other as its peer. The pre-shared key comes from ML-KEM-768.\n",
            indented(&ours.lines().collect::<Vec<_>>()),
            indented(&theirs.lines().collect::<Vec<_>>()),
        ))
    }

    fn pings(&self) -> Result<()> {
        title(4, "the enclave pings its gateway and a host on the internet")?;
        for target in [GATEWAY, NAME] {
            let find = |text: &str| evidence::ping(text, target).map(|lines| indented(&lines));
            let what = format!("answered ping of {target}");
            let lines = self.enclave.console().wait(&what, PROBE_PATIENCE, || self.enclave.expect_running(), find)?;
            body(&format!("{lines}\n"))?;
        }
        Ok(())
    }

    fn names(&self) -> Result<()> {
        title(5, "BIND on the parent resolves names on the allow-list, and logs every query")?;
        let off_list = Test::Resolve { name: format!("{OFF_LIST_NAME}.") };
        let report = self.enclave.self_test(&off_list)?;
        let Report::Resolved(answer) = report else { return unexpected(&report) };
        ensure!(
            answer.addresses.is_empty(),
            "{OFF_LIST_NAME} is not on the allow-list, but resolves to {:?}",
            answer.addresses
        );
        let log = self.parent.query_log()?;
        let mut lines = evidence::queries(&log, NAME, &self.addresses);
        ensure!(!lines.is_empty(), "no query for {NAME} by {:?} in BIND's log:\n{log}", self.addresses);
        lines.dedup();
        let refused = evidence::queries(&log, OFF_LIST_NAME, &self.addresses);
        ensure!(!refused.is_empty(), "no query for {OFF_LIST_NAME} in BIND's log:\n{log}");
        body(&format!(
            "BIND's query log ({QUERY_LOG_PATH}):\n{}\
             A name that exists but is not on the allow-list does not resolve ({}):\n{}",
            indented(tail(&lines, 3)),
            answer.code.as_deref().unwrap_or("no address"),
            indented(tail(&refused, 1)),
        ))
    }

    fn transfers(&self) -> Result<()> {
        title(7, "the enclave exchanges data with a host on the internet through NAT, hashed at both ends")?;
        for server in SELF_TEST_SERVERS {
            let bytes = if server.is_ipv4() { IPV4_TRANSFER } else { IPV6_TRANSFER };
            let tcp = Test::Tcp { server, bytes, seed: SEED };
            body(&transfer("TCP", server, &transferred(self.enclave.self_test(&tcp)?)?))?;
            let udp = Test::Udp { server, bytes, datagram: DATAGRAM, seed: SEED };
            body(&transfer("UDP", server, &transferred(self.enclave.self_test(&udp)?)?))?;
        }
        let [server, ..] = SELF_TEST_SERVERS;
        let rtt = Test::Rtt { server, transport: Transport::Udp, count: 100, size: 64 };
        let report = self.enclave.self_test(&rtt)?;
        let Report::RoundTrips(trips) = report else { return unexpected(&report) };
        body(&format!(
            "Round trip of 64 bytes over UDP: median {:.2} ms, 99th percentile {:.2} ms ({} of {} answered)\n",
            trips.median.as_secs_f64() * 1e3,
            trips.p99.as_secs_f64() * 1e3,
            trips.count,
            trips.count + trips.lost,
        ))
    }
}

fn transferred(report: Report) -> Result<Transfer> {
    let Report::Transfer(transfer) = report else { return unexpected(&report) };
    let intact = |hashes: &self_test::command::Hashes| hashes.sender == hashes.receiver;
    ensure!(intact(&transfer.sent) && intact(&transfer.received), "the hashes differ: {transfer:?}");
    Ok(transfer)
}

fn transfer(protocol: &str, server: SocketAddr, transfer: &Transfer) -> String {
    let datagrams = transfer.datagrams.map_or_else(String::new, |counts| {
        format!(", {} datagrams, {} sent again", counts.needed, counts.retransmitted)
    });
    format!(
        "{protocol} with {server}: {} each way in {:.1} s{datagrams}\n\
         \x20   enclave -> internet   sent      {}\n\
         \x20                         received  {}\n\
         \x20   internet -> enclave   sent      {}\n\
         \x20                         received  {}\n",
        amount(transfer.bytes),
        transfer.elapsed.as_secs_f64(),
        transfer.sent.sender,
        transfer.sent.receiver,
        transfer.received.sender,
        transfer.received.receiver,
    )
}

fn unexpected<T>(report: &Report) -> Result<T> {
    anyhow::bail!("unexpected report from the agent: {report:?}")
}

/// The value of a field, where `wg show` prints it first.
fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    text.lines().find_map(|line| line.trim().strip_prefix(name))
}

fn title(step: u8, text: &str) -> Result<()> {
    print(&format!("\n== {step} of {STEPS}: {text}\n\n")).map(drop)
}

fn body(text: &str) -> Result<()> {
    print(text).map(drop)
}
