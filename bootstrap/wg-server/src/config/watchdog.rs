//! `[watchdog]`: when `wg-server watch` restarts an enclave, and when it gives up.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The limits that the watchdog applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watchdog {
    /// Between two looks.
    pub(crate) interval: Duration,
    /// For an enclave to have both streams and a proved key.
    pub(crate) tunnel_within: Duration,
    /// Since the latest handshake.
    pub(crate) handshake_within: Duration,
    pub(crate) ready_port: u16,
    /// For one answer of the signer.
    pub(crate) ready_within: Duration,
    /// In a row.
    pub(crate) ready_failures: u32,
    /// Before the second restart. Doubles with each one.
    pub(crate) backoff: Duration,
    /// Within `restarts_within`.
    pub(crate) restarts: u32,
    pub(crate) restarts_within: Duration,
}

/// Keys that are missing have defaults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WatchdogTable {
    #[serde(with = "humantime_serde")]
    interval: Duration,
    #[serde(with = "humantime_serde")]
    tunnel_within: Duration,
    #[serde(with = "humantime_serde")]
    handshake_within: Duration,
    ready_port: u16,
    #[serde(with = "humantime_serde")]
    ready_within: Duration,
    ready_failures: u32,
    #[serde(with = "humantime_serde")]
    backoff: Duration,
    restarts: u32,
    #[serde(with = "humantime_serde")]
    restarts_within: Duration,
}

impl Default for WatchdogTable {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            tunnel_within: Duration::from_mins(1),
            handshake_within: Duration::from_mins(3),
            ready_port: 443,
            ready_within: Duration::from_secs(10),
            ready_failures: 3,
            backoff: Duration::from_mins(1),
            restarts: 5,
            restarts_within: Duration::from_hours(1),
        }
    }
}

impl WatchdogTable {
    pub(super) fn check(self) -> Result<Watchdog> {
        let second = Duration::from_secs(1);
        let hour = Duration::from_hours(1);
        within("interval", self.interval, second, Duration::from_mins(1), "10s")?;
        within("tunnel_within", self.tunnel_within, 5 * second, hour, "1m")?;
        // WireGuard replaces a session after 120 s, with the next packet, which is a keepalive at the latest.
        within("handshake_within", self.handshake_within, 150 * second, hour, "3m")?;
        within("ready_within", self.ready_within, second, Duration::from_mins(1), "10s")?;
        within("backoff", self.backoff, second, hour, "1m")?;
        within("restarts_within", self.restarts_within, Duration::from_mins(1), 24 * hour, "1h")?;
        ensure!(self.ready_port != 0, "watchdog.ready_port: 0 is not a port, expected 1 to 65535, usually 443");
        for (key, number) in [("ready_failures", self.ready_failures), ("restarts", self.restarts)] {
            ensure!((1..=100).contains(&number), "watchdog.{key}: {number}, expected 1 to 100");
        }
        Ok(Watchdog {
            interval: self.interval,
            tunnel_within: self.tunnel_within,
            handshake_within: self.handshake_within,
            ready_port: self.ready_port,
            ready_within: self.ready_within,
            ready_failures: self.ready_failures,
            backoff: self.backoff,
            restarts: self.restarts,
            restarts_within: self.restarts_within,
        })
    }
}

fn within(key: &str, value: Duration, least: Duration, most: Duration, usual: &str) -> Result<()> {
    let text = |duration| humantime_serde::re::humantime::format_duration(duration);
    ensure!(
        (least..=most).contains(&value),
        "watchdog.{key}: \"{}\", expected \"{}\" to \"{}\", usually \"{usual}\"",
        text(value),
        text(least),
        text(most)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const LAB: &str = include_str!("../../tests/parent.toml");

    #[test]
    fn without_the_table_everything_has_a_default() {
        let Config { watchdog, .. } = Config::parse(LAB).unwrap();
        assert_eq!((watchdog.handshake_within, watchdog.ready_failures), (Duration::from_secs(180), 3));
        assert_eq!((watchdog.backoff, watchdog.restarts), (Duration::from_secs(60), 5));
        assert_eq!(watchdog.restarts_within, Duration::from_secs(3600));
        let with = format!("{LAB}\n[watchdog]\ntunnel_within = \"5s\"\n");
        assert_eq!(
            Config::parse(&with).unwrap().watchdog,
            Watchdog { tunnel_within: Duration::from_secs(5), ..watchdog }
        );
    }

    #[test]
    fn the_file_that_ships_has_the_defaults() {
        let shipped = include_str!("../../../../config/parent/parent.toml");
        assert!(shipped.contains("\n[watchdog]\n"));
        assert_eq!(Config::parse(shipped).unwrap().watchdog, Config::parse(LAB).unwrap().watchdog);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_the_range() {
        for (line, expected) in [
            ("interval = \"0s\"", "watchdog.interval: \"0s\", expected \"1s\" to \"1m\", usually \"10s\""),
            ("tunnel_within = \"4s\"", "watchdog.tunnel_within: \"4s\", expected \"5s\" to \"1h\", usually \"1m\""),
            // WireGuard alone may take that long: each enclave would be restarted again and again.
            (
                "handshake_within = \"149s\"",
                "watchdog.handshake_within: \"2m 29s\", expected \"2m 30s\" to \"1h\", usually \"3m\"",
            ),
            ("ready_within = \"2m\"", "watchdog.ready_within: \"2m\", expected \"1s\" to \"1m\", usually \"10s\""),
            ("backoff = \"0s\"", "watchdog.backoff: \"0s\", expected \"1s\" to \"1h\", usually \"1m\""),
            (
                "restarts_within = \"1s\"",
                "watchdog.restarts_within: \"1s\", expected \"1m\" to \"1day\", usually \"1h\"",
            ),
            ("ready_port = 0", "watchdog.ready_port: 0 is not a port, expected 1 to 65535, usually 443"),
            ("ready_failures = 0", "watchdog.ready_failures: 0, expected 1 to 100"),
            ("restarts = 101", "watchdog.restarts: 101, expected 1 to 100"),
        ] {
            let error = format!("{:#}", Config::parse(&format!("{LAB}\n[watchdog]\n{line}\n")).unwrap_err());
            assert_eq!(error, expected, "{line}");
        }
    }
}
