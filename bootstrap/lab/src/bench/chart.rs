//! The results as SVG: horizontal bars, each measurement above its references.

use std::fmt::Write as _;

use super::results::{Key, Ratio, Relay, Results, Subject};
use super::table::{caution, name};

const WIDTH: f64 = 900.0;
/// Left end of the bars; labels are to the left.
const LEFT: f64 = 230.0;
/// Right end of the longest bar; its value is to the right.
const RIGHT: f64 = 720.0;
const BAR: f64 = 13.0;
const GROUP_GAP: f64 = 10.0;
/// Height of the title above the bars, and of the axis below them.
const PANEL_HEAD: f64 = 34.0;
const PANEL_FOOT: f64 = 58.0;

const INK: &str = "#1c2733";
const FAINT: &str = "#dde3ea";
const TUNNEL: Colour = Colour { fill: "#1f5fa8", legend: "tunnel, relay" };
const VETH: Colour = Colour { fill: "#e08a1e", legend: "D2: kernel WireGuard over veth, same MTU" };
const VSOCK: Colour = Colour { fill: "#9aa5b1", legend: "D1: raw vsock stream" };
const PLAIN: Colour = Colour { fill: "#5b9160", legend: "plain loop in place of the relay" };

/// What a bar stands for.
#[derive(Clone, Copy, Debug)]
struct Colour {
    fill: &'static str,
    legend: &'static str,
}

/// Bars on one scale.
struct Panel {
    title: String,
    /// With its unit.
    axis: &'static str,
    groups: Vec<Group>,
}

struct Group {
    label: String,
    bars: Vec<Bar>,
}

struct Bar {
    colour: Colour,
    value: f64,
    text: String,
}

/// The SVG file.
pub(super) fn svg(results: &Results) -> String {
    let panels: Vec<_> = [goodput(results), round_trips(results), relay_cpu(results), relay_rate(results)]
        .into_iter()
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    let mut body = String::new();
    text(&mut body, 20.0, 32.0, "start", 18.0, "bold", "WireGuard over vsock beside its references");
    let mut y = 60.0;
    for (index, colour) in [TUNNEL, VETH, VSOCK, PLAIN].into_iter().enumerate() {
        let (column, row) = if index < 2 { (20.0, index) } else { (480.0, index - 2) };
        let top = y + if row == 0 { 0.0 } else { 20.0 };
        rect(&mut body, column, top - 11.0, BAR, BAR, colour.fill);
        text(&mut body, column + 20.0, top, "start", 12.0, "normal", colour.legend);
    }
    y += 46.0;
    for panel in &panels {
        y = panel.draw(&mut body, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\" role=\"img\">\n\
         <title>WireGuard over vsock beside its references</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn goodput(results: &Results) -> Panel {
    let group = |ratio: &Ratio| {
        let least = ratio.veth.min(ratio.vsock);
        let bar = |colour, value: f64| Bar { colour, value: value / least, text: format!("{:.2}", value / least) };
        Group {
            label: ratio
                .key
                .mtu
                .map_or_else(|| name(ratio.key).to_owned(), |mtu| format!("{}, {mtu}", name(ratio.key))),
            bars: vec![bar(TUNNEL, ratio.tunnel), bar(VETH, ratio.veth), bar(VSOCK, ratio.vsock)],
        }
    };
    Panel {
        title: format!("TCP goodput of the enclave, by path and MTU ({})", caution(results)),
        axis: "goodput, as a multiple of min(D1, D2) (longer is better)",
        groups: results.ratios.iter().map(group).collect(),
    }
}

fn round_trips(results: &Results) -> Panel {
    let group = |(key, ratio): (Key, f64)| Group {
        label: name(key).to_owned(),
        bars: vec![Bar {
            colour: if key.subject == Subject::Veth { VETH } else { TUNNEL },
            value: ratio,
            text: format!("{ratio:.1}"),
        }],
    };
    Panel {
        title: format!("TCP round trip of 64 bytes ({})", caution(results)),
        axis: "median round trip, as a multiple of D2's (shorter is better)",
        groups: results.round_trip_ratios().into_iter().map(group).collect(),
    }
}

fn relay_cpu(results: &Results) -> Panel {
    let group = |relay: &Relay| {
        beside_plain(relay, relay.cpu_seconds_per_gb, relay.plain_cpu_seconds_per_gb, relay.cpu_ratio, 2)
    };
    Panel {
        title: "The relay's cost on the host, without machines, by size of datagram".to_owned(),
        axis: "CPU seconds per GB, both ends together (shorter is better)",
        groups: results.native.relay.iter().map(group).collect(),
    }
}

fn relay_rate(results: &Results) -> Panel {
    let group = |relay: &Relay| {
        beside_plain(relay, relay.datagrams_per_second, relay.plain_datagrams_per_second, relay.rate_ratio, 0)
    };
    Panel {
        title: "The relay's rate on the host, without machines, by size of datagram".to_owned(),
        axis: "datagrams per second, one direction (longer is better)",
        groups: results.native.relay.iter().map(group).collect(),
    }
}

/// What the relay needs or does, above that of the plain loop.
fn beside_plain(relay: &Relay, ours: f64, plain: f64, ratio: f64, digits: usize) -> Group {
    let bar = |colour, value, text| Bar { colour, value, text };
    Group {
        label: format!("{} bytes", relay.bytes),
        bars: vec![
            bar(TUNNEL, ours, format!("{ours:.digits$} = {ratio:.2} of the loop")),
            bar(PLAIN, plain, format!("{plain:.digits$}")),
        ],
    }
}

impl Panel {
    /// Draws the panel from `top` down; the top of the next one.
    fn draw(&self, out: &mut String, top: f64) -> f64 {
        text(out, 20.0, top + 16.0, "start", 14.0, "bold", &self.title);
        let longest = self.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).fold(0.0, f64::max);
        let step = step(longest);
        let scale = (RIGHT - LEFT) / longest.max(step);
        let first = top + PANEL_HEAD;
        let height: f64 = self.groups.iter().map(Group::height).sum();
        let bottom = first + height;
        let mut tick = 0.0;
        while tick <= longest.max(step) * 1.001 {
            let x = LEFT + tick * scale;
            line(out, x, first, x, bottom, FAINT);
            text(out, x, bottom + 15.0, "middle", 11.0, "normal", &short(tick));
            tick += step;
        }
        text(out, (LEFT + RIGHT) / 2.0, bottom + 34.0, "middle", 12.0, "normal", self.axis);
        let mut y = first;
        for group in &self.groups {
            let middle = y + group.height() / 2.0 + 4.0;
            text(out, LEFT - 8.0, middle, "end", 12.0, "normal", &group.label);
            let mut bar_top = y + GROUP_GAP / 2.0;
            for bar in &group.bars {
                let width = (bar.value * scale).max(1.0);
                rect(out, LEFT, bar_top, width, BAR - 1.0, bar.colour.fill);
                text(out, LEFT + width + 5.0, bar_top + 10.0, "start", 10.5, "normal", &bar.text);
                bar_top += BAR;
            }
            y += group.height();
        }
        line(out, LEFT, first, LEFT, bottom, INK);
        bottom + PANEL_FOOT
    }
}

impl Group {
    fn height(&self) -> f64 {
        self.bars.iter().map(|_| BAR).sum::<f64>() + GROUP_GAP
    }
}

/// The distance between ticks: 1, 2 or 5 times a power of ten, for at most six ticks.
fn step(longest: f64) -> f64 {
    if !longest.is_finite() || longest <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf((longest / 6.0).log10().floor());
    let fitting = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| longest / step <= 6.0);
    fitting.unwrap_or(10.0 * power)
}

/// `0`, `0.5`, `20`, `150k`.
fn short(value: f64) -> String {
    if value >= 10_000.0 {
        return format!("{}k", value / 1000.0);
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: f64, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{INK}\">{words}</text>"
    )
    .expect("a String takes every line");
}

fn rect(out: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) {
    writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>")
        .expect("a String takes every line");
}

fn line(out: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) {
    writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>")
        .expect("a String takes every line");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::sample;

    #[test]
    fn every_measurement_has_its_bar_and_its_value() {
        let results = sample();
        let picture = svg(&results);
        let bars = |colour: Colour| picture.matches(colour.fill).count() - 1;
        // One in the legend is taken off; goodput, round trips, the relay's two panels.
        assert_eq!(bars(TUNNEL), results.ratios.len() + 1 + 3 + 3);
        assert_eq!(bars(VETH), results.ratios.len() + 1);
        assert_eq!(bars(VSOCK), results.ratios.len());
        assert_eq!(bars(PLAIN), 6);
        assert!(picture.contains(">1.00<") && picture.contains(">3.0<"), "{picture}");
        assert!(picture.contains("under TCG, only comparable within this run"), "{picture}");
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let bar = |value| Bar { colour: PLAIN, value, text: String::new() };
        let group = Group { label: "a < b".into(), bars: vec![bar(10.0), bar(40.0)] };
        let mut out = String::new();
        Panel { title: String::new(), axis: "", groups: vec![group] }.draw(&mut out, 0.0);
        let widths: Vec<f64> = out
            .lines()
            .filter_map(|line| line.strip_prefix("<rect ")?.split_once("width=\"")?.1.split_once('"'))
            .map(|(width, _)| width.parse().unwrap())
            .collect();
        assert_eq!(widths, [(RIGHT - LEFT) / 4.0, RIGHT - LEFT]);
        assert!(out.contains("a &lt; b"), "{out}");
    }

    #[test]
    fn ticks_are_round_numbers_and_few() {
        for (longest, expected) in
            [(1.0, 0.2), (6.0, 1.0), (7.0, 2.0), (315.0, 100.0), (250_000.0, 50_000.0), (0.0, 1.0)]
        {
            assert!((step(longest) - expected).abs() < expected / 1e6, "{longest}: {}", step(longest));
        }
        assert_eq!([0.0, 0.5, 20.0, 150_000.0].map(short), ["0", "0.5", "20", "150k"]);
    }

    #[test]
    fn a_run_without_anything_is_still_a_picture() {
        let Results { conditions, mut native, .. } = sample();
        native.relay.clear();
        let empty = Results::new(conditions, &[], native);
        assert!(svg(&empty).starts_with("<svg ") && svg(&empty).ends_with("</svg>\n"));
    }
}
