//! One wg-server at a time: a lock that ends with the process that holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(runtime_dir: &Path) -> Result<Self> {
        let path = runtime_dir.join("lock");
        let doing = || format!("lock {}", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(doing)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0).and_then(|()| file.rewind()).with_context(doing)?;
                writeln!(file, "{}", std::process::id()).with_context(doing)?;
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                (&file).take(32).read_to_string(&mut pid).with_context(doing)?;
                bail!("another wg-server runs, process {}: it holds {}", pid.trim(), path.display())
            }
            Err((_, errno)) => Err(errno).with_context(doing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_the_first_is_and_may_follow_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("another wg-server runs, process {}", std::process::id())), "{error}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
