//! `lab bench`: throughput and latency of the tunnel, and of its reference paths, in one run.
//!
//! docs/benchmark.md says what is compared with what, and why.

mod chart;
mod native;
mod results;
mod site;
mod table;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parent_vm::{EnclaveId, SELF_TEST_SERVERS, VSOCK_PORT};
use self_test::{Command as Test, Direction, Report, Transport};

use crate::host::{Lab, Options as Up, Parent, SELF_TEST_PORT};
use crate::plan::Plan;
use crate::progress::Phase;
use native::Effort;
use results::{Conditions, Key, Kind, MTUS, Results, Subject};
use site::{Site, VETH};

/// MTU of the enclave's packets to the internet: `default_route_mtu` in the lab's configuration.
const DEFAULT_ROUTE_MTU: u16 = 1500;
/// `mtu` of the lab's configurations.
const TUNNEL_MTU: u16 = 15360;
const ROUND_TRIPS: u32 = 200;
/// With a higher load, other work on the host is measured as well.
const QUIET: f64 = 1.0;

/// What to measure, and where the results go.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Repetitions of each measurement, interleaved
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// Seconds of traffic in each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Print the results as JSON, and write no files
    #[arg(long)]
    json: bool,
    /// Write the table and the plot of earlier results (a results.json) instead of measuring
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Enclave image [default: built from bootstrap/lab/config/enclave]
    #[arg(long)]
    eif: Option<PathBuf>,
}

/// Measures, and writes `docs/benchmark/` and the table in `docs/benchmark.md`. Returns what to print.
///
/// # Errors
/// The measurement that went wrong, or a file that cannot be written.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<String> {
    let results = match &options.from {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?
        }
        None => measure(lab, options)?,
    };
    if options.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&results)?));
    }
    write(&lab.project.root().join("docs"), &results)?;
    Ok(format!(
        "{}\nWrote docs/benchmark.md, docs/benchmark/results.json and docs/benchmark/results.svg.\n",
        table::plain(&results)
    ))
}

fn write(docs_dir: &Path, results: &Results) -> Result<()> {
    let dir = docs_dir.join("benchmark");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let put = |path: PathBuf, text: String| fs::write(&path, text).with_context(|| format!("write {}", path.display()));
    put(dir.join("results.json"), format!("{}\n", serde_json::to_string_pretty(results)?))?;
    put(dir.join("results.svg"), chart::svg(results))?;
    let manual_path = docs_dir.join("benchmark.md");
    let doing = || format!("read {}", manual_path.display());
    let manual = fs::read_to_string(&manual_path).with_context(doing)?;
    let manual = table::replace(&manual, results).with_context(doing)?;
    put(manual_path, manual)
}

fn measure(lab: &Lab, options: &Options) -> Result<Results> {
    let load = load()?;
    if load > QUIET {
        lab.progress.line(&format!(
            "the host is busy (load {load:.2}; expected at most {QUIET:.2}): the results will be worse and vary more"
        ));
    }
    let effort = Effort { repetitions: options.repetitions, seconds: 1 };
    let native = native::measure(&lab.project, effort, &lab.progress)?;
    let was_up = lab.layout.exists();
    lab.up(&Up { eif: options.eif.clone(), ..Up::default() })?;
    let is_kvm = Plan::load(&lab.layout)?.is_kvm;
    let samples = in_lab(lab, options);
    if !was_up && samples.is_ok() {
        lab.down()?;
    }
    let conditions = Conditions {
        repetitions: options.repetitions,
        seconds: options.seconds,
        processors: std::thread::available_parallelism().context("count processors")?.get(),
        load,
        accelerator: if is_kvm { "kvm" } else { "tcg" }.to_owned(),
    };
    Ok(Results::new(conditions, &samples?, native))
}

/// The host's one-minute load average.
fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    let first = text.split_once(' ').and_then(|(first, _)| first.parse().ok());
    first.with_context(|| format!("read /proc/loadavg: {text:?}; expected a number first, such as 0.25"))
}

fn in_lab(lab: &Lab, options: &Options) -> Result<Vec<(Key, f64)>> {
    let parent = lab.parent()?;
    // moto keeps a processor busy while it loads.
    parent.wait_aws()?;
    let address = *lab.enclave(EnclaveId::FIRST).addresses()?.first().context("the enclave has no address")?;
    let site = Site::set_up(&parent)?;
    let bench = Bench { parent: &parent, site: &site, enclave: address, seconds: options.seconds.into() };
    let mut samples = Vec::new();
    let mut repeat = || -> Result<()> {
        for repetition in 1..=options.repetitions {
            lab.progress.phase(&format!("repetition {repetition} of {}", options.repetitions), |phase| {
                bench.repetition(phase, &mut samples)
            })?;
        }
        Ok(())
    };
    let measured = repeat();
    site.tear_down()?;
    measured.map(|()| samples)
}

/// One lab with everything to measure in it.
struct Bench<'lab> {
    parent: &'lab Parent,
    site: &'lab Site<'lab>,
    enclave: IpAddr,
    seconds: u64,
}

impl Bench<'_> {
    /// Measures everything once. What is compared is measured in succession, so that drift affects both.
    fn repetition(&self, phase: &Phase, samples: &mut Vec<(Key, f64)>) -> Result<()> {
        let mut measure = |subject, kind, mtu| -> Result<()> {
            let key = Key { subject, kind, mtu };
            let value = self.sample(key).with_context(|| table::label(key))?;
            phase.note(&format!("{}: {value:.2}", table::label(key)));
            samples.push((key, value));
            Ok(())
        };
        for kind in [Kind::Up, Kind::Down] {
            measure(Subject::Vsock, kind, None)?;
        }
        for mtu in MTUS {
            self.site.set_tunnel_mtu(mtu)?;
            self.site.set_reference_mtu(mtu)?;
            for kind in [Kind::Up, Kind::Down] {
                measure(Subject::Veth, kind, Some(mtu))?;
                measure(Subject::Gateway, kind, Some(mtu))?;
            }
        }
        // The loop has left the tunnel at its own MTU.
        self.site.set_reference_mtu(DEFAULT_ROUTE_MTU)?;
        for kind in [Kind::Up, Kind::Down] {
            measure(Subject::Veth, kind, Some(DEFAULT_ROUTE_MTU))?;
            measure(Subject::Internet, kind, Some(DEFAULT_ROUTE_MTU))?;
        }
        self.site.set_reference_mtu(TUNNEL_MTU)?;
        measure(Subject::Veth, Kind::RoundTrip, Some(TUNNEL_MTU))?;
        measure(Subject::Gateway, Kind::RoundTrip, Some(TUNNEL_MTU))?;
        measure(Subject::Internet, Kind::RoundTrip, Some(DEFAULT_ROUTE_MTU))
    }

    fn sample(&self, key: Key) -> Result<f64> {
        let agent = SocketAddr::new(self.enclave, SELF_TEST_PORT);
        let test = test(key, agent, self.seconds)?;
        let report = match key.subject {
            Subject::Veth => self.site.test_reference(&test)?,
            Subject::Gateway => self.site.test_gateway(&test)?,
            Subject::Internet | Subject::Vsock => self.parent.self_test(agent, &test)?,
        };
        match report {
            Report::Goodput(goodput) => Ok(goodput.megabits_per_second()),
            Report::RoundTrips(trips) if trips.count > 0 => Ok(trips.median.as_secs_f64() * 1e3),
            Report::RoundTrips(_)
            | Report::Transfer(_)
            | Report::Reached(_)
            | Report::Resolved(_)
            | Report::Flooded => {
                bail!("no answer to {test:?}: {report:?}")
            }
        }
    }
}

/// wg-server lets an enclave reach only DNS and ping on the parent. So there the parent connects to the enclave, and what the enclave sends is
/// what the client receives.
fn test(key: Key, agent: SocketAddr, seconds: u64) -> Result<Test> {
    let server = match key.subject {
        Subject::Gateway => agent,
        Subject::Veth => VETH,
        Subject::Internet | Subject::Vsock => *SELF_TEST_SERVERS.first().context("no server")?,
    };
    let direction = match (key.kind, key.subject) {
        (Kind::Up, Subject::Gateway) | (Kind::Down, Subject::Veth | Subject::Internet | Subject::Vsock) => {
            Direction::Down
        }
        (Kind::Down, Subject::Gateway) | (Kind::Up, Subject::Veth | Subject::Internet | Subject::Vsock) => {
            Direction::Up
        }
        (Kind::RoundTrip, _) => {
            return Ok(Test::Rtt { server, transport: Transport::Tcp, count: ROUND_TRIPS, size: 64 });
        }
    };
    Ok(match key.subject {
        Subject::Vsock => Test::Vsock { port: VSOCK_PORT, direction, seconds },
        Subject::Gateway | Subject::Internet | Subject::Veth => Test::TcpGoodput { server, direction, seconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_measurement_asks_for_its_own_test() {
        let agent = SocketAddr::from(([203, 0, 113, 2], 7007));
        let of = |subject, kind| test(Key { subject, kind, mtu: None }, agent, 4).unwrap();
        let (up, down) = (Direction::Up, Direction::Down);
        assert_eq!(of(Subject::Gateway, Kind::Up), Test::TcpGoodput { server: agent, direction: down, seconds: 4 });
        assert_eq!(of(Subject::Vsock, Kind::Up), Test::Vsock { port: VSOCK_PORT, direction: up, seconds: 4 });
        assert!(matches!(of(Subject::Veth, Kind::RoundTrip), Test::Rtt { server: VETH, .. }));
        assert!(matches!(of(Subject::Internet, Kind::Down), Test::TcpGoodput { direction: Direction::Down, .. }));
    }

    #[test]
    fn the_mtus_are_those_of_the_lab_s_configurations() {
        let enclave = include_str!("../config/enclave/enclave.toml");
        assert!(enclave.contains(&format!("\nmtu = {TUNNEL_MTU}\n")));
        assert!(enclave.contains(&format!("\ndefault_route_mtu = {DEFAULT_ROUTE_MTU}\n")));
        assert!(include_str!("../../../config/parent/parent.toml").contains(&format!("\nmtu = {TUNNEL_MTU}\n")));
        assert_eq!(MTUS.last(), Some(&TUNNEL_MTU));
    }

    #[test]
    fn results_are_written_into_the_manual_and_beside_it() {
        let docs = tempfile::tempdir().unwrap();
        let results = results::tests::sample();
        assert!(write(docs.path(), &results).unwrap_err().to_string().starts_with("read "), "there is no manual yet");
        let manual = include_str!("../../../docs/benchmark.md");
        fs::write(docs.path().join("benchmark.md"), manual).unwrap();
        write(docs.path(), &results).unwrap();
        for name in ["benchmark/results.json", "benchmark/results.svg", "benchmark.md"] {
            assert!(fs::metadata(docs.path().join(name)).unwrap().len() > 1000, "{name}");
        }
    }
}
