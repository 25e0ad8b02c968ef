//! Which client may use which keys. A client's name comes from its certificate, which the measured CA issued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ethereum::address::Address;
use rustls::pki_types::CertificateDer;
use signer_api::key::KeyReference;
use thiserror::Error;

use crate::nonces::Payer;
use crate::policy::Rules;

/// Who may connect.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everyone who reaches the port may do everything. The measured configuration says so explicitly.
    Open,
    /// Clients with a certificate from one of these authorities, each with the permissions of its name.
    Clients {
        /// Roots; DER.
        authorities: Vec<CertificateDer<'static>>,
        /// By DNS name in the certificate's subjectAltName.
        permissions: BTreeMap<String, Arc<Permission>>,
    },
}

/// What one client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Sign with any key that it can name.
    pub any_key: bool,
    /// Sign with the keys in these secrets.
    pub secret_ids: BTreeSet<String>,
    /// Sign with the keys of these accounts, wherever they are kept.
    pub addresses: BTreeSet<Address>,
    /// Generate keys.
    pub generate_key: bool,
    /// Rules for all that it has signed, beside those of the keys.
    pub rules: Option<Rules>,
}

/// The client of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// In open mode.
    Anyone,
    /// A client of the configuration.
    Client {
        /// Its name in the configuration.
        name: String,
        /// What it may do.
        permission: Arc<Permission>,
    },
    /// A valid certificate without a configured name: may read documents, and not sign.
    Unknown,
    /// No certificate where one is required: may only check the signer's health.
    Anonymous,
}

/// What a caller may not do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// No certificate.
    #[error("no client certificate, expected one issued by signer.client_ca; only /health works without")]
    Anonymous,
    /// No configured name in the certificate.
    #[error("the certificate has no name of a configured client")]
    Unknown,
    /// A key that is not the client's.
    #[error("{0} may not use this key")]
    Key(String),
    /// An account that is not the client's, as far as the signer knows.
    #[error("{0} has no account {1} here, expected one of those that eth_accounts lists")]
    Account(String, Address),
    /// Signing at all.
    #[error("{0} may not sign with any key")]
    Sign(String),
    /// Generating keys.
    #[error("{0} may not generate keys")]
    Generate(String),
}

impl Access {
    /// The caller without a certificate.
    #[must_use]
    pub const fn anonymous(&self) -> Caller {
        match self {
            Self::Open => Caller::Anyone,
            Self::Clients { .. } => Caller::Anonymous,
        }
    }

    /// The caller whose certificate has these DNS names. Two configured names in one certificate count as none: it would
    /// be unclear whose permissions apply.
    pub fn caller<'a>(&self, dns_names: impl Iterator<Item = &'a str>) -> Caller {
        let Self::Clients { permissions, .. } = self else { return Caller::Anyone };
        let known: BTreeSet<&str> = dns_names.filter(|name| permissions.contains_key(*name)).collect();
        match (known.first().and_then(|name| permissions.get_key_value(*name)), known.len()) {
            (Some((name, permission)), 1) => Caller::Client { name: name.clone(), permission: Arc::clone(permission) },
            _ => Caller::Unknown,
        }
    }

    /// How many payers of [`crate::nonces`] there can be.
    #[must_use]
    pub fn payers(&self) -> usize {
        match self {
            Self::Open => 2,
            Self::Clients { permissions, .. } => permissions.values().map(|permission| permission.payers()).sum(),
        }
    }
}

impl Caller {
    /// Its name in the log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Anyone => "anyone",
            Self::Client { name, .. } => name,
            Self::Unknown => "unknown",
            Self::Anonymous => "anonymous",
        }
    }

    /// Its own rules, with its name.
    #[must_use]
    pub fn rules(&self) -> Option<(&str, &Rules)> {
        match self {
            Self::Client { name, permission } => permission.rules.as_ref().map(|rules| (name.as_str(), rules)),
            Self::Anyone | Self::Unknown | Self::Anonymous => None,
        }
    }

    /// Checks that the caller has a certificate, if one is required: for everything but health checks.
    ///
    /// # Errors
    /// It has no certificate.
    pub fn has_certificate(&self) -> Result<(), Denied> {
        match self {
            Self::Anonymous => Err(Denied::Anonymous),
            Self::Anyone | Self::Client { .. } | Self::Unknown => Ok(()),
        }
    }

    /// Before a request is read: checks that the caller may sign at all.
    ///
    /// # Errors
    /// It may not.
    pub fn may_sign(&self) -> Result<(), Denied> {
        match self.permission()? {
            Some((name, permission)) if !permission.has_any_key() => Err(Denied::Sign(name.to_owned())),
            Some(_) | None => Ok(()),
        }
    }

    /// Before a key is fetched: checks that the caller could be allowed to use it.
    ///
    /// # Errors
    /// It could not.
    pub fn may_ask(&self, reference: &KeyReference) -> Result<(), Denied> {
        self.key(|permission| permission.has_secret(reference) || !permission.addresses.is_empty())
    }

    /// Once the key's address is known: checks that the caller may use it.
    ///
    /// # Errors
    /// It is not.
    pub fn may_use(&self, reference: &KeyReference, address: Address) -> Result<(), Denied> {
        self.key(|permission| permission.has_secret(reference) || permission.addresses.contains(&address))
    }

    /// The secrets that the configuration lists for it.
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        let permission = self.permission().ok().flatten().map(|(_name, permission)| permission);
        permission.into_iter().flat_map(|permission| permission.secret_ids.iter().map(String::as_str))
    }

    /// Checks that the caller may generate keys.
    ///
    /// # Errors
    /// It may not.
    pub fn may_generate(&self) -> Result<(), Denied> {
        match self.permission()? {
            Some((name, permission)) if !permission.generate_key => Err(Denied::Generate(name.to_owned())),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that the caller is a configured client, which is enough for metrics.
    ///
    /// # Errors
    /// It is not.
    pub fn is_known(&self) -> Result<(), Denied> {
        self.permission().map(|_permission| ())
    }

    /// Which share of [`crate::nonces`] a signature counts against. `is_foreign`: the request brought the key itself, or a
    /// credential to fetch it with, and the policy does not name its address.
    #[must_use]
    pub fn payer(&self, is_foreign: bool) -> Payer<'_> {
        let may_bring = match self {
            Self::Anyone => true,
            Self::Client { permission, .. } => permission.any_key,
            Self::Unknown | Self::Anonymous => false,
        };
        Payer { client: self.name(), is_key_brought: is_foreign && may_bring }
    }

    fn key(&self, is_allowed: impl FnOnce(&Permission) -> bool) -> Result<(), Denied> {
        match self.permission()? {
            Some((name, permission)) if !permission.any_key && !is_allowed(permission) => {
                Err(Denied::Key(name.to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// None in open mode.
    fn permission(&self) -> Result<Option<(&str, &Permission)>, Denied> {
        match self {
            Self::Anyone => Ok(None),
            Self::Client { name, permission } => Ok(Some((name, permission))),
            Self::Unknown => Err(Denied::Unknown),
            Self::Anonymous => Err(Denied::Anonymous),
        }
    }
}

impl Permission {
    /// One for the keys that the configuration names, and another if it allows any key, of which there may be any number.
    pub(crate) fn payers(&self) -> usize {
        let has_names = !self.secret_ids.is_empty() || !self.addresses.is_empty();
        if self.any_key { 2 } else { usize::from(has_names) }
    }

    fn has_any_key(&self) -> bool {
        self.any_key || !self.secret_ids.is_empty() || !self.addresses.is_empty()
    }

    fn has_secret(&self, reference: &KeyReference) -> bool {
        match reference {
            KeyReference::SecretId(id) => self.secret_ids.contains(id),
            KeyReference::EncryptedKey(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Address = Address([1; 20]);
    const OTHER: Address = Address([2; 20]);

    fn secret(id: &str) -> KeyReference {
        KeyReference::SecretId(id.to_owned())
    }

    fn access(clients: &[(&str, Permission)]) -> Access {
        let permissions =
            clients.iter().map(|(name, permission)| ((*name).to_owned(), Arc::new(permission.clone()))).collect();
        Access::Clients { authorities: Vec::new(), permissions }
    }

    fn caller(permission: Permission) -> Caller {
        access(&[("pay.example", permission)]).caller(["pay.example"].into_iter())
    }

    #[test]
    fn in_open_mode_anyone_may_everything() {
        let anyone = Access::Open.caller([].into_iter());
        assert_eq!(anyone, Caller::Anyone);
        assert!(anyone.may_ask(&secret("a")).is_ok() && anyone.may_use(&secret("a"), MINE).is_ok());
        assert!(anyone.may_generate().is_ok() && anyone.is_known().is_ok());
    }

    #[test]
    fn an_unknown_client_may_do_nothing() {
        let access =
            access(&[("pay.example", Permission { any_key: true, generate_key: true, ..Permission::default() })]);
        for names in [vec![], vec!["example"], vec!["*.example"], vec!["PAY.example"], vec!["x.pay.example"]] {
            let unknown = access.caller(names.into_iter());
            assert_eq!(unknown, Caller::Unknown);
            assert_eq!(unknown.may_ask(&secret("a")), Err(Denied::Unknown));
            assert_eq!(unknown.may_use(&secret("a"), MINE), Err(Denied::Unknown));
            assert_eq!(unknown.may_generate(), Err(Denied::Unknown));
            assert_eq!(unknown.is_known(), Err(Denied::Unknown));
        }
    }

    #[test]
    fn a_caller_without_a_certificate_may_do_less_than_an_unknown_one() {
        assert_eq!(Access::Open.anonymous(), Caller::Anyone);
        let anonymous = access(&[("pay.example", Permission::default())]).anonymous();
        assert_eq!(anonymous, Caller::Anonymous);
        assert_eq!(anonymous.has_certificate(), Err(Denied::Anonymous));
        assert!(Caller::Unknown.has_certificate().is_ok() && Caller::Anyone.has_certificate().is_ok());
        for denied in
            [anonymous.may_sign(), anonymous.may_ask(&secret("a")), anonymous.may_generate(), anonymous.is_known()]
        {
            assert_eq!(denied, Err(Denied::Anonymous));
        }
    }

    #[test]
    fn a_certificate_with_two_configured_names_is_unknown() {
        let access = access(&[("a.example", Permission::default()), ("b.example", Permission::default())]);
        assert_eq!(access.caller(["a.example", "b.example"].into_iter()), Caller::Unknown);
        assert_eq!(access.caller(["a.example", "c.example", "a.example"].into_iter()).name(), "a.example");
    }

    #[test]
    fn a_client_uses_the_secrets_that_are_listed_and_no_others() {
        let caller = caller(Permission { secret_ids: ["a".to_owned()].into(), ..Permission::default() });
        assert_eq!(caller.may_ask(&secret("a")), Ok(()));
        assert_eq!(caller.may_use(&secret("a"), OTHER), Ok(()));
        let denied = Err(Denied::Key("pay.example".to_owned()));
        assert_eq!(caller.may_ask(&secret("b")), denied);
        assert_eq!(caller.may_use(&secret("b"), MINE), denied);
        assert_eq!(caller.may_ask(&KeyReference::EncryptedKey(b"a".to_vec())), denied);
    }

    #[test]
    fn a_client_with_addresses_may_bring_its_keys_but_use_only_these() {
        let caller = caller(Permission { addresses: [MINE].into(), ..Permission::default() });
        for reference in [KeyReference::EncryptedKey(vec![1]), secret("b")] {
            assert_eq!(caller.may_ask(&reference), Ok(()));
            assert_eq!(caller.may_use(&reference, MINE), Ok(()));
            assert_eq!(caller.may_use(&reference, OTHER), Err(Denied::Key("pay.example".to_owned())));
        }
    }

    #[test]
    fn keys_without_a_name_have_a_share_of_their_own() {
        let any = Permission { any_key: true, ..Permission::default() };
        let named = Permission { addresses: [MINE].into(), ..Permission::default() };
        for (permission, is_key_brought) in [(any.clone(), true), (named.clone(), false)] {
            let caller = caller(permission);
            assert_eq!(caller.payer(true), Payer { client: "pay.example", is_key_brought });
            assert_eq!(caller.payer(false), Payer { client: "pay.example", is_key_brought: false });
        }
        assert_eq!(Caller::Anyone.payer(true), Payer { client: "anyone", is_key_brought: true });
        assert_eq!(Access::Open.payers(), 2);
        let clients = [("a", any), ("b", named), ("metrics", Permission::default())];
        assert_eq!(access(&clients).payers(), 3);
    }

    #[test]
    fn a_client_without_keys_may_not_sign_whatever_it_asks_for() {
        let denied = Err(Denied::Sign("pay.example".to_owned()));
        assert_eq!(caller(Permission { generate_key: true, ..Permission::default() }).may_sign(), denied);
        for permission in [
            Permission { any_key: true, ..Permission::default() },
            Permission { secret_ids: ["a".to_owned()].into(), ..Permission::default() },
            Permission { addresses: [MINE].into(), ..Permission::default() },
        ] {
            assert_eq!(caller(permission).may_sign(), Ok(()));
        }
        assert_eq!(Caller::Unknown.may_sign(), Err(Denied::Unknown));
        assert_eq!(Caller::Anyone.may_sign(), Ok(()));
    }

    #[test]
    fn generating_keys_is_a_permission_of_its_own() {
        let with =
            |generate_key| caller(Permission { any_key: true, generate_key, ..Permission::default() }).may_generate();
        assert_eq!(with(true), Ok(()));
        assert_eq!(with(false), Err(Denied::Generate("pay.example".to_owned())));
    }
}
