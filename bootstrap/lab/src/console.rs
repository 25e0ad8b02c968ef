//! The console of an enclave or of the parent.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::last_lines;

const POLL: Duration = Duration::from_millis(20);

/// A console: a file that grows.
#[derive(Clone, Debug)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far.
    ///
    /// # Errors
    /// A file that cannot be read. A file that does not exist yet is empty.
    pub fn text(&self) -> Result<String> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).replace('\r', "")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("read {}", self.path.display())),
        }
    }

    /// Waits until `find` finds something in the complete lines so far.
    ///
    /// Calls `is_alive` between two looks; its error ends the wait.
    ///
    /// # Errors
    /// Nothing found within `patience`, with the last lines of the console.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        is_alive: impl Fn() -> Result<()>,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + patience;
        loop {
            let text = self.text()?;
            let lines = text.rsplit_once('\n').map_or("", |(lines, _unfinished)| lines);
            if let Some(found) = find(lines) {
                return Ok(found);
            }
            let shown = || format!("the last lines of {}:\n{}", self.path.display(), last_lines(&text, 15));
            is_alive().with_context(shown).with_context(|| format!("wait for {what}"))?;
            if Instant::now() > end {
                bail!("no {what} within {} s; {}", patience.as_secs(), shown());
            }
            sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_still_being_written_is_not_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::new(file.path().to_owned());
        let find = |patience| {
            let found = |text: &str| text.lines().find(|line| line.starts_with("refused: ")).map(str::to_owned);
            console.wait("verdict", patience, || Ok(()), found)
        };
        fs::write(file.path(), "booting\nrefused: PC").unwrap();
        assert!(find(Duration::ZERO).is_err());
        fs::write(file.path(), "booting\nrefused: PCR2\n").unwrap();
        assert_eq!(find(Duration::ZERO).unwrap(), "refused: PCR2");
    }
}
