//! The file systems: proc, sysfs and devtmpfs, two small tmpfs, and a read-only root.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};

/// The root directory of the roles, which need no files.
pub(crate) const EMPTY_DIR: &str = "/run/empty";

struct Mount {
    source: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const STRICT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);

const MOUNTS: [Mount; 5] = [
    Mount { source: "proc", target: "/proc", flags: STRICT, options: "hidepid=invisible" },
    Mount { source: "sysfs", target: "/sys", flags: STRICT, options: "" },
    Mount { source: "devtmpfs", target: "/dev", flags: DEVICES, options: "mode=0755" },
    Mount { source: "tmpfs", target: "/run", flags: STRICT, options: "mode=0755,size=4m,nr_inodes=256" },
    Mount { source: "tmpfs", target: "/tmp", flags: STRICT, options: "mode=1777,size=16m,nr_inodes=1k" },
];

/// Mounts all of [`MOUNTS`], and makes [`EMPTY_DIR`].
pub(super) fn mount_all() -> Result<()> {
    // The kernel starts init with umask 0, so that everyone could write to new files.
    umask(Mode::from_bits_truncate(0o022));
    for Mount { source, target, flags, options } in MOUNTS {
        make_dir(target, 0o755)?;
        let result = match mount(Some(source), target, Some(source), flags, Some(options)) {
            // The kernel may have mounted /dev already (CONFIG_DEVTMPFS_MOUNT), without these flags.
            Err(Errno::EBUSY) if target == "/dev" => {
                mount(None::<&str>, target, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>)
            }
            result => result,
        };
        result.map_err(io::Error::from).with_context(|| format!("mount {source} on {target}"))?;
    }
    make_dir(EMPTY_DIR, 0o555)
}

/// Remounts the root read-only. Later steps cannot write to it.
pub(crate) fn seal_root() -> Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(io::Error::from).context("remount / read-only")
}

fn make_dir(path: &str, mode: u32) -> Result<()> {
    if Path::new(path).is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(mode).create(path).with_context(|| format!("make directory {path}"))?;
    // The umask applied to the mode above.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).with_context(|| path.to_owned())
}
