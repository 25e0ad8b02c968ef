//! Progress on stderr: one line for each phase, with its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Progress on stderr: a spinner on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    is_terminal: bool,
}

/// A running phase.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: Option<ProgressBar>,
    what: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self { start: Instant::now(), is_terminal: std::io::stderr().is_terminal() }
    }
}

impl Progress {
    /// Shows `what` while `work` runs, and then the time that it took.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn phase<T>(&self, what: &str, work: impl FnOnce(&Phase) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let phase = Phase { bar: self.is_terminal.then(spinner), what: what.into() };
        if let Some(bar) = &phase.bar {
            bar.set_message(what.to_owned());
        }
        let result = work(&phase);
        if let Some(bar) = phase.bar {
            bar.finish_and_clear();
        }
        let end = if result.is_ok() { "" } else { "  << this step failed" };
        self.line(&format!("{what}  ({}){end}", seconds(start.elapsed())));
        result
    }

    /// One line, with the time since the start.
    pub(crate) fn line(&self, text: &str) {
        let elapsed = self.start.elapsed();
        show(&format!("[{:6.1}s] {text}", elapsed.as_secs_f64()));
    }
}

impl Phase {
    /// Shows the present step of the phase.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {}", self.what, text.trim())),
            None => show(&format!("          {text}")),
        }
    }
}

/// `3.2 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Prints a line. A closed stderr is not an error.
fn show(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
