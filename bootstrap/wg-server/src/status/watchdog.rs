//! What the watchdogs of this host know and did.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::table::ago;
use super::unix_seconds;
use crate::watchdog::record::{self, Record};
use crate::watchdog::{Fault, Ready};

/// One watchdog and its enclave. Times are in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WatchdogReport {
    cid: u32,
    unit: String,
    /// Whether it looks at the enclave as often as it should.
    is_running: bool,
    looked_at: u64,
    /// A fault that is there, but not for long enough.
    suspects: Option<Fault>,
    /// Why it does not judge the enclave now.
    excuse: Option<String>,
    /// What the signer last answered.
    ready: Option<Ready>,
    /// Of the last `watchdog.restarts_within`.
    restarts: Vec<EventReport>,
    /// How often the enclave ended by itself in that time.
    ends: usize,
    gave_up: Option<EventReport>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EventReport {
    at: u64,
    fault: Fault,
}

impl From<&Record> for WatchdogReport {
    fn from(record: &Record) -> Self {
        Self::at(record, record::now(), SystemTime::now())
    }
}

impl WatchdogReport {
    /// `now` and `clock` are the same moment.
    fn at(Record { cid, unit, looked, next, judge }: &Record, now: Duration, clock: SystemTime) -> Self {
        let date = |at: Duration| unix_seconds(clock - now.saturating_sub(at));
        let event = |(at, fault): &(Duration, Fault)| EventReport { at: date(*at), fault: *fault };
        Self {
            cid: *cid,
            unit: unit.clone(),
            is_running: now <= *next,
            looked_at: date(*looked),
            suspects: judge.suspicion().map(|(fault, _)| fault),
            excuse: judge.excuse.as_ref().map(ToString::to_string),
            ready: judge.ready.clone(),
            restarts: judge.restarts.iter().map(event).collect(),
            ends: judge.ends(),
            gave_up: judge.gave_up.as_ref().map(event),
        }
    }
}

/// For the page of metrics.
impl WatchdogReport {
    pub(super) fn enclave(&self) -> String {
        self.cid.to_string()
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts.len().try_into().unwrap_or(u64::MAX)
    }

    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.is_some()
    }
}

impl Display for WatchdogReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cid, unit, suspects, excuse, ready, restarts, ends, gave_up, .. } = self;
        write!(f, "  watchdog: {unit} (CID {cid}): ")?;
        match (self.is_running, gave_up, excuse, suspects) {
            (false, ..) => {
                write!(f, "no look since {}, see `systemctl status wg-watchdog`", ago(self.looked_at))?;
            }
            (true, Some(EventReport { at, fault }), ..) => {
                write!(f, "gave up {}: {fault}; `systemctl restart {unit}` when the cause is gone", ago(*at))?;
            }
            (true, None, Some(excuse), _) => f.write_str(excuse)?,
            (true, None, None, Some(fault)) => write!(f, "suspected: {fault}")?,
            (true, None, None, None) => f.write_str("no fault")?,
        }
        match ready {
            Some(Ready::Answered(status)) => write!(f, "; /ready answers {status}")?,
            Some(Ready::Silent(why)) => write!(f, "; /ready: {why}")?,
            Some(Ready::NotAsked) | None => {}
        }
        if let Some(EventReport { at, fault }) = restarts.last() {
            write!(f, "; restarted {} times, last {}: {fault}", restarts.len(), ago(*at))?;
        }
        if *ends > 0 {
            write!(f, "; ended {ends} times by itself")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::Judge;

    const NOW: Duration = Duration::from_secs(1000);

    fn shown(judge: serde_json::Value, next: u64) -> String {
        let mut whole = serde_json::to_value(Judge::default()).unwrap();
        whole.as_object_mut().unwrap().extend(judge.as_object().unwrap().clone());
        let judge = serde_json::from_value(whole).unwrap();
        let (looked, next) = (NOW - Duration::from_secs(5), Duration::from_secs(next));
        let record = Record { cid: 16, unit: "enclave.service".to_owned(), looked, next, judge };
        let report = WatchdogReport::at(&record, NOW, SystemTime::now());
        let json = serde_json::to_string(&report).unwrap();
        let back: WatchdogReport = serde_json::from_str(&json).unwrap();
        back.to_string()
    }

    #[test]
    fn the_line_says_what_the_watchdog_knows_and_did() {
        let at = |secs| serde_json::json!({"secs": secs, "nanos": 0});
        let ready = |ready| serde_json::json!({ "ready": ready });
        for (judge, line) in [
            (serde_json::json!({}), "no fault"),
            (ready(serde_json::json!({"answered": 503})), "no fault; /ready answers 503"),
            (
                serde_json::json!({"ready_failures": 1, "ready": {"silent": "no answer within 10 s"}}),
                "suspected: its signer does not answer /ready (watchdog.ready_failures); /ready: no answer within 10 s",
            ),
            (serde_json::json!({"excuse": {"stopped": "inactive"}}), "not watched while the unit is inactive"),
            (
                serde_json::json!({"restarts": [[at(880), "data"], [at(940), "control"]], "ended": [at(990)]}),
                "no fault; restarted 2 times, last 1 min 0 s ago: no control stream (watchdog.tunnel_within); ended 1 times by itself",
            ),
            (
                serde_json::json!({"gave_up": [at(900), "handshake"], "excuse": {"unknown": "x"}}),
                "gave up 1 min 40 s ago: no handshake (watchdog.handshake_within); `systemctl restart enclave.service` when the cause \
                 is gone",
            ),
        ] {
            assert_eq!(shown(judge, 1030), format!("  watchdog: enclave.service (CID 16): {line}\n"));
        }
        let stopped = shown(serde_json::json!({"gave_up": [at(900), "data"]}), 999);
        assert_eq!(
            stopped,
            "  watchdog: enclave.service (CID 16): no look since 5 s ago, see `systemctl status wg-watchdog`\n"
        );
    }
}
