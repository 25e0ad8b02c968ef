//! The second disk of the parent: programs, configuration and keys in a tar file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tar::{Builder, EntryType, Header};

use crate::guest::{AWS, AWS_SERVERS, KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH};
use crate::key_policy;
use crate::layout::{Layout, WEB_CA_NAME};
use crate::project::Project;
use crate::ssh;
use crate::web_authority::WebAuthority;

/// `/sbin/lab-init` hands over to this as PID 1: it starts the lab's part and buries orphans.
const START: &str = "#!/bin/sh
mkdir -p /var/log/lab
RUST_LOG=${RUST_LOG:-info} /payload/bin/lab guest >/var/log/lab/guest.log 2>&1 || {
  echo 'lab: the parent cannot go on:'
  tail -n 5 /var/log/lab/guest.log
} >/dev/console &
while :; do
  sleep 3600 &
  wait $!
done
";

/// The programs that the parent runs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// This program.
    pub(crate) lab: PathBuf,
    /// The parent's daemon.
    pub(crate) wg_server: PathBuf,
    /// KMS of the lab's internet.
    pub(crate) kms_stand_in: PathBuf,
    /// The signer's client.
    pub(crate) wallet: PathBuf,
}

impl Programs {
    /// The programs beside `lab` (this program unless named).
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn beside(lab: Option<&Path>) -> Result<Self> {
        let lab = match lab {
            Some(lab) => lab.to_owned(),
            None => std::env::current_exe().context("find this program")?,
        };
        let find = |name: &str| {
            let path = lab.with_file_name(name);
            ensure!(path.is_file(), "there is no {}: run `make lab`", path.display());
            Ok(path)
        };
        Ok(Self { wg_server: find("wg-server")?, kms_stand_in: find("kms-stand-in")?, wallet: find("wallet")?, lab })
    }
}

/// Writes the tar file. Enclaves of the image `eif_path` will be the ones that wg-server takes for peers and that KMS decrypts for.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn write(
    layout: &Layout,
    project: &Project,
    programs: &Programs,
    eif_path: &Path,
    web: &WebAuthority,
) -> Result<()> {
    let path = layout.payload_path();
    // It has private keys.
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("write {}", path.display()))?;
    let mut tar = Builder::new(file);
    for dir in
        ["payload", "payload/bin", "payload/ssh", "etc/wg-server", "etc/wg-gateway", "run/lab", "run/lab/internet"]
    {
        append(&mut tar, dir, EntryType::Directory, 0o755, &[])?;
    }
    append(&mut tar, "payload/start", EntryType::Regular, 0o755, START.as_bytes())?;
    let config_dir = project.lab_dir().join("config/parent");
    let blind_dir = project.blind_dir();
    let internet_dir = project.internet_dir();
    let measurements_path = measurements_of(eif_path)?;
    let mut files = vec![
        ("payload/bin/lab".into(), programs.lab.clone(), 0o755),
        ("payload/bin/wg-server".into(), programs.wg_server.clone(), 0o755),
        ("payload/bin/wallet".into(), programs.wallet.clone(), 0o755),
        (inside(KMS), programs.kms_stand_in.clone(), 0o755),
        (inside(AWS), internet_dir.join("aws.py"), 0o755),
        (inside(KMS_CONFIG_PATH), internet_dir.join("kms.toml"), 0o600),
        (format!("payload/{WEB_CA_NAME}"), layout.web_ca_path(), 0o644),
        ("etc/wg-server/parent.toml".into(), config_dir.join("parent.toml"), 0o644),
        ("etc/wg-server/dns-allow-list.txt".into(), config_dir.join("dns-allow-list.txt"), 0o644),
        ("etc/wg-server/relay.toml".into(), blind_dir.join("relay.toml"), 0o644),
        ("etc/wg-gateway/gateway.toml".into(), blind_dir.join("gateway.toml"), 0o644),
        ("etc/wg-gateway/dns-allow-list.txt".into(), config_dir.join("dns-allow-list.txt"), 0o644),
        ("etc/wg-server/lab-root.pem".into(), layout.root_path(), 0o644),
        ("etc/wg-server/measurements.json".into(), measurements_path.clone(), 0o644),
    ];
    for (name, source) in ssh::PAYLOAD {
        files.push((format!("payload/ssh/{name}"), layout.ssh_dir().join(source), 0o600));
    }
    for (name, source, mode) in files {
        let bytes = std::fs::read(&source).with_context(|| format!("read {}", source.display()))?;
        append(&mut tar, &name, EntryType::Regular, mode, &bytes)?;
    }
    for server in AWS_SERVERS {
        let identity = web.issue(server.names)?;
        for (path, text) in [(server.certificate_path(), identity.certificate), (server.key_path(), identity.key)] {
            append(&mut tar, &inside(&path), EntryType::Regular, 0o600, text.as_bytes())?;
        }
    }
    let policy = key_policy::for_measurements(&measurements_path)?;
    append(&mut tar, &inside(KEY_POLICY_PATH), EntryType::Regular, 0o644, policy.as_bytes())?;
    tar.finish().with_context(|| format!("write {}", path.display()))
}

/// What `eif build` writes beside an image.
///
/// # Errors
/// An image without.
pub(crate) fn measurements_of(eif_path: &Path) -> Result<PathBuf> {
    let path = eif_path.with_file_name("measurements.json");
    ensure!(path.is_file(), "there is no {}: `make eif` writes it together with the image", path.display());
    Ok(path)
}

/// The parent's path as the tar file has it.
fn inside(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn append(tar: &mut Builder<File>, name: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes.len().try_into()?);
    tar.append_data(&mut header, name, bytes).with_context(|| format!("put {name} into the payload"))
}
