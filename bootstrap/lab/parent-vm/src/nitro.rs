//! What AWS's packages for enclaves bring, and the enclaves' services and images.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};

use crate::enclave_id::{ENCLAVE_CIDS, EnclaveId};
use crate::network::command;
use crate::paths::NITRO_CLI;
use crate::units::Unit;

/// `/etc/enclave/enclave.env`, with the values of `config/aws.toml`.
pub const ENCLAVE_ENVIRONMENT: &str = "ENCLAVE_CPUS=2\nENCLAVE_MEMORY_MIB=512\nENCLAVE_CID=16\n";
/// The allocator's configuration, with the same values.
pub const ALLOCATED: &str = "---\nmemory_mib: 512\ncpu_count: 2\n";
/// The group whose members may start enclaves.
const GROUP: &str = "ne";
const DEVICE: &str = "/dev/nitro_enclaves";

/// The service of an enclave: the one that ships, or a copy of it.
pub fn service(id: EnclaveId) -> String {
    if id == EnclaveId::FIRST { "enclave".to_owned() } else { id.name() }
}

/// The image of an enclave's service.
pub fn image_path(id: EnclaveId) -> String {
    format!("/usr/local/lib/enclave/{}.eif", service(id))
}

/// Creates the group, the device and the folders.
pub(super) fn set_up() -> Result<()> {
    command(&["groupadd", "--system", GROUP])?;
    // There is no driver. The device only needs permissions, so it has the number of one that exists.
    let number = fs::metadata("/dev/vsock").context("/dev/vsock")?.rdev();
    let (major, minor) = (nix::sys::stat::major(number).to_string(), nix::sys::stat::minor(number).to_string());
    command(&["mknod", "--mode=0660", DEVICE, "c", &major, &minor])?;
    for dir in ["/run/nitro_enclaves", "/var/log/nitro_enclaves"] {
        command(&["install", "--directory", "--mode=0775", "--group", GROUP, dir])?;
    }
    command(&["chgrp", GROUP, DEVICE])
}

/// Creates the enclaves' user, as user data does.
pub(super) fn add_user() -> Result<()> {
    command(&["useradd", "--system", "--no-create-home", "--shell", "/sbin/nologin", "--gid", GROUP, "enclave"])
}

/// The enclaves' services; `shipped` is the unit file that ships.
pub(super) fn enclaves(shipped: &str) -> Vec<Unit> {
    let first = Unit { name: service(EnclaveId::FIRST), text: shipped.to_owned(), changes: None, is_enabled: false };
    let mut units = vec![first];
    for id in EnclaveId::first(ENCLAVE_CIDS.count()).skip(1) {
        let (name, image) = (id.name(), image_path(id));
        let run = format!(
            "{NITRO_CLI} run-enclave --enclave-name {name} --eif-path {image} --cpu-count ${{ENCLAVE_CPUS}} \
             --memory ${{ENCLAVE_MEMORY_MIB}} --enclave-cid {id}"
        );
        let end = format!("-{NITRO_CLI} terminate-enclave --enclave-name {name}");
        let changes = format!("[Service]\nExecStart=\nExecStart={run}\nExecStop=\nExecStop={end}\n");
        units.push(Unit { name, text: shipped.to_owned(), changes: Some(changes), is_enabled: false });
    }
    units
}
