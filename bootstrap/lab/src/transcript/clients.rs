//! A client that knows nothing of enclaves.

use anyhow::{Context, Result};
use parent_vm::EnclaveId;

use super::page::indented;
use super::{Transcript, body, title};
use crate::host::Clients;

/// Also calls the hub of the next step.
pub(super) const ENCLAVE: EnclaveId = EnclaveId::SECOND;

impl Transcript<'_> {
    pub(super) fn clients(&self) -> Result<()> {
        title(12, "web3.py signs with an enclave, and sends to a chain, as with the account of a node")?;
        let hub = Clients::image_with_hub(self.lab)?;
        let enclave = hub.variant().boot(ENCLAVE)?;
        self.lab.progress.phase("its tunnel", |_| enclave.wait_tunnel())?;
        let clients = Clients::start(self.lab, ENCLAVE, hub.variant().eif_path())?;
        let said =
            self.lab.progress.phase("web3.py", |_| clients.run(&["web3py".to_owned()]).context("run web3.py"))?;
        let log = clients.proxy().log()?;
        body(&format!(
            "`wallet proxy` verifies the enclave before it sends a request:\n{}\
             web3.py, with the proxy's URL, uses the enclave's account (bootstrap/clients/web3py.py):\n{}\
             The enclave has asked the node of the chain for what was missing, through its tunnel.\n",
            indented(&log.lines().take(3).map(str::trim).collect::<Vec<_>>()),
            indented(&said.lines().filter(|line| line.starts_with(' ')).map(str::trim).collect::<Vec<_>>()),
        ))
    }
}
