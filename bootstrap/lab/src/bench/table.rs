//! The results as tables, for a terminal and for docs/benchmark.md.

use anyhow::{Context, Result};

use super::results::{Egress, GOAL, Key, Kind, Native, Pair, Proxy, Relay, Results, Signer, Subject};

/// What a request may cost the signer, over what it costs without HTTP and TLS.
const MOST_OF_REQUEST: f64 = 1.15;
/// What `wallet proxy` may add, over a direct request.
const MOST_OF_PROXY: f64 = 0.3;

/// Markers around the generated part of docs/benchmark.md.
const BEGIN: &str = "<!-- results: begin; written by `lab bench`, not by hand -->";
const END: &str = "<!-- results: end -->";

/// A title and rows; the first row names the columns.
struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

/// For a terminal.
pub(super) fn plain(results: &Results) -> String {
    let mut text = format!("{}\n", conditions(results));
    for table in tables(results) {
        text.push_str(&format!("\n{}\n", table.title));
        let columns = table.rows.first().map_or(0, Vec::len);
        let widths: Vec<_> = (0..columns)
            .map(|column| table.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max())
            .map(|width| width.expect("the first row has every column"))
            .collect();
        for row in &table.rows {
            let cells: Vec<_> = row.iter().zip(&widths).enumerate().map(align).collect();
            text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
        }
    }
    text
}

/// Aligns words to the left and numbers to the right.
fn align((column, (cell, width)): (usize, (&String, &usize))) -> String {
    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

/// For docs/benchmark.md.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = format!("{}\n", conditions(results));
    for table in tables(results) {
        text.push_str(&format!("\n{}:\n\n", table.title));
        for (index, row) in table.rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if index == 0 {
                text.push_str(&format!("|---|{}\n", "---:|".repeat(row.len().saturating_sub(1))));
            }
        }
    }
    text
}

/// The manual with these results instead of the previous ones.
///
/// # Errors
/// A manual without the two markers.
pub(super) fn replace(manual: &str, results: &Results) -> Result<String> {
    let (before, rest) = manual.split_once(BEGIN).with_context(|| format!("there is no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("there is no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", markdown(results)))
}

/// What each number of the lab has to be read with.
pub(super) fn caution(results: &Results) -> String {
    if results.conditions.accelerator == "tcg" {
        "under TCG, only comparable within this run".to_owned()
    } else {
        format!("under {}, comparable within this run", results.conditions.accelerator.to_uppercase())
    }
}

fn conditions(results: &Results) -> String {
    let conditions = &results.conditions;
    format!(
        "Medians of {} repetitions of {} s each; a host with {} processors, load {:.2} before the start.",
        conditions.repetitions, conditions.seconds, conditions.processors, conditions.load
    )
}

fn tables(results: &Results) -> Vec<Table> {
    let Native { relay, signer, proxy, egress } = &results.native;
    let tables = [
        goodput(results),
        round_trips(results),
        relays(relay),
        signatures(signer),
        request(signer, proxy),
        connections(egress),
    ];
    tables.into_iter().filter(|table| table.rows.len() > 1).collect()
}

fn goodput(results: &Results) -> Table {
    let mut rows = vec![words(&[
        "TCP goodput of the enclave",
        "MTU",
        "over D1, raw vsock",
        "over D2, WireGuard over veth",
        "over min(D1, D2)",
        "lowest to highest",
    ])];
    for ratio in &results.ratios {
        let mark = if ratio.ratio < GOAL { " (below the goal)" } else { "" };
        rows.push(vec![
            name(ratio.key).to_owned(),
            mtu(ratio.key),
            format!("{:.2}", ratio.tunnel / ratio.vsock),
            format!("{:.2}", ratio.tunnel / ratio.veth),
            format!("{:.2}{mark}", ratio.ratio),
            format!("{:.2} to {:.2}", ratio.lowest, ratio.highest),
        ]);
    }
    Table { title: format!("Goodput in the lab ({})", caution(results)), rows }
}

fn round_trips(results: &Results) -> Table {
    let mut rows = vec![words(&["TCP round trip, 64 bytes", "MTU", "over D2's"])];
    for (key, ratio) in results.round_trip_ratios() {
        rows.push(vec![name(key).to_owned(), mtu(key), format!("{ratio:.1}")]);
    }
    Table { title: format!("Round trips in the lab ({})", caution(results)), rows }
}

fn relays(relays: &[Relay]) -> Table {
    let mut rows = vec![words(&[
        "relay on the host, bytes per datagram",
        "CPU s/GB",
        "plain loop",
        "ratio",
        "datagrams/s",
        "plain loop",
        "ratio",
    ])];
    for relay in relays {
        rows.push(vec![
            relay.bytes.to_string(),
            format!("{:.3}", relay.cpu_seconds_per_gb),
            format!("{:.3}", relay.plain_cpu_seconds_per_gb),
            format!("{:.2}", relay.cpu_ratio),
            format!("{:.0}", relay.datagrams_per_second),
            format!("{:.0}", relay.plain_datagrams_per_second),
            format!("{:.2}", relay.rate_ratio),
        ]);
    }
    Table { title: "The relay without machines, both ends together, one direction".to_owned(), rows }
}

fn signatures(signer: &Signer) -> Table {
    let row = |what: &str, rate: f64, ratio: Option<f64>| {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        vec![what.to_owned(), format!("{rate:.0}"), ratio]
    };
    let rows = vec![
        words(&["signer on the host", "per second", "requests over it"]),
        row("requests over TLS, client included", signer.requests_per_second, None),
        row(
            "requests in JSON-RPC",
            signer.rpc_requests_per_second,
            Some(signer.requests_per_second / signer.rpc_requests_per_second),
        ),
        row("signatures, encoded and checked", signer.checked_signatures_per_second, Some(signer.ratio_to_checked)),
        row("bare secp256k1 signatures", signer.bare_signatures_per_second, Some(signer.ratio_to_bare)),
    ];
    let (threads, connections) = (signer.threads, signer.connections);
    let title = format!("Signatures without machines, {threads} threads, {connections} kept-alive connections");
    Table { title, rows }
}

/// What one request costs, and what may be on top.
fn request(signer: &Signer, proxy: &Proxy) -> Table {
    let row = |what: &str, cost: f64, over: f64, bound: &str| {
        vec![what.to_owned(), format!("{cost:.0}"), format!("{:.2}", cost / over), bound.to_owned()]
    };
    let Signer { own_us, rpc_us, alone_us, inside_us, .. } = *signer;
    let rows = vec![
        words(&["a request over kept-alive connections, on the host", "CPU µs", "ratio", "bound"]),
        row("signer: read, judged, signed, checked", inside_us, inside_us, ""),
        row("signer: the same over HTTP and TLS", own_us, inside_us, &format!("{MOST_OF_REQUEST}")),
        row("signer: in JSON-RPC", rpc_us, inside_us, &format!("{MOST_OF_REQUEST}")),
        row("signer: over one connection alone", alone_us, inside_us, ""),
        row("client and signer", proxy.direct_us, proxy.direct_us, ""),
        row(
            "client, `wallet proxy` and signer",
            proxy.proxied_us,
            proxy.direct_us,
            &format!("{}", 1.0 + MOST_OF_PROXY),
        ),
    ];
    Table { title: "A request without machines".to_owned(), rows }
}

fn connections(egress: &Egress) -> Table {
    let row = |what: &str, pair: Pair| {
        let Pair { sets_ms, listed_ms } = pair;
        let difference = format!("{:+.3}", sets_ms - listed_ms);
        vec![what.to_owned(), format!("{sets_ms:.3}"), format!("{listed_ms:.3}"), difference]
    };
    let mib = egress.transfer_bytes >> 20;
    let rows = vec![
        words(&["an enclave's connections, on the host", "opened by an answer, ms", "listed, ms", "difference"]),
        row("name to first connection", egress.first_connection),
        row("lookup from named's cache", egress.cached_lookup),
        row(&format!("{mib} MiB over a connection"), egress.transfer),
    ];
    Table { title: format!("The parent's egress rules without machines, {} names", egress.names), rows }
}

/// The name of a row, or of a group of bars.
pub(super) const fn name(key: Key) -> &'static str {
    match (key.subject, key.kind) {
        (Subject::Gateway, Kind::Up) => "to the gateway",
        (Subject::Gateway, Kind::Down) => "from the gateway",
        (Subject::Gateway, Kind::RoundTrip) => "tunnel, gateway",
        (Subject::Internet, Kind::Up) => "to the internet, NAT",
        (Subject::Internet, Kind::Down) => "from the internet, NAT",
        (Subject::Internet, Kind::RoundTrip) => "tunnel, internet",
        (Subject::Veth, _) => "D2: WireGuard over veth",
        (Subject::Vsock, _) => "D1: raw vsock",
    }
}

/// The label of a measurement while it runs.
pub(super) fn label(key: Key) -> String {
    let kind = match key.kind {
        Kind::Up => "Mbit/s up",
        Kind::Down => "Mbit/s down",
        Kind::RoundTrip => "ms per round trip",
    };
    let mtu = key.mtu.map_or_else(String::new, |mtu| format!(", MTU {mtu}"));
    format!("{}{mtu}, {kind}", name(key))
}

fn mtu(key: Key) -> String {
    key.mtu.map_or_else(String::new, |mtu| mtu.to_string())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::sample;

    #[test]
    fn the_terminal_s_columns_line_up() {
        let text = plain(&sample());
        let rows: Vec<_> = text.lines().filter(|line| line.contains("the gateway  ")).collect();
        assert_eq!(rows.len(), 6, "{text}");
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert!(rows[2].contains("15360") && rows[2].contains("0.30"), "{text}");
        assert!(text.contains("under TCG, only comparable within this run"), "{text}");
    }

    #[test]
    fn every_row_of_the_manual_has_the_columns_of_its_head() {
        let text = markdown(&sample());
        let pipes = |line: &str| line.matches('|').count();
        let mut columns = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                columns = None;
                continue;
            }
            assert_eq!(pipes(line), *columns.get_or_insert(pipes(line)), "{line}");
        }
        assert_eq!(text.matches("|---|").count(), 6);
    }

    #[test]
    fn a_ratio_below_the_goal_says_so() {
        let text = markdown(&sample());
        let row = text.lines().find(|line| line.contains("to the internet, NAT")).unwrap();
        assert!(row.contains("0.50 (below the goal)"), "{row}");
        assert!(!text.lines().any(|line| line.contains("to the gateway") && line.contains("below")), "{text}");
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let manual = format!("# Before\n{BEGIN}\nold\n{END}\nAfter\n");
        let once = replace(&manual, &sample()).unwrap();
        assert!(once.starts_with("# Before\n") && once.ends_with(&format!("{END}\nAfter\n")), "{once}");
        assert!(!once.contains("old") && once.contains("15360"), "{once}");
        assert_eq!(replace(&once, &sample()).unwrap(), once);
        assert!(replace("nothing here", &sample()).is_err());
    }
}
