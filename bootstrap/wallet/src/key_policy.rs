//! The policy of the KMS key: who manages it, who may encrypt with it, and which enclave may decrypt.

mod audit;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use attestation::{Measurements, Pcr};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::aws::EncryptionContext;

pub use audit::{AuditError, Context, Finding, Way, audit};

/// The current version of the policy language.
const VERSION: &str = "2012-10-17";
/// The entry that binds a key to its ledger. The signer adds it to its encryption context by itself.
const LEDGER: &str = "kms:EncryptionContext:ledger";
const SAME_KEY: &str = "kms:ReEncryptOnSameKey";
/// What an administrator needs. Under this policy none of these actions uses the key. But kms:PutKeyPolicy can replace the policy, so
/// administrators are trusted with the key.
const MANAGE: [&str; 15] = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:Delete*",
    "kms:Describe*",
    "kms:Disable*",
    "kms:Enable*",
    "kms:Get*",
    "kms:List*",
    "kms:Put*",
    "kms:Revoke*",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:Update*",
];

/// The ARN of an IAM role or user, or of an account's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Principal(String);

/// Why a text is not a [`Principal`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} names nobody, expected arn:aws:iam::ACCOUNT:role/NAME, user/NAME or root, without wildcards")]
pub struct PrincipalError(String);

/// What the enclave's document must claim so that KMS decrypts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclave {
    /// The allowed values of each register.
    registers: BTreeMap<u8, Vec<Pcr>>,
}

/// Zero means that nothing was measured, and would allow every enclave in debug mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "PCR{0} is zero, as in debug mode, where a parent reads what the enclave does: expected an image's measurement"
)]
pub struct ZeroError(u8);

/// The content of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// May manage the key and this policy, and so can allow themselves to decrypt.
    pub admins: Vec<Principal>,
    /// May encrypt, and not decrypt.
    pub encryptors: Vec<Principal>,
    /// The instance's role; may decrypt only with this enclave's attestation.
    pub role: Principal,
    /// Whether the role may encrypt too, for keys that the enclave generates.
    pub is_generating: bool,
    /// The enclave.
    pub enclave: Enclave,
    /// The encryption context that is required; `None`: any.
    pub context: Option<EncryptionContext>,
    /// May have KMS bind keys to the ledger of the context that are bound to none. Until they all are.
    pub adopters: Vec<Principal>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: &'static str,
    id: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    principal: Value,
    action: Value,
    resource: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

impl Enclave {
    /// An enclave of this image, and with these other registers.
    ///
    /// # Errors
    /// A register that is zero.
    pub fn new(image: &Measurements, others: impl IntoIterator<Item = (u8, Pcr)>) -> Result<Self, ZeroError> {
        let registers = std::iter::once((0, image.pcr0)).chain(others);
        let registers =
            registers.map(|(index, pcr)| if pcr.is_zero() { Err(ZeroError(index)) } else { Ok((index, vec![pcr])) });
        Ok(Self { registers: registers.collect::<Result<_, _>>()? })
    }

    /// This one or the other, during an upgrade.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (index, pcrs) in other.registers {
            let known = self.registers.entry(index).or_default();
            known.extend(pcrs.into_iter().filter(|pcr| !known.contains(pcr)).collect::<Vec<_>>());
        }
        self
    }

    /// Any enclave in debug mode, whatever runs in it. For experiments with test keys.
    #[must_use]
    pub fn debug() -> Self {
        Self { registers: [(0, vec![Pcr([0; Pcr::LEN])])].into() }
    }

    fn condition(&self) -> BTreeMap<String, Value> {
        let name = |index| if index == 0 { "ImageSha384".to_owned() } else { format!("PCR{index}") };
        let value = |pcrs: &[Pcr]| match pcrs {
            [pcr] => json!(pcr.to_string()),
            pcrs => pcrs.iter().map(|pcr| json!(pcr.to_string())).collect(),
        };
        let all = self.registers.iter();
        all.map(|(index, pcrs)| (format!("kms:RecipientAttestation:{}", name(*index)), value(pcrs))).collect()
    }
}

impl KeyPolicy {
    /// The policy as `aws kms put-key-policy` takes it.
    ///
    /// # Panics
    /// Never: texts become JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let encryptors = self.encryptors.iter().chain(self.is_generating.then_some(&self.role));
        let context: BTreeMap<&'static str, _> =
            self.context.iter().map(|context| ("StringEquals", bound_to(context))).collect();
        let mut decrypting = context.clone();
        decrypting.insert("StringEqualsIgnoreCase", self.enclave.condition());
        let statement = |sid, principals: Value, action, condition| Statement {
            sid,
            effect: "Allow",
            principal: json!({ "AWS": principals }),
            action,
            resource: "*",
            condition,
        };
        let mut statements = vec![
            statement("Manage", list(&self.admins), json!(MANAGE), BTreeMap::new()),
            statement("Encrypt", list(encryptors), json!("kms:Encrypt"), context.clone()),
            statement("DecryptInTheEnclaveOnly", json!(self.role), json!("kms:Decrypt"), decrypting),
        ];
        if !self.adopters.is_empty() {
            let mut to = context;
            to.insert("Bool", [(SAME_KEY.to_owned(), json!("true"))].into());
            // Else what is bound to one ledger could be bound to another, which knows nothing of the first.
            let mut from = to.clone();
            from.entry("StringEquals").or_default().remove(LEDGER);
            from.retain(|_, keys| !keys.is_empty());
            from.insert("Null", [(LEDGER.to_owned(), json!("true"))].into());
            let statement = |sid, action, condition| statement(sid, list(&self.adopters), json!(action), condition);
            statements.extend([
                statement("AdoptLedgerFrom", "kms:ReEncryptFrom", from),
                statement("AdoptLedgerTo", "kms:ReEncryptTo", to),
                statement("AdoptLedgerCheck", "kms:GetKeyPolicy", BTreeMap::new()),
            ]);
        }
        let document = Document { version: VERSION, id: "enclave-wireguard-signer", statement: statements };
        serde_json::to_string_pretty(&document).expect("texts become JSON") + "\n"
    }
}

fn list<'a>(principals: impl IntoIterator<Item = &'a Principal>) -> Value {
    principals.into_iter().map(|principal| json!(principal)).collect()
}

fn bound_to(context: &EncryptionContext) -> BTreeMap<String, Value> {
    context.iter().map(|(name, value)| (format!("kms:EncryptionContext:{name}"), json!(value))).collect()
}

impl Principal {
    /// Neither a user nor an account.
    #[must_use]
    pub fn is_role(&self) -> bool {
        self.0.contains(":role/")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let parts: Vec<&str> = text.split(':').collect();
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&byte))
        };
        match parts.as_slice() {
            &["arn", partition, "iam", "", account, resource]
                if partition.starts_with("aws")
                    && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit())
                    && (resource == "root"
                        || ["role/", "user/"].iter().any(|kind| resource.strip_prefix(kind).is_some_and(is_name))) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(PrincipalError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Entry;

    fn principal(name: &str) -> Principal {
        format!("arn:aws:iam::111122223333:role/{name}").parse().unwrap()
    }

    fn image(byte: u8) -> Measurements {
        let [pcr0, pcr1, pcr2] = [0, 1, 2].map(|index| Pcr([byte + index; Pcr::LEN]));
        Measurements::new(pcr0, pcr1, pcr2)
    }

    fn policy(enclave: Enclave) -> KeyPolicy {
        KeyPolicy {
            admins: vec![principal("KeyAdmin")],
            encryptors: vec![principal("WalletLambda")],
            role: principal("EnclaveInstance"),
            is_generating: false,
            enclave,
            context: None,
            adopters: Vec::new(),
        }
    }

    #[test]
    fn a_policy_has_the_three_statements_and_the_images_pcr0() {
        let policy = policy(Enclave::new(&image(0x10), []).unwrap());
        assert_eq!(policy.to_json(), include_str!("key_policy/plain.json"));
    }

    #[test]
    fn registers_a_context_and_generated_keys_are_on_request() {
        let image = image(0x10);
        let registers = [(1, image.pcr1), (2, image.pcr2), (3, Pcr([0x13; Pcr::LEN]))];
        let policy = KeyPolicy {
            is_generating: true,
            context: Some(EncryptionContext::new(["purpose=ethereum-signer".parse::<Entry>().unwrap()]).unwrap()),
            ..policy(Enclave::new(&image, registers).unwrap())
        };
        assert_eq!(policy.to_json(), include_str!("key_policy/everything.json"));
    }

    #[test]
    fn during_an_upgrade_two_images_decrypt() {
        let enclave = |byte| Enclave::new(&image(byte), [(3, Pcr([9; Pcr::LEN]))]).unwrap();
        let policy = policy(enclave(0x10).or(enclave(0x20)).or(enclave(0x10))).to_json();
        let policy: Value = serde_json::from_str(&policy).unwrap();
        let condition = &policy["Statement"][2]["Condition"]["StringEqualsIgnoreCase"];
        let both = json!([Pcr([0x10; Pcr::LEN]).to_string(), Pcr([0x20; Pcr::LEN]).to_string()]);
        assert_eq!(condition["kms:RecipientAttestation:ImageSha384"], both);
        assert_eq!(condition["kms:RecipientAttestation:PCR3"], json!(Pcr([9; Pcr::LEN]).to_string()));
    }

    #[test]
    fn zero_registers_are_refused() {
        let zero = Pcr([0; Pcr::LEN]);
        assert_eq!(Enclave::new(&Measurements { pcr0: zero, ..image(1) }, []), Err(ZeroError(0)));
        assert_eq!(Enclave::new(&image(1), [(3, zero)]), Err(ZeroError(3)));
    }

    #[test]
    fn debug_mode_has_pcr0_of_zeros() {
        let policy = policy(Enclave::debug()).to_json();
        assert!(
            policy.contains(&format!("\"kms:RecipientAttestation:ImageSha384\": \"{}\"", "0".repeat(96))),
            "{policy}"
        );
    }

    #[test]
    fn principals_are_roles_users_and_accounts_and_never_everybody() {
        for resource in ["role/a", "role/path/a", "user/a", "root"] {
            assert!(format!("arn:aws:iam::111122223333:{resource}").parse::<Principal>().is_ok(), "{resource}");
        }
        for text in [
            "",
            "*",
            "111122223333",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::*:root",
            "arn:aws:iam::1:root",
            "arn:aws:sts::111122223333:assumed-role/a/b",
            "arn:aws:iam::111122223333:policy/a",
            "arn:aws:iam::111122223333:role/a:b",
        ] {
            assert_eq!(text.parse::<Principal>(), Err(PrincipalError(text.to_owned())), "{text}");
        }
    }
}
