//! The measurements, their medians and ratios.

use serde::{Deserialize, Serialize};

/// MTUs to measure: the smallest, which fits an uplink of 1500; EC2's jumbo frames; and the tunnel's own.
pub(super) const MTUS: [u16; 3] = [1420, 8920, 15360];
/// The goal: goodput over the smaller of its two references.
pub(super) const GOAL: f64 = 0.8;

/// The results of one run: the content of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) conditions: Conditions,
    /// Each measurement in the lab, with one sample for each repetition.
    pub(super) lab: Vec<Series>,
    /// Computed from `lab`, for readers of the file.
    pub(super) ratios: Vec<Ratio>,
    /// Measured on the host, without VMs.
    #[serde(flatten)]
    pub(super) native: Native,
}

/// The benchmarks that need no VMs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Native {
    pub(super) relay: Vec<Relay>,
    pub(super) signer: Signer,
    pub(super) proxy: Proxy,
    /// What it costs that answers open the way.
    pub(super) egress: Egress,
}

/// The conditions of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Conditions {
    pub(super) repetitions: u32,
    /// Seconds of traffic in each sample.
    pub(super) seconds: u32,
    /// Number of processors of the host.
    pub(super) processors: usize,
    /// The host's one-minute load average before the first measurement.
    pub(super) load: f64,
    /// `tcg` or `kvm`.
    pub(super) accelerator: String,
}

/// The path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// The tunnel, to the parent's address.
    Gateway,
    /// The tunnel, then address translation, to the lab's internet.
    Internet,
    /// D2: kernel WireGuard between two namespaces of the parent.
    Veth,
    /// D1: a vsock stream, nothing else.
    Vsock,
}

/// What is measured, as the enclave sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Mbit/s of application data, sent.
    Up,
    /// Mbit/s of application data, received.
    Down,
    /// Median round trip in ms.
    RoundTrip,
}

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) subject: Subject,
    pub(super) kind: Kind,
    /// MTU of the TCP connection; absent for vsock.
    pub(super) mtu: Option<u16>,
}

/// All samples of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) median: f64,
    pub(super) samples: Vec<f64>,
}

/// Goodput of the tunnel, and of its references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) tunnel: f64,
    /// D2 at the same MTU, in the same direction.
    pub(super) veth: f64,
    /// D1 in the same direction.
    pub(super) vsock: f64,
    /// `tunnel` over the smaller of the two.
    pub(super) ratio: f64,
    /// The lowest ratio of a single repetition, and the highest.
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

/// Medians of the relay's benchmark for one size of datagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Relay {
    pub(super) bytes: u32,
    pub(super) repetitions: u32,
    pub(super) cpu_seconds_per_gb: f64,
    pub(super) datagrams_per_second: f64,
    pub(super) plain_cpu_seconds_per_gb: f64,
    pub(super) plain_datagrams_per_second: f64,
    pub(super) cpu_ratio: f64,
    pub(super) rate_ratio: f64,
}

/// Medians of the signer's benchmark: rates per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Signer {
    pub(super) repetitions: u32,
    pub(super) connections: u32,
    pub(super) threads: u32,
    pub(super) requests_per_second: f64,
    pub(super) rpc_requests_per_second: f64,
    pub(super) bare_signatures_per_second: f64,
    pub(super) checked_signatures_per_second: f64,
    pub(super) ratio_to_bare: f64,
    pub(super) ratio_to_checked: f64,
    /// CPU time of the signer for one request in its own form, in microseconds.
    pub(super) own_us: f64,
    /// The same in JSON-RPC.
    pub(super) rpc_us: f64,
    /// The same over one connection alone, before whose requests the signer sleeps.
    pub(super) alone_us: f64,
    /// The same without HTTP and TLS.
    pub(super) inside_us: f64,
}

/// Medians of the benchmark of `wallet proxy`: CPU time of all parts for a request, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Proxy {
    pub(super) repetitions: u32,
    pub(super) connections: u32,
    /// Client and signer.
    pub(super) direct_us: f64,
    /// Client, proxy and signer.
    pub(super) proxied_us: f64,
    /// `proxied_us` over `direct_us`, less 1.
    pub(super) added: f64,
}

/// Medians with addresses that an answer opens, and with addresses that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Egress {
    /// How many names were looked up and connected to, on each side.
    pub(super) names: u32,
    /// From the question to the connection.
    pub(super) first_connection: Pair,
    /// A question that named has the answer to.
    pub(super) cached_lookup: Pair,
    /// Of `transfer_bytes` over one connection.
    pub(super) transfer: Pair,
    pub(super) transfer_bytes: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) sets_ms: f64,
    pub(super) listed_ms: f64,
}

impl Results {
    /// Groups samples into series, in the order of their first appearance.
    pub(super) fn new(conditions: Conditions, samples: &[(Key, f64)], native: Native) -> Self {
        let mut lab: Vec<Series> = Vec::new();
        for (key, value) in samples {
            match lab.iter_mut().find(|series| series.key == *key) {
                Some(series) => series.samples.push(*value),
                None => lab.push(Series { key: *key, median: 0.0, samples: vec![*value] }),
            }
        }
        for series in &mut lab {
            series.median = median(&series.samples).expect("a series begins with a sample");
        }
        let ratios = ratios(&lab);
        Self { conditions, lab, ratios, native }
    }

    /// Median round trips over D2's; none without D2.
    pub(super) fn round_trip_ratios(&self) -> Vec<(Key, f64)> {
        let trips = || self.lab.iter().filter(|series| series.key.kind == Kind::RoundTrip);
        let Some(reference) = trips().find(|series| series.key.subject == Subject::Veth && series.median > 0.0) else {
            return Vec::new();
        };
        trips().map(|series| (series.key, series.median / reference.median)).collect()
    }
}

/// The median: the middle value, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(half.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

fn find(lab: &[Series], key: Key) -> Option<&Series> {
    lab.iter().find(|series| series.key == key)
}

fn ratios(lab: &[Series]) -> Vec<Ratio> {
    let is_tunnel =
        |key: Key| matches!(key.subject, Subject::Gateway | Subject::Internet) && key.kind != Kind::RoundTrip;
    lab.iter().filter(|series| is_tunnel(series.key)).filter_map(|tunnel| ratio(lab, tunnel)).collect()
}

fn ratio(lab: &[Series], tunnel: &Series) -> Option<Ratio> {
    let key = tunnel.key;
    let veth = find(lab, Key { subject: Subject::Veth, ..key })?;
    let vsock = find(lab, Key { subject: Subject::Vsock, mtu: None, ..key })?;
    let each = tunnel.samples.iter().zip(veth.samples.iter().zip(&vsock.samples));
    let each: Vec<_> = each.map(|(tunnel, (veth, vsock))| over(*tunnel, *veth, *vsock)).collect();
    Some(Ratio {
        key,
        tunnel: tunnel.median,
        veth: veth.median,
        vsock: vsock.median,
        ratio: over(tunnel.median, veth.median, vsock.median),
        lowest: each.iter().copied().fold(f64::INFINITY, f64::min),
        highest: each.iter().copied().fold(0.0, f64::max),
    })
}

/// Goodput over the smaller of its references; 0 if that is 0, which means not measured.
fn over(goodput: f64, veth: f64, vsock: f64) -> f64 {
    let least = veth.min(vsock);
    if least > 0.0 { goodput / least } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const UP: Key = Key { subject: Subject::Gateway, kind: Kind::Up, mtu: Some(15360) };

    /// Three repetitions of everything, with numbers that are easy to check.
    pub(in crate::bench) fn sample() -> Results {
        let conditions =
            Conditions { repetitions: 3, seconds: 2, processors: 2, load: 0.25, accelerator: "tcg".to_owned() };
        let mut samples = Vec::new();
        for (repetition, wobble) in [1.0, 0.9, 1.2].into_iter().enumerate() {
            for kind in [Kind::Up, Kind::Down] {
                samples.push((Key { subject: Subject::Vsock, kind, mtu: None }, 400.0 * wobble));
                for (mtu, veth) in MTUS.into_iter().zip([80.0, 100.0, 120.0]) {
                    samples.push((Key { subject: Subject::Veth, kind, mtu: Some(mtu) }, veth));
                    samples.push((Key { subject: Subject::Gateway, kind, mtu: Some(mtu) }, veth * wobble));
                }
                samples.push((Key { subject: Subject::Internet, kind, mtu: Some(1420) }, 40.0));
            }
            for subject in [Subject::Gateway, Subject::Veth] {
                let key = Key { subject, kind: Kind::RoundTrip, mtu: Some(15360) };
                samples.push((
                    key,
                    if subject == Subject::Veth { 0.5 } else { 1.5 + f64::from(u8::from(repetition == 2)) },
                ));
            }
        }
        let relay = [1452, 8952, 15400].map(|bytes| Relay {
            bytes,
            repetitions: 3,
            cpu_seconds_per_gb: 1.5,
            datagrams_per_second: 250_000.0,
            plain_cpu_seconds_per_gb: 3.0,
            plain_datagrams_per_second: 200_000.0,
            cpu_ratio: 0.5,
            rate_ratio: 1.25,
        });
        let signer = Signer {
            repetitions: 3,
            connections: 16,
            threads: 2,
            requests_per_second: 3_000.0,
            rpc_requests_per_second: 3_100.0,
            bare_signatures_per_second: 20_000.0,
            checked_signatures_per_second: 4_000.0,
            ratio_to_bare: 0.15,
            ratio_to_checked: 0.75,
            own_us: 110.0,
            rpc_us: 105.0,
            alone_us: 130.0,
            inside_us: 100.0,
        };
        let proxy = Proxy { repetitions: 3, connections: 8, direct_us: 200.0, proxied_us: 240.0, added: 0.2 };
        let pair = |sets_ms| Pair { sets_ms, listed_ms: 1.0 };
        let egress = Egress {
            names: 199,
            first_connection: pair(1.5),
            cached_lookup: pair(1.0),
            transfer: pair(1.02),
            transfer_bytes: 1 << 28,
        };
        Results::new(conditions, &samples, Native { relay: relay.to_vec(), signer, proxy, egress })
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn goodput_is_compared_with_the_smaller_reference() {
        assert!((over(80.0, 100.0, 400.0) - 0.8).abs() < 1e-9);
        assert!((over(80.0, 400.0, 100.0) - 0.8).abs() < 1e-9);
        assert_eq!(over(80.0, 0.0, 100.0), 0.0);
    }

    #[test]
    fn a_ratio_is_of_medians_with_the_spread_of_the_repetitions() {
        let results = sample();
        assert_eq!(results.ratios.len(), 8);
        let ratio = results.ratios.iter().find(|ratio| ratio.key == UP).unwrap();
        assert!((ratio.ratio - 1.0).abs() < 1e-9, "{ratio:?}");
        assert!((ratio.lowest - 0.9).abs() < 1e-9 && (ratio.highest - 1.2).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn round_trips_are_compared_with_that_of_d2() {
        let ratios = sample().round_trip_ratios();
        let subjects: Vec<_> = ratios.iter().map(|(key, ratio)| (key.subject, *ratio)).collect();
        assert_eq!(subjects, [(Subject::Gateway, 3.0), (Subject::Veth, 1.0)]);
        let mut results = sample();
        results.lab.retain(|series| series.key.subject != Subject::Veth);
        assert!(results.round_trip_ratios().is_empty());
    }

    #[test]
    fn each_direction_and_mtu_has_its_own_reference() {
        let Results { conditions, native, .. } = sample();
        let mut samples = vec![(UP, 50.0)];
        for (subject, kind, mtu, value) in [
            (Subject::Veth, Kind::Down, Some(15360), 10.0),
            (Subject::Veth, Kind::Up, Some(1420), 10.0),
            (Subject::Veth, Kind::Up, Some(15360), 100.0),
            (Subject::Vsock, Kind::Down, None, 10.0),
            (Subject::Vsock, Kind::Up, None, 200.0),
        ] {
            samples.push((Key { subject, kind, mtu }, value));
        }
        let results = Results::new(conditions.clone(), &samples, native.clone());
        assert!((results.ratios[0].ratio - 0.5).abs() < 1e-9);
        let results = Results::new(conditions, &[(UP, 50.0)], native);
        assert!(results.ratios.is_empty(), "no reference, no ratio");
    }

    #[test]
    fn the_file_reads_back_as_it_was_written() {
        let results = sample();
        let text = serde_json::to_string(&results).unwrap();
        assert!(text.contains(r#"{"subject":"gateway","kind":"up","mtu":15360,"#), "{text}");
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }
}
