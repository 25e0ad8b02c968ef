//! `/var/log/nitro_enclaves/nitro_enclaves.log`, which every process of nitro-cli appends to.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::unistd::geteuid;

use crate::failure::{Failure, Number, Result};

pub(crate) const PATH: &str = "/var/log/nitro_enclaves/nitro_enclaves.log";

/// Root or the enclave's user creates the file, and both write to it. AWS's nitro-cli opens it to all as well.
const MODE: u32 = 0o766;

/// Appends a line.
pub(crate) fn line(text: &str) -> Result<()> {
    append(text).map_err(Failure::of(Number::Logger, PATH))
}

fn append(text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().append(true).create(true).open(PATH)?;
    if file.metadata()?.uid() == geteuid().as_raw() {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    writeln!(file, "[nitro-cli:{}] {text}", std::process::id())
}
