//! `[signer]`, and `[kms]`, `[secrets]` and `[imds]`: where its keys come from.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kms::config::{ImdsSettings, ImdsTable, KmsSettings, KmsTable, SecretsSettings, SecretsTable};
use signer::config::SignerTable;

/// An enclave that signs.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(crate) service: signer::config::Config,
    pub(crate) kms: KmsSettings,
    pub(crate) secrets: SecretsSettings,
    pub(crate) imds: ImdsSettings,
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
                ensure!(!is_there, "{name}: there is no [signer] that would use it: write one, or leave [{name}] out");
            }
            return Ok(None);
        };
        let kms = kms.context("kms: missing: [signer] needs to know the KMS key: write [kms] with key_arn")?;
        let kms = kms.check(dir)?;
        Ok(Some(Signing {
            service: signer.check()?,
            secrets: secrets.unwrap_or_default().check(&kms)?,
            imds: imds.unwrap_or_default().check()?,
            kms,
        }))
    }
}
