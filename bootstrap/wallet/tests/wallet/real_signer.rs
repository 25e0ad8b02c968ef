//! A real signer of this host's, with a key of the tests' and documents that a test root vouches for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use attestation::test_root::{Fields, TestRoot};
use attestation::{Measurements, Pcr};
use ethereum::key::SecretKey;
use signer::config::{Config, SignerTable};
use signer::keys::{Attestor, AttestorError, FetchedKey, GeneratedKey, KeyError, Keys};
use signer::service::Service;
use signer_api::key::{Credential, KeyReference};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::enclave::measurements;

/// What it signs with; any other secret it does not have.
pub(crate) const SECRET: &str = "prod/hot-wallet";

/// A signer that clients connect to. Dropped, it is gone with all its connections.
pub(crate) struct Signer {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<anyhow::Result<()>>,
}

impl Signer {
    /// One in which everything is right.
    pub(crate) async fn start(root: &Arc<TestRoot>) -> Self {
        Self::with("127.0.0.1:0".parse().unwrap(), root, |_| ()).await
    }

    /// One at this address with other fields in its documents.
    pub(crate) async fn with(
        address: SocketAddr,
        root: &Arc<TestRoot>,
        change: impl Fn(&mut Fields) + Send + Sync + 'static,
    ) -> Self {
        let attestor = Documents { root: Arc::clone(root), change: Box::new(change) };
        let service = Service::new(config("open = true"), [9; 32], OneKey, attestor).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.serve(listener, CancellationToken::new()));
        Self { address, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

/// A configuration with this line in `[signer]`.
pub(crate) fn config(line: &str) -> Config {
    toml::from_str::<SignerTable>(&format!("{line}\n{CONFIG}")).unwrap().check().unwrap()
}

/// The right image but for its PCR2.
pub(crate) fn image(pcr2: u8) -> Measurements {
    Measurements { pcr2: Pcr([pcr2; Pcr::LEN]), ..measurements() }
}

const CONFIG: &str = r#"
port = 443
key_cache_time = "10m"
[policy]
chain_ids = [1]
recipients = "any"
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;

/// Has [`crate::KEY`] for [`SECRET`], and for what is encrypted.
pub(crate) struct OneKey;

impl Keys for OneKey {
    async fn fetch(&self, reference: &KeyReference, _credential: Option<&Credential>) -> Result<FetchedKey, KeyError> {
        if matches!(reference, KeyReference::SecretId(id) if id != SECRET) {
            return Err(KeyError::NotFound);
        }
        Ok(FetchedKey { key: SecretKey::parse(crate::KEY.as_bytes()).unwrap(), version: None })
    }

    async fn generate(&self, _credential: Option<&Credential>) -> Result<GeneratedKey, KeyError> {
        Err(KeyError::Busy)
    }
}

/// Makes documents of its root and of fields that a test may change.
pub(crate) struct Documents {
    pub(crate) root: Arc<TestRoot>,
    pub(crate) change: Box<dyn Fn(&mut Fields) + Send + Sync>,
}

impl Attestor for Documents {
    async fn document(&self, user_data: &[u8], nonce: &[u8]) -> Result<Vec<u8>, AttestorError> {
        let (user_data, nonce) = (Some(user_data.to_vec()), Some(nonce.to_vec()));
        let mut fields = Fields { user_data, nonce, ..Fields::new(SystemTime::now()) };
        (self.change)(&mut fields);
        Ok(self.root.sign(&fields))
    }
}
