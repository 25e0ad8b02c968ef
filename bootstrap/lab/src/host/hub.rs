//! A customer's hub in the lab's internet, an enclave that calls it, and a parent that forwards no port.

use anyhow::{Context, Result, ensure};
use parent_vm::paths::{PARENT_CONFIG_PATH, ROOT_PATH, WALLET};
use serde_json::Value;

use super::wallet::MEASUREMENTS_PATH;
use super::{Lab, More, Parent, Variant};

/// The hub's unit.
const SERVICE: &str = "lab-hub";
/// Files of the hub, on its host.
const DIR: &str = "/run/lab/hub";
const NAME: &str = "hub.internet.example";

/// A lab with a hub. The caller ends it with [`Hub::end`].
#[derive(Debug)]
pub struct Hub<'lab> {
    variant: Variant<'lab>,
}

impl<'lab> Hub<'lab> {
    /// Builds an image with a `[[home]]` for the secret `secret_id`, and with `more`, in which `HUB_KEY` stands for the
    /// digest of the hub's key. Starts the hub, and makes wg-server accept this image only and forward no port.
    ///
    /// # Errors
    /// No lab is running, or a service does not start.
    pub fn begin(lab: &'lab Lab, secret_id: &str, more: &More<'_>) -> Result<Self> {
        let parent = lab.parent()?;
        let key = make_key(&parent)?;
        let tables = format!("{}{}", home(&key, secret_id), more.tables.replace("HUB_KEY", &key));
        close_ports(&parent)?;
        let names = [&[NAME][..], more.names].concat();
        let variant = Variant::begin(lab, &More { tables: &tables, names: &names, ..*more })?;
        parent.shell(&format!("cp {MEASUREMENTS_PATH} {DIR}/measurements.json"))?;
        let hub = Self { variant };
        hub.listen(SERVICE, 8443, 8080)?;
        Ok(hub)
    }

    /// Starts another hub with the same key, for another `[[home]]`: enclaves call `port`, and programs ask at
    /// 127.0.0.1:`front`.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn listen(&self, unit: &str, port: u16, front: u16) -> Result<()> {
        let line = format!(
            "systemd-run --quiet --unit {unit} --slice lab-hubs --working-directory {DIR} \
             --property NetworkNamespacePath=/run/netns/internet {WALLET} hub --listen 198.51.100.10:{port} \
             --serve 127.0.0.1:{front} --certificate hub.pem --key hub.key --measurements measurements.json \
             --root {ROOT_PATH}"
        );
        self.variant.parent().shell(&line).map(drop)
    }

    /// The one that is running.
    ///
    /// # Errors
    /// No lab is running.
    pub fn of(lab: &'lab Lab) -> Result<Self> {
        Ok(Self { variant: Variant::of(lab)? })
    }

    /// Undoes everything. Stop enclaves of the hub's image first.
    ///
    /// # Errors
    /// As [`Variant::end`].
    pub fn end(lab: &Lab) -> Result<()> {
        lab.parent()?.shell(&format!(
            "systemctl stop lab-hubs.slice 2>/dev/null; rm -rf {DIR}; \
             [ ! -e {PARENT_CONFIG_PATH}.own ] || mv {PARENT_CONFIG_PATH}.own {PARENT_CONFIG_PATH}"
        ))?;
        Variant::end(lab)
    }

    /// The image that calls the hub.
    pub const fn variant(&self) -> &Variant<'lab> {
        &self.variant
    }

    /// A request to the hub by a program on its host: the status, and the answer. 0 if there was none.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn ask(&self, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        self.ask_at(8080, path, body)
    }

    /// As [`Hub::ask`], with the port of [`Hub::listen`].
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn ask_at(&self, front: u16, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{front}{path}");
        let body = body.map(ToString::to_string);
        let mut words = vec!["ip", "netns", "exec", "internet", "curl", "--silent", "--max-time", "60"];
        words.extend(["--write-out", "\n%{http_code}", &url]);
        words.extend(body.iter().flat_map(|body| ["--data", body.as_str()]));
        // curl fails without an answer, and prints its 000 all the same.
        let line = "\"$@\" || true";
        let output = self.variant.parent().output(&[&["sh", "-c", line, "sh"][..], &words].concat())?;
        let (text, status) = output.rsplit_once('\n').with_context(|| format!("read curl's {output:?}"))?;
        Ok((status.trim().parse().with_context(|| format!("read curl's {status:?}"))?, text.to_owned()))
    }

    /// Takes the image from the hub's list.
    ///
    /// # Errors
    /// The parent cannot be reached.
    pub fn distrust(&self) -> Result<()> {
        let line = format!(
            "sed -i 's/\"PCR2\": *\"...../\"PCR2\": \"00000/' {DIR}/measurements.json && \
             systemctl kill --signal HUP {SERVICE}"
        );
        self.variant.parent().shell(&line).map(drop)
    }
}

fn home(key_sha256: &str, secret_id: &str) -> String {
    format!(
        "[[home]]\nurl = \"https://{NAME}:8443\"\nkey_sha256 = \"{key_sha256}\"\nconnections = 2\n\
         longest_pause = \"2s\"\nsecret_ids = [\"{secret_id}\"]\n"
    )
}

/// Makes the hub's key and certificate; the digest of the key, in hex.
fn make_key(parent: &Parent) -> Result<String> {
    let line = format!(
        "mkdir -p {DIR} && cd {DIR} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
         -days 30 -subj '/CN=hub/O=TEST ONLY lab' -keyout hub.key -out hub.pem 2>/dev/null && chmod 600 hub.key && \
         openssl x509 -in hub.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum"
    );
    let digest = parent.shell(&line).context("make the hub's key")?;
    Ok(digest.split(' ').next().unwrap_or_default().to_owned())
}

/// Removes the forwarded ports from the parent's configuration.
fn close_ports(parent: &Parent) -> Result<()> {
    parent.shell(&format!(
        "cp {PARENT_CONFIG_PATH} {PARENT_CONFIG_PATH}.own && sed -i '/^\\[\\[nat.forwards\\]\\]/,/^to = /d' {PARENT_CONFIG_PATH}"
    ))?;
    let forwards = parent.shell(&format!("grep -c '^\\[\\[nat.forwards' {PARENT_CONFIG_PATH} || true"))?;
    ensure!(forwards.trim() == "0", "{PARENT_CONFIG_PATH} still has {} tables [[nat.forwards]]", forwards.trim());
    Ok(())
}
