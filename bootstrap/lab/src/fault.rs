//! `lab fault`: from the command line to requests on the control socket of the switch.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use humantime_serde::re::humantime;
use tunnel::port::{Cid, Port};
use vsock_switch::{Fault, Filter, Request, Response};

use crate::host::Lab;

/// One request to the switch.
#[derive(Clone, Debug, Subcommand)]
pub enum FaultCommand {
    /// Show guests, connections and faults as JSON
    List,
    /// Reset matching connections now
    Reset(Where),
    /// Stop delivery in one direction
    Stall {
        /// Which connections
        #[command(flatten)]
        at: Where,
        /// How long
        #[command(flatten)]
        lasts: Lasts,
    },
    /// Limit the rate of one direction
    Slow {
        /// Bytes per second
        #[arg(long)]
        rate: NonZeroU64,
        /// Which connections
        #[command(flatten)]
        at: Where,
        /// How long
        #[command(flatten)]
        lasts: Lasts,
    },
    /// Deliver one direction byte by byte
    Dribble {
        /// Which connections
        #[command(flatten)]
        at: Where,
        /// How long
        #[command(flatten)]
        lasts: Lasts,
    },
    /// Flip one bit, once
    Flip {
        /// Number of bytes to deliver unchanged first
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Which connections
        #[command(flatten)]
        at: Where,
    },
    /// Reset one connection in the middle, once
    Cut {
        /// Number of bytes to deliver first
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Which connections
        #[command(flatten)]
        at: Where,
    },
    /// Refuse new connections, as if nothing were listening
    Refuse {
        /// Which connections
        #[command(flatten)]
        at: Where,
        /// How long
        #[command(flatten)]
        lasts: Lasts,
    },
    /// End one fault, or all
    Clear {
        /// Number of the fault [default: all]
        id: Option<u32>,
    },
}

/// Which direction of which connections. An option that is not given matches all.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Where {
    /// CID of the sender (the parent is 3)
    #[arg(long)]
    from: Option<u32>,
    /// CID of the receiver
    #[arg(long)]
    to: Option<u32>,
    /// vsock port at either end (820 data, 821 control)
    #[arg(long)]
    port: Option<u32>,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Lasts {
    /// Duration, such as 5s [default: until `lab fault clear`]
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

/// One fault as `lab up --fault` takes it.
#[derive(Parser)]
#[command(name = "--fault", no_binary_name = true, disable_help_flag = true)]
struct Words {
    #[command(subcommand)]
    command: FaultCommand,
}

impl FromStr for FaultCommand {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        Words::try_parse_from(words.split_whitespace()).map(|words| words.command).map_err(|error| error.to_string())
    }
}

impl Lab {
    /// Sends a request to the switch; its answer as text.
    ///
    /// # Errors
    /// No lab is up, or the switch refuses.
    pub fn fault(&self, command: &FaultCommand) -> Result<String> {
        match vsock_switch::ask(&self.layout.socket_dir(), &command.request())? {
            Response::Done { connections, fault: Some(id) } => Ok(format!(
                "fault {id} is active, on {connections} connections now; end it with `lab fault clear {id}`"
            )),
            Response::Done { connections, fault: None } => Ok(format!("done, on {connections} connections")),
            Response::State(state) => Ok(serde_json::to_string_pretty(&state)?),
            Response::Refused { reason } => bail!("the switch refuses: {reason}"),
        }
    }
}

impl FaultCommand {
    fn request(&self) -> Request {
        let inject = |fault, at: &Where, lasts: Option<Duration>| Request::Inject { fault, filter: at.filter(), lasts };
        match self {
            Self::List => Request::List,
            Self::Reset(at) => Request::Reset { filter: at.filter() },
            Self::Stall { at, lasts } => inject(Fault::Stall, at, lasts.time),
            Self::Slow { rate, at, lasts } => inject(Fault::Slow { bytes_per_second: *rate }, at, lasts.time),
            Self::Dribble { at, lasts } => inject(Fault::Dribble, at, lasts.time),
            Self::Flip { after, at } => inject(Fault::Flip { after_bytes: *after }, at, None),
            Self::Cut { after, at } => inject(Fault::Cut { after_bytes: *after }, at, None),
            Self::Refuse { at, lasts } => inject(Fault::Refuse, at, lasts.time),
            Self::Clear { id } => Request::Clear { fault: *id },
        }
    }
}

impl Where {
    fn filter(&self) -> Filter {
        Filter { source: self.from.map(Cid), destination: self.to.map(Cid), port: self.port.map(Port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> String {
        serde_json::to_string(&words.parse::<FaultCommand>().unwrap().request()).unwrap()
    }

    #[test]
    fn words_become_requests() {
        assert_eq!(
            line("slow --rate 1000 --from 16 --port 820 --for 5s"),
            r#"{"verb":"inject","fault":{"kind":"slow","bytes_per_second":1000},"filter":{"source":16,"port":820},"lasts":"5s"}"#
        );
        assert_eq!(line("reset --to 16"), r#"{"verb":"reset","filter":{"destination":16}}"#);
        assert_eq!(line("clear 7"), r#"{"verb":"clear","fault":7}"#);
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!("stal".parse::<FaultCommand>().unwrap_err().contains("stal"));
        assert!("slow".parse::<FaultCommand>().unwrap_err().contains("--rate"));
    }
}
