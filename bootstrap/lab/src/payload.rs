//! The second disk of the parent: programs, configuration and keys in a tar file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use parent_vm::paths::{
    ALLOCATOR_PATH, AWS, GATEWAY_CONFIG_PATH, INSTANCE_UNHEALTHY, KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH, LAB,
    MEASUREMENTS_PATH, NITRO_CLI, RELAY_CONFIG_PATH, ROOT_PATH, S3, WALLET, WEB_CA_PATH, WG_SERVER,
};
use parent_vm::{ALLOCATED, AWS_SERVERS, CHAIN_SERVER, ENCLAVE_ENVIRONMENT, EnclaveId, Shipped, image_path, units};
use tar::{Builder, EntryType, Header};

use crate::key_policy;
use crate::layout::Layout;
use crate::programs::Programs;
use crate::project::Project;
use crate::ssh;
use crate::web_authority::WebAuthority;

const UNIT_DIR: &str = "etc/systemd/system";

/// Writes the tar file. wg-server will accept, and KMS will decrypt for, enclaves of the image `eif_path`. Without an
/// image, the parent is an instance at its first boot: nothing of this project is installed, and no enclave may use
/// the key.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn write(
    layout: &Layout,
    project: &Project,
    programs: &Programs,
    eif_path: Option<&Path>,
    web: &WebAuthority,
) -> Result<()> {
    let path = layout.payload_path();
    // 0600: it has private keys.
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("write {}", path.display()))?;
    let mut tar = Builder::new(file);
    for dir in ["payload", "payload/bin", "payload/ssh", "etc/wg-server", "run/lab", "run/lab/internet"] {
        append(&mut tar, dir, EntryType::Directory, 0o755, &[])?;
    }
    append_units(&mut tar, project, eif_path.is_some())?;
    let internet_dir = project.internet_dir();
    let mut files = vec![
        (inside(LAB), programs.lab.clone(), 0o755),
        (inside(WALLET), programs.wallet.clone(), 0o755),
        (inside(NITRO_CLI), programs.nitro_cli.clone(), 0o755),
        (inside(KMS), programs.kms_stand_in.clone(), 0o755),
        (inside(AWS), internet_dir.join("aws.py"), 0o755),
        (inside(S3), internet_dir.join("s3.py"), 0o644),
        (inside(KMS_CONFIG_PATH), internet_dir.join("kms.toml"), 0o600),
        (inside(WEB_CA_PATH), layout.web_ca_path(), 0o644),
        // In the place of AWS's root, which is built into wg-server.
        (inside(ROOT_PATH), layout.root_path(), 0o644),
    ];
    let policy = match eif_path {
        Some(eif_path) => {
            files.extend(append_installed(&mut tar, project, programs, eif_path)?);
            key_policy::for_measurements(&measurements_of(eif_path)?)?
        }
        None => {
            files.extend(append_first_boot(&mut tar, project)?);
            key_policy::for_nobody()?
        }
    };
    for (name, source) in ssh::PAYLOAD {
        files.push((format!("payload/ssh/{name}"), layout.ssh_dir().join(source), 0o600));
    }
    for (name, source, mode) in files {
        let bytes = std::fs::read(&source).with_context(|| format!("read {}", source.display()))?;
        append(&mut tar, &name, EntryType::Regular, mode, &bytes)?;
    }
    for server in AWS_SERVERS.into_iter().chain([CHAIN_SERVER]) {
        let identity = web.issue(server.names)?;
        for (path, text) in [(server.certificate_path(), identity.certificate), (server.key_path(), identity.key)] {
            append(&mut tar, &inside(&path), EntryType::Regular, 0o600, text.as_bytes())?;
        }
    }
    append(&mut tar, &inside(KEY_POLICY_PATH), EntryType::Regular, 0o644, policy.as_bytes())?;
    tar.finish().with_context(|| format!("write {}", path.display()))
}

/// A path in the parent, the file that goes there, and its mode.
type Source = (String, PathBuf, u32);

/// What user data puts in place, and what blind mode needs.
fn append_installed(
    tar: &mut Builder<File>,
    project: &Project,
    programs: &Programs,
    eif_path: &Path,
) -> Result<[Source; 6]> {
    for dir in ["etc/enclave", "etc/nitro_enclaves", "etc/wg-gateway"] {
        append(tar, dir, EntryType::Directory, 0o755, &[])?;
    }
    append_parent_config(tar, project)?;
    append(tar, "etc/enclave/enclave.env", EntryType::Regular, 0o644, ENCLAVE_ENVIRONMENT.as_bytes())?;
    append(tar, &inside(ALLOCATOR_PATH), EntryType::Regular, 0o644, ALLOCATED.as_bytes())?;
    let blind_dir = project.blind_dir();
    Ok([
        (inside(WG_SERVER), programs.wg_server.clone(), 0o755),
        (inside(INSTANCE_UNHEALTHY), project.aws_dir().join("instance-unhealthy.sh"), 0o755),
        (inside(&image_path(EnclaveId::FIRST)), eif_path.to_owned(), 0o644),
        (inside(MEASUREMENTS_PATH), measurements_of(eif_path)?, 0o644),
        (inside(RELAY_CONFIG_PATH), blind_dir.join("relay.toml"), 0o644),
        (inside(GATEWAY_CONFIG_PATH), blind_dir.join("gateway.toml"), 0o644),
    ])
}

/// What user data finds on Amazon Linux, but not on Debian.
fn append_first_boot(tar: &mut Builder<File>, project: &Project) -> Result<[Source; 2]> {
    // The authority that the instance's `aws` trusts.
    let aws_config = format!("[default]\nca_bundle = {WEB_CA_PATH}\n");
    append(tar, "root/.aws/config", EntryType::Regular, 0o644, aws_config.as_bytes())?;
    let dir = project.ec2_dir();
    let programs = [("usr/bin/dnf", "dnf"), ("opt/aws/bin/cfn-signal", "cfn-signal")];
    Ok(programs.map(|(path, name)| (path.to_owned(), dir.join(name), 0o755)))
}

fn append_parent_config(tar: &mut Builder<File>, project: &Project) -> Result<()> {
    let changed = |name: &str, change: fn(&str) -> Result<String>| {
        let path = project.parent_config_dir().join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        change(&text).with_context(|| format!("change {} for the lab", path.display()))
    };
    let parent = changed("parent.toml", parent_vm::config::parent)?;
    let list = changed("dns-allow-list.txt", parent_vm::config::allow_list)?;
    append(tar, "etc/wg-server/parent.toml", EntryType::Regular, 0o644, parent.as_bytes())?;
    for dir in ["etc/wg-server", "etc/wg-gateway"] {
        append(tar, &format!("{dir}/dns-allow-list.txt"), EntryType::Regular, 0o644, list.as_bytes())?;
    }
    Ok(())
}

fn append_units(tar: &mut Builder<File>, project: &Project, is_installed: bool) -> Result<()> {
    let read = |name: &str| {
        let path = project.systemd_dir().join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let shipped = if is_installed {
        Some(Shipped {
            wg_server: read("wg-server.service")?,
            wg_named: read("wg-named.service")?,
            wg_logs: read("wg-logs.service")?,
            wg_metrics: read("wg-metrics.service")?,
            enclave: read("enclave.service")?,
            wg_watchdog: read("wg-watchdog.service")?,
            instance_unhealthy: read("instance-unhealthy.service")?,
        })
    } else {
        None
    };
    for unit in units(shipped.as_ref()) {
        let file = format!("{UNIT_DIR}/{}.service", unit.name);
        append(tar, &file, EntryType::Regular, 0o644, unit.text.as_bytes())?;
        if let Some(changes) = &unit.changes {
            append(tar, &format!("{file}.d/lab.conf"), EntryType::Regular, 0o644, changes.as_bytes())?;
        }
        if unit.is_enabled {
            let link = format!("{UNIT_DIR}/multi-user.target.wants/{}.service", unit.name);
            let mut header = header(EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, &link, format!("../{}.service", unit.name))
                .with_context(|| format!("put {link} into the payload"))?;
        }
    }
    Ok(())
}

/// The measurements that `eif build` writes beside an image.
///
/// # Errors
/// An image without measurements.
pub(crate) fn measurements_of(eif_path: &Path) -> Result<PathBuf> {
    let path = eif_path.with_file_name("measurements.json");
    ensure!(path.is_file(), "there is no {}: `make eif` writes it together with the image", path.display());
    Ok(path)
}

/// A path of the parent as a name in the tar file.
fn inside(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn append(tar: &mut Builder<File>, name: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(kind, mode, bytes.len().try_into()?);
    tar.append_data(&mut header, name, bytes).with_context(|| format!("put {name} into the payload"))
}

/// A header of a file that belongs to root.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}
