use ethereum::authorization::SignedAuthorization;
use ethereum::message::Message;

use super::*;
use crate::policy::{Policy, PolicyTable};

const KEY: Address = Address([1; 20]);
const OTHER_KEY: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
const DELEGATE: Address = Address([8; 20]);
const BASE: &str = r#"
chain_ids = [1]
recipients = "any"
max_value = "0 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = "any"
nonce_reuse = false
"#;
const ALL: &str = r#"
blobs = { max_count = 2, max_fee_per_blob_gas = "10 gwei" }
delegates = ["0x0808080808080808080808080808080808080808"]
personal_sign = true
"#;

fn policy(text: &str) -> Result<Policy> {
    toml::from_str::<PolicyTable>(&format!("{BASE}{text}"))?.check("signer.policy")
}

fn transaction(kind: Kind) -> Signable {
    let to = Some(Address([7; 20]));
    Signable::Transaction(Transaction { chain_id: 1, nonce: 0, gas: 21_000, to, value: Wei(0), data: vec![], kind })
}

fn blobs(count: usize, max_fee_per_blob_gas: u128) -> Signable {
    transaction(Kind::Blob {
        max_fee_per_gas: Wei(1),
        max_priority_fee_per_gas: Wei(1),
        access_list: vec![],
        max_fee_per_blob_gas: Wei(max_fee_per_blob_gas),
        blob_versioned_hashes: vec![[1; 32]; count],
    })
}

fn set_code(authorizations: &[Authorization]) -> Signable {
    let signed =
        |&authorization: &Authorization| SignedAuthorization { authorization, y_parity: false, r: [1; 32], s: [1; 32] };
    transaction(Kind::SetCode {
        max_fee_per_gas: Wei(1),
        max_priority_fee_per_gas: Wei(1),
        access_list: vec![],
        authorizations: authorizations.iter().map(signed).collect(),
    })
}

const GOOD: Authorization = Authorization { chain_id: 1, contract: DELEGATE, nonce: 0 };

fn broken(text: &str, subject: &Signable) -> Option<Rule> {
    policy(text).unwrap().rules(KEY).check(subject).err().map(|refusal| refusal.rule)
}

#[test]
fn everything_is_off_until_it_is_turned_on() {
    assert_eq!(broken("", &blobs(1, 1)), Some(Rule::Blobs));
    assert_eq!(broken("", &set_code(&[GOOD])), Some(Rule::Delegates));
    assert_eq!(broken("", &Signable::Authorization(GOOD)), Some(Rule::Delegates));
    assert_eq!(broken("", &Signable::Message(Message(vec![]))), Some(Rule::PersonalSign));
    assert_eq!(broken("personal_sign = false", &Signable::Message(Message(vec![]))), Some(Rule::PersonalSign));
    assert_eq!(broken(ALL, &blobs(1, 1)), None);
    assert_eq!(broken(ALL, &set_code(&[GOOD])), None);
    assert_eq!(broken(ALL, &Signable::Authorization(GOOD)), None);
    assert_eq!(broken(ALL, &Signable::Message(Message(vec![]))), None);
}

#[test]
fn blobs_have_a_count_and_a_fee() {
    assert_eq!(broken(ALL, &blobs(2, 10_000_000_000)), None);
    assert_eq!(broken(ALL, &blobs(3, 1)), Some(Rule::Blobs));
    assert_eq!(broken(ALL, &blobs(1, 10_000_000_001)), Some(Rule::Blobs));
}

#[test]
fn each_delegate_of_a_transaction_and_of_an_authorisation_must_be_listed() {
    let other = Authorization { contract: Address([9; 20]), ..GOOD };
    let none = Authorization { contract: Address([0; 20]), ..GOOD };
    for wrong in [other, none] {
        assert_eq!(broken(ALL, &Signable::Authorization(wrong)), Some(Rule::Delegates));
        assert_eq!(broken(ALL, &set_code(&[GOOD, wrong])), Some(Rule::Delegates));
    }
    assert_eq!(broken("delegates = []", &Signable::Authorization(GOOD)), Some(Rule::Delegates));
}

#[test]
fn an_authorisation_for_every_chain_needs_a_rule_of_its_own() {
    let every = Authorization { chain_id: 0, ..GOOD };
    let allowed = format!("{ALL}any_chain_authorizations = true");
    for subject in [Signable::Authorization(every), set_code(&[GOOD, every])] {
        assert_eq!(broken(ALL, &subject), Some(Rule::AnyChainAuthorizations));
        assert_eq!(broken(&allowed, &subject), None);
    }
    let unlisted = Signable::Authorization(Authorization { chain_id: 2, ..GOOD });
    assert_eq!(broken(&allowed, &unlisted), Some(Rule::ChainIds));
}

#[test]
fn a_key_of_its_own_rules_falls_back_to_those_of_all() {
    let text = format!("{ALL}[keys.{OTHER_KEY}]\npersonal_sign = false\ndelegates = []");
    let policy = policy(&text).unwrap();
    let rules = policy.rules(OTHER_KEY.parse().unwrap());
    let broken = |subject: &Signable| rules.check(subject).err().map(|refusal| refusal.rule);
    assert_eq!(broken(&blobs(1, 1)), None);
    assert_eq!(broken(&Signable::Message(Message(vec![]))), Some(Rule::PersonalSign));
    assert_eq!(broken(&Signable::Authorization(GOOD)), Some(Rule::Delegates));
}

#[test]
fn an_error_of_the_configuration_names_its_key() {
    let refused = |text: &str| format!("{:#}", policy(text).unwrap_err());
    assert_eq!(
        refused("blobs = { max_count = 7, max_fee_per_blob_gas = \"1 gwei\" }"),
        "signer.policy.blobs: max_count: 7, expected 1 to 6 (EIP-7594)"
    );
    assert!(refused("blobs = { max_count = 0, max_fee_per_blob_gas = \"1 gwei\" }").contains("expected 1 to 6"));
    assert!(
        refused("blobs = { max_count = 1, max_fee_per_blob_gas = \"1\" }").starts_with("signer.policy.blobs: max_fee")
    );
    assert!(refused("blobs = { max_count = 1 }").contains("max_fee_per_blob_gas"));
    assert!(refused("delegates = \"any\"").contains("delegates"));
    assert!(refused("delegates = [\"any\"]").starts_with("signer.policy.delegates: `any`"));
    let twice =
        "delegates = [\"0x0808080808080808080808080808080808080808\", \"0x0808080808080808080808080808080808080808\"]";
    assert!(refused(twice).contains("written twice"));
}
