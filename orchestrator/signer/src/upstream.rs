//! `[signer.upstream.CHAIN]`: a node of a chain, which answers what the signer itself does not know.
//!
//! ```toml
//! [signer.upstream.8453]
//! url = "https://base.example/v1/project"
//! ca = """…"""                          # optional, or key_sha256; default: the public authorities
//! methods = ["eth_getTransactionCount"] # optional; default: READ_METHODS
//! ```
//!
//! Nothing that a node answers is believed beyond availability: the policy and the memory of nonces judge a transaction as
//! if the client had written all of it.

mod url;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::home::{HubIdentity, identity};
use crate::service::is_own_method;

pub use url::UpstreamUrl;

/// What clients ask a node before and after they send a transaction. All of these only read.
pub const READ_METHODS: [&str; 14] = [
    "eth_blockNumber",
    "eth_call",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getCode",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_maxPriorityFeePerGas",
    "eth_syncing",
];

/// Upstreams of one enclave.
pub(crate) const MAX_UPSTREAMS: usize = 16;

/// Methods of one upstream. Each is a label in the metrics.
const MAX_METHODS: usize = 64;

/// One node.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is.
    pub url: UpstreamUrl,
    /// How it is known. None: by a certificate of a public authority.
    pub identity: Option<HubIdentity>,
    /// What clients may ask of it.
    pub methods: BTreeSet<String>,
}

/// One of the tables as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTable {
    url: String,
    ca: Option<String>,
    key_sha256: Option<String>,
    methods: Option<Vec<String>>,
}

/// Checks all tables, which stand below `path`. `chains` are those of the policy.
pub(crate) fn check(
    path: &str,
    tables: BTreeMap<String, UpstreamTable>,
    chains: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Upstream>> {
    ensure!(tables.len() <= MAX_UPSTREAMS, "{path}: {} tables, expected at most {MAX_UPSTREAMS}", tables.len());
    let read = |(text, table): (String, UpstreamTable)| {
        let path = format!("{path}.{text}");
        let chain = text.parse().ok().filter(|chain: &u64| chain.to_string() == text);
        let chain = chain.filter(|chain| chains.contains(chain));
        let chain =
            chain.with_context(|| format!("{path}: not a chain of the policy, expected one of its chain_ids"))?;
        Ok((chain, table.check(&path)?))
    };
    tables.into_iter().map(read).collect()
}

impl UpstreamTable {
    fn check(self, path: &str) -> Result<Upstream> {
        let url = self.url.parse().with_context(|| format!("{path}.url"))?;
        let identity = identity(path, self.ca, self.key_sha256)?;
        let methods = match self.methods {
            None => READ_METHODS.iter().map(|method| (*method).to_owned()).collect(),
            Some(written) => methods(written).with_context(|| format!("{path}.methods"))?,
        };
        Ok(Upstream { url, identity, methods })
    }
}

fn methods(written: Vec<String>) -> Result<BTreeSet<String>> {
    ensure!(written.len() <= MAX_METHODS, "{} methods, expected at most {MAX_METHODS}", written.len());
    let mut methods = BTreeSet::new();
    for method in written {
        let is_name = method.split_once('_').is_some_and(|(module, name)| !module.is_empty() && !name.is_empty())
            && method.len() <= 64
            && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        ensure!(is_name, "`{}` is not a method, expected a name such as \"eth_call\"", method.escape_debug());
        if is_own_method(&method) {
            bail!("`{method}`: the signer answers this itself, expected methods of a node");
        }
        ensure!(methods.insert(method.clone()), "`{method}` is written twice, expected each method once");
    }
    Ok(methods)
}

#[cfg(test)]
mod tests;
