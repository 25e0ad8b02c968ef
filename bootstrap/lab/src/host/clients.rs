//! Clients that know nothing of enclaves: programs of `bootstrap/clients/`, through `wallet proxy` to an enclave whose
//! upstream is a development chain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use parent_vm::{CHAIN_SERVER, EnclaveId};

use super::{Chain, Hub, Lab, More, Proxy, Variant, Wallet};
use crate::process::last_lines;

/// TEST ONLY: the key of the first account of every development chain.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// The chain that `anvil` makes.
pub(crate) const CHAIN_ID: u64 = 31337;
const RECIPIENT: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";
const FORBIDDEN: &str = "0x000000000000000000000000000000000000dEaD";
/// The verifying contract of EIP-712's example.
const MAIL: &str = "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC";
/// The contract that the account creates with its nonce 0.
const CONTRACT: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

/// Stores the key, encrypted for the lab's enclaves.
fn store_key(lab: &Lab) -> Result<()> {
    let wallet = Wallet::trusting(lab.parent()?, &lab.eif_path()?)?;
    wallet.import(KEY)?;
    // An earlier run may have left it.
    match wallet.key(Clients::SECRET) {
        Ok(_) => Ok(()),
        Err(_) => wallet.set_key(Clients::SECRET).map(drop),
    }
}

/// A chain and a proxy, for clients of one enclave.
#[derive(Debug)]
pub struct Clients<'lab> {
    lab: &'lab Lab,
    chain: Chain,
    proxy: Proxy,
}

impl<'lab> Clients<'lab> {
    /// TEST ONLY: the first account of every development chain.
    pub const ACCOUNT: &'static str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    /// The secret with its key.
    pub const SECRET: &'static str = "lab/clients";

    /// Builds the image for an enclave that signs for [`Clients::ACCOUNT`]. The caller ends it with [`Variant::end`].
    ///
    /// # Errors
    /// As [`Variant::begin`].
    pub fn image(lab: &'lab Lab) -> Result<Variant<'lab>> {
        store_key(lab)?;
        Variant::begin(lab, &More { tables: &tables(lab)?, names: CHAIN_SERVER.names, programs: &[] })
    }

    /// As [`Clients::image`], for an enclave that also calls a hub. The caller ends it with [`Hub::end`].
    ///
    /// # Errors
    /// As [`Hub::begin`].
    pub fn image_with_hub(lab: &'lab Lab) -> Result<Hub<'lab>> {
        store_key(lab)?;
        Hub::begin(lab, Self::SECRET, &More { tables: &tables(lab)?, names: CHAIN_SERVER.names, programs: &[] })
    }

    /// Installs the clients, and starts a chain and a proxy to the enclave `id`, which runs the image `eif`.
    ///
    /// # Errors
    /// A script or a program that fails, with the end of its output.
    pub fn start(lab: &'lab Lab, id: EnclaveId, eif: &Path) -> Result<Self> {
        let environment = lab.progress.phase("install the clients", |_| environment(lab))?;
        let chain = Chain::start(lab, &environment.join("bin/anvil")).context("start a development chain")?;
        let addresses = lab.enclave(id).addresses()?;
        let address = addresses.into_iter().find(std::net::IpAddr::is_ipv4).context("no IPv4 address")?;
        let proxy = Proxy::start(lab, address, eif).context("start wallet proxy")?;
        Ok(Self { lab, chain, proxy })
    }

    /// The proxy.
    pub const fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Runs clients by their names, all without one; what they print.
    ///
    /// # Errors
    /// One of them failed; with the end of its output.
    pub fn run(&self, names: &[String]) -> Result<String> {
        let output = self.command(names)?.stderr(Stdio::piped()).output().context("run the clients")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the clients: {}; the end of their output:\n{}\n{}\nthe proxy's log:\n{}",
            output.status,
            last_lines(&said, 12),
            last_lines(&stderr, 12),
            last_lines(&self.proxy.log()?, 5),
        );
        Ok(said)
    }

    /// As [`Clients::run`], with their output on this program's.
    ///
    /// # Errors
    /// One of them failed.
    pub fn show(&self, names: &[String]) -> Result<()> {
        let status = self.command(names)?.status().context("run the clients")?;
        ensure!(status.success(), "the clients: {status}");
        Ok(())
    }

    fn command(&self, names: &[String]) -> Result<Command> {
        let mut command = Command::new(self.lab.project.clients_dir().join("run.sh"));
        command
            .args(names)
            .env("SIGNER_URL", format!("{}/chain/{CHAIN_ID}", self.proxy.url()))
            .env("CHAIN_URL", self.chain.url())
            .env("RECIPIENT", RECIPIENT)
            .env("FORBIDDEN", FORBIDDEN)
            .stdin(Stdio::null());
        Ok(command)
    }
}

/// `make clients`: an enclave for them, and what they print.
///
/// # Errors
/// One of them failed, or the lab does not come up.
pub(crate) fn run(lab: &Lab, names: &[String]) -> Result<()> {
    const ENCLAVE: EnclaveId = EnclaveId::SECOND;
    let shown = Clients::image(lab).and_then(|variant| {
        let enclave = variant.boot(ENCLAVE)?;
        lab.progress.phase("its tunnel", |_| enclave.wait_tunnel())?;
        Clients::start(lab, ENCLAVE, variant.eif_path())?.show(names)
    });
    lab.enclave(ENCLAVE).stop()?;
    Variant::end(lab)?;
    shown
}

/// The tables of an image that signs for the account.
fn tables(lab: &Lab) -> Result<String> {
    let path = lab.layout.web_ca_path();
    let ca = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let name = CHAIN_SERVER.names.first().context("the chain's node has no name")?;
    let (account, secret) = (Clients::ACCOUNT, Clients::SECRET);
    Ok(format!(
        "[[signer.keys]]\nsecret_id = \"{secret}\"\naddress = \"{account}\"\n\n\
         [signer.policy.keys.{account}]\nchain_ids = [{CHAIN_ID}]\nrecipients = [\"{RECIPIENT}\", \"{CONTRACT}\"]\n\
         contract_creation = true\ndata_selectors = \"any\"\n\
         blobs = {{ max_count = 1, max_fee_per_blob_gas = \"10 gwei\" }}\ndelegates = [\"{RECIPIENT}\"]\n\
         [[signer.policy.keys.{account}.typed_data]]\nchain_id = {CHAIN_ID}\nverifying_contract = \"{MAIL}\"\n\
         type = \"Mail(Person from,Person to,string contents)Person(string name,address wallet)\"\n\
         [signer.policy.keys.{account}.typed_data.fields]\nfrom = {{ name = \"any\", wallet = \"any\" }}\n\
         to = {{ name = \"any\", wallet = \"any\" }}\ncontents = \"any\"\n\n\
         [signer.upstream.{CHAIN_ID}]\nurl = \"https://{name}\"\nca = \"\"\"\n{ca}\"\"\"\n"
    ))
}

fn environment(lab: &Lab) -> Result<PathBuf> {
    let script = lab.project.clients_dir().join("environment.sh");
    let output = Command::new(&script).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {}", script.display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}\n{}", script.display(), output.status, last_lines(&stderr, 12));
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(said.lines().last().context("the script prints no folder")?))
}
