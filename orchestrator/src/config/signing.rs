//! `[signer]`, and `[kms]`, `[secrets]` and `[imds]`: where its keys come from.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kms::config::{ImdsSettings, ImdsTable, KmsSettings, KmsTable, SecretsSettings, SecretsTable};
use signer::config::SignerTable;
use signer::nonces::{Bounds, Division};
use signer::permission::Access;

/// An enclave that signs.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(crate) service: signer::config::Config,
    pub(crate) kms: KmsSettings,
    pub(crate) secrets: SecretsSettings,
    pub(crate) imds: ImdsSettings,
}

impl Signing {
    /// How much each client's keys may have of the memory of nonces.
    pub(crate) fn nonce_memory(&self) -> String {
        let Division { payers, guaranteed, common } =
            Division::of(Bounds::default().runs, self.service.access.payers());
        let shares = if payers == 1 { "1 share".to_owned() } else { format!("{payers} shares") };
        format!("nonces: {shares} of {guaranteed} accounts on a chain, and {common} more for whoever comes first")
    }
}

/// The four tables; only `[signer]` and `[kms]` have to be there, and only together.
pub(super) struct Tables {
    pub(super) signer: Option<SignerTable>,
    pub(super) kms: Option<KmsTable>,
    pub(super) secrets: Option<SecretsTable>,
    pub(super) imds: Option<ImdsTable>,
}

impl Tables {
    pub(super) fn check(self, dir: &Path) -> Result<Option<Signing>> {
        let Self { signer, kms, secrets, imds } = self;
        let Some(signer) = signer else {
            let others = [("kms", kms.is_some()), ("secrets", secrets.is_some()), ("imds", imds.is_some())];
            for (name, is_there) in others {
                ensure!(!is_there, "{name}: [{name}] needs [signer], expected both or neither");
            }
            return Ok(None);
        };
        let kms = kms.context("kms: missing, expected [kms] with the key_arn of the KMS key for [signer]")?;
        let kms = kms.check(dir)?;
        let (service, secrets) = (signer.check()?, secrets.unwrap_or_default().check(&kms)?);
        check_secret_ids(&service.access, &secrets)?;
        Ok(Some(Signing { service, secrets, imds: imds.unwrap_or_default().check()?, kms }))
    }
}

/// A secret that is elsewhere would look, to clients, as if it were not there.
fn check_secret_ids(access: &Access, secrets: &SecretsSettings) -> Result<()> {
    let Access::Clients { permissions, .. } = access else { return Ok(()) };
    for (name, permission) in permissions {
        for id in &permission.secret_ids {
            let checked = secrets.check_id(id);
            checked.with_context(|| format!("signer.clients: {name}: secret_ids: `{}`", id.escape_debug()))?;
        }
    }
    Ok(())
}
