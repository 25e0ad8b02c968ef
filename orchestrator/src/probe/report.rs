//! What the probe prints, in the format of ping(8).

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::time::Duration;

/// An echo that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) sequence: u16,
    pub(super) bytes: usize,
    pub(super) ttl: Option<u8>,
    pub(super) time: Duration,
}

/// One destination, probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    name: String,
    reached: Result<Pinged, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pinged {
    address: IpAddr,
    sent: u16,
    replies: Vec<Reply>,
    errors: Vec<String>,
}

/// What of the outcomes is reported in full when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary(Vec<(Option<IpAddr>, Health)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Lossy,
    Unreachable,
}

impl Outcome {
    pub(super) fn unresolved(name: &str, reason: impl Display) -> Self {
        Self { name: name.to_owned(), reached: Err(reason.to_string()) }
    }

    pub(super) fn pinged(name: String, address: IpAddr, sent: u16, echoes: Vec<Result<Reply, String>>) -> Self {
        let (mut replies, mut errors) = (Vec::new(), Vec::new());
        for echo in echoes {
            match echo {
                Ok(reply) => replies.push(reply),
                Err(error) => errors.push(error),
            }
        }
        Self { name, reached: Ok(Pinged { address, sent, replies, errors }) }
    }

    const fn health(&self) -> (Option<IpAddr>, Health) {
        match &self.reached {
            Err(_) => (None, Health::Unreachable),
            Ok(pinged) if pinged.replies.is_empty() => (Some(pinged.address), Health::Unreachable),
            Ok(pinged) if pinged.replies.len() < pinged.sent as usize => (Some(pinged.address), Health::Lossy),
            Ok(pinged) => (Some(pinged.address), Health::Good),
        }
    }
}

/// The summary of these outcomes.
pub(super) fn summary(outcomes: &[Outcome]) -> Summary {
    Summary(outcomes.iter().map(Outcome::health).collect())
}

/// All outcomes in one line.
pub(super) fn line(outcomes: &[Outcome]) -> String {
    let short = |outcome: &Outcome| match &outcome.reached {
        Err(reason) => format!("{}: {reason}", outcome.name),
        Ok(Pinged { sent, replies, .. }) => {
            let mean = average(replies).map_or_else(String::new, |mean| format!(" {} ms", Millis(mean)));
            format!("{} {}/{sent}{mean}", outcome.name, replies.len())
        }
    };
    outcomes.iter().map(short).collect::<Vec<_>>().join(", ")
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        let Pinged { address, sent, replies, errors } = match &self.reached {
            Err(reason) => return writeln!(f, "ping: {name}: {reason}"),
            Ok(pinged) => pinged,
        };
        writeln!(f, "PING {name} ({address}) 56 data bytes")?;
        for Reply { sequence, bytes, ttl, time } in replies {
            write!(f, "{bytes} bytes from {address}: icmp_seq={sequence} ")?;
            if let Some(ttl) = ttl {
                write!(f, "ttl={ttl} ")?;
            }
            writeln!(f, "time={} ms", Millis(*time))?;
        }
        for error in errors {
            writeln!(f, "ping: {name}: {error}")?;
        }
        let received = replies.len();
        // Whole percent, rounded down as ping(8) does.
        let loss = usize::from(*sent).saturating_sub(received) * 100 / usize::from(*sent).max(1);
        writeln!(f, "--- {name} ping statistics ---")?;
        writeln!(f, "{sent} packets transmitted, {received} received, {loss}% packet loss")?;
        let times = || replies.iter().map(|reply| reply.time);
        if let (Some(min), Some(mean), Some(max)) = (times().min(), average(replies), times().max()) {
            writeln!(f, "rtt min/avg/max = {}/{}/{} ms", Millis(min), Millis(mean), Millis(max))?;
        }
        Ok(())
    }
}

fn average(replies: &[Reply]) -> Option<Duration> {
    let count = u32::try_from(replies.len()).expect("at most one reply for each u16");
    let sum: Duration = replies.iter().map(|reply| reply.time).sum();
    (count > 0).then(|| sum / count)
}

/// Three significant digits, as ping(8) has them.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1000.0;
        match millis {
            _ if millis < 1.0 => write!(f, "{millis:.3}"),
            _ if millis < 10.0 => write!(f, "{millis:.2}"),
            _ if millis < 100.0 => write!(f, "{millis:.1}"),
            _ => write!(f, "{millis:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(sequence: u16, micros: u64) -> Result<Reply, String> {
        Ok(Reply { sequence, bytes: 64, ttl: Some(64), time: Duration::from_micros(micros) })
    }

    fn gateway(echoes: Vec<Result<Reply, String>>) -> Outcome {
        Outcome::pinged("203.0.113.1".into(), "203.0.113.1".parse().unwrap(), 3, echoes)
    }

    #[test]
    fn a_good_ping_reads_as_pings() {
        let outcome = gateway(vec![reply(1, 4210), reply(2, 812), reply(3, 12_340)]);
        let expected = "\
PING 203.0.113.1 (203.0.113.1) 56 data bytes
64 bytes from 203.0.113.1: icmp_seq=1 ttl=64 time=4.21 ms
64 bytes from 203.0.113.1: icmp_seq=2 ttl=64 time=0.812 ms
64 bytes from 203.0.113.1: icmp_seq=3 ttl=64 time=12.3 ms
--- 203.0.113.1 ping statistics ---
3 packets transmitted, 3 received, 0% packet loss
rtt min/avg/max = 0.812/5.79/12.3 ms
";
        assert_eq!(outcome.to_string(), expected);
        assert_eq!(line(&[outcome]), "203.0.113.1 3/3 5.79 ms");
    }

    #[test]
    fn loss_and_errors_are_said() {
        let outcome = gateway(vec![reply(2, 150_000), Err("Network is unreachable (os error 101)".into())]);
        let expected = "\
PING 203.0.113.1 (203.0.113.1) 56 data bytes
64 bytes from 203.0.113.1: icmp_seq=2 ttl=64 time=150 ms
ping: 203.0.113.1: Network is unreachable (os error 101)
--- 203.0.113.1 ping statistics ---
3 packets transmitted, 1 received, 66% packet loss
rtt min/avg/max = 150/150/150 ms
";
        assert_eq!(outcome.to_string(), expected);
        let lost = gateway(vec![]);
        assert!(lost.to_string().ends_with("3 packets transmitted, 0 received, 100% packet loss\n"));
        assert_eq!(line(&[lost, Outcome::unresolved("aws.com", "no address")]), "203.0.113.1 0/3, aws.com: no address");
    }

    #[test]
    fn other_times_are_no_news_but_loss_and_another_address_are() {
        let good = || gateway(vec![reply(1, 1), reply(2, 2), reply(3, 3)]);
        let slow = gateway(vec![reply(1, 9), reply(2, 9), reply(3, 9)]);
        let lossy = gateway(vec![reply(1, 1)]);
        let moved = Outcome {
            reached: Ok(Pinged { address: "203.0.113.9".parse().unwrap(), ..good().reached.unwrap() }),
            ..good()
        };
        assert_eq!(summary(&[good()]), summary(&[slow]));
        assert_ne!(summary(&[good()]), summary(&[lossy]));
        assert_ne!(summary(&[good()]), summary(&[moved]));
        assert_ne!(summary(&[good()]), summary(&[Outcome::unresolved("203.0.113.1", "no address")]));
    }
}
