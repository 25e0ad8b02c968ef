//! A lock file, so that one verb runs at a time. The kernel releases it when its holder ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock; calls `on_wait` once if it has to.
    pub(crate) fn take(path: &Path, on_wait: impl FnOnce()) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let mut on_wait = Some(on_wait);
        loop {
            let file = File::create(path).with_context(|| format!("open {}", path.display()))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((file, Errno::EWOULDBLOCK)) => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait();
                    }
                    Flock::lock(file, FlockArg::LockExclusive)
                        .map_err(|(_, errno)| errno)
                        .with_context(|| format!("lock {}", path.display()))?
                }
                Err((_, errno)) => return Err(errno).with_context(|| format!("lock {}", path.display())),
            };
            // The previous holder may have removed the file, and another process may have created a new one.
            if fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|locked| now.ino() == locked.ino())) {
                return Ok(Self { file, path: path.into() });
            }
        }
    }

    /// Releases the lock and removes the file.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
        drop(self.file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_verb_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path, || panic!("nobody has it")).unwrap();
        let (waits, waiting) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(&path, move || waits.send(()).unwrap()).unwrap());
            waiting.recv().unwrap();
            assert!(!second.is_finished(), "the first has it");
            first.remove().unwrap();
            second.join().unwrap().remove().unwrap();
            assert!(!path.exists());
        });
    }
}
