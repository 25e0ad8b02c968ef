use ethereum::number::Uint;
use ethereum::signable::Signable;
use ethereum::typed_data::{DOMAIN, Struct, Types, Value as Field};

use super::super::{PolicyTable, Refusal, Rule, Rules};
use super::*;

const TOKEN: Address = Address([3; 20]);
const SPENDER: Address = Address([7; 20]);
const PERMIT: &str = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";
const PERMIT_2: &str = "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)\
    PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)";

fn rules(tables: &str) -> Result<Rules> {
    let text = format!(
        "chain_ids = [1]\nrecipients = \"any\"\nmax_value = \"1 ether\"\nmax_fee_per_gas = \"1 gwei\"\nmax_gas = 500000\n\
         contract_creation = false\ndata_selectors = []\nnonce_reuse = false\n{tables}"
    );
    Ok(toml::from_str::<PolicyTable>(&text)?.check("signer.policy")?.rules(Address([1; 20])).clone())
}

fn table(chain_id: u64, contract: Address, ty: &str, fields: &str) -> String {
    format!(
        "[[typed_data]]\nchain_id = {chain_id}\nverifying_contract = \"{contract}\"\ntype = \"{ty}\"\nfields = {fields}\n"
    )
}

/// At most 1,000 of a token with 6 decimals, for one spender.
fn permit_table() -> String {
    let value = "{ max = \"1000\", decimals = 6, is_payment = true }";
    let fields =
        format!("{{ owner = \"any\", spender = \"{SPENDER}\", value = {value}, nonce = \"any\", deadline = \"any\" }}");
    table(1, TOKEN, PERMIT, &fields)
}

fn permit_2_table() -> String {
    let details = "{ token = \"any\", amount = { max = 50, is_payment = true, token = \"token\" }, expiration = \"any\", nonce = \"any\" }";
    table(1, TOKEN, PERMIT_2, &format!("{{ details = {details}, spender = \"any\", sigDeadline = \"any\" }}"))
}

fn definitions(types: &[(&str, &[(&str, &str)])]) -> Types {
    let own =
        |fields: &[(&str, &str)]| fields.iter().map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned())).collect();
    Types::new(&types.iter().map(|(name, fields)| ((*name).to_owned(), own(fields))).collect()).unwrap()
}

const DOMAIN_FIELDS: &[(&str, &str)] = &[("chainId", "uint256"), ("verifyingContract", "address")];

fn domain(types: &Types, chain_id: u128, contract: Address) -> Struct {
    let values = vec![Field::Uint(Uint::from(chain_id)), Field::Address(contract)];
    Struct::new(types.get(DOMAIN).unwrap(), values).unwrap()
}

fn number(number: u128) -> Field {
    Field::Uint(Uint::from(number))
}

fn permit(chain_id: u128, contract: Address, spender: Address, value: u128) -> Signable {
    let fields: &[(&str, &str)] = &[
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    ];
    let types = definitions(&[(DOMAIN, DOMAIN_FIELDS), ("Permit", fields)]);
    let values =
        vec![Field::Address(Address([1; 20])), Field::Address(spender), number(value), number(0), number(u128::MAX)];
    let message = Struct::new(types.get("Permit").unwrap(), values).unwrap();
    Signable::TypedData(TypedData::new(&types, "Permit", domain(&types, chain_id, contract), message).unwrap())
}

fn permit_2(token: Address, amount: u128) -> Signable {
    let details: &[(&str, &str)] =
        &[("token", "address"), ("amount", "uint160"), ("expiration", "uint48"), ("nonce", "uint48")];
    let single: &[(&str, &str)] = &[("details", "PermitDetails"), ("spender", "address"), ("sigDeadline", "uint256")];
    let types = definitions(&[(DOMAIN, DOMAIN_FIELDS), ("PermitDetails", details), ("PermitSingle", single)]);
    let details = vec![Field::Address(token), number(amount), number(1), number(2)];
    let details = Field::Struct(Struct::new(types.get("PermitDetails").unwrap(), details).unwrap());
    let values = vec![details, Field::Address(SPENDER), number(9)];
    let message = Struct::new(types.get("PermitSingle").unwrap(), values).unwrap();
    Signable::TypedData(TypedData::new(&types, "PermitSingle", domain(&types, 1, TOKEN), message).unwrap())
}

fn refused(rules: &Rules, subject: &Signable) -> String {
    let Refusal { rule, problem, .. } = rules.check(subject).expect_err("allowed");
    assert_eq!(rule, Rule::TypedData);
    problem
}

#[test]
fn a_permit_is_judged_by_its_fields_and_is_a_payment_of_its_contracts_token() {
    let rules = rules(&permit_table()).unwrap();
    let good = permit(1, TOKEN, SPENDER, 1_000_000_000);
    assert_eq!(rules.check(&good), Ok(()));
    let amount = Uint::from(1_000_000_000);
    assert_eq!(rules.payments(&good), [Payment { token: TOKEN, amount }]);
    assert_eq!(
        refused(&rules, &permit(1, TOKEN, SPENDER, 1_000_000_001)),
        format!("Permit for {TOKEN} on chain 1: value: 1000.000001, at most 1000")
    );
    let problem = refused(&rules, &permit(1, TOKEN, TOKEN, 1));
    assert!(problem.ends_with(&format!("spender: {TOKEN}, expected {SPENDER}")), "{problem}");
}

#[test]
fn a_permit_of_permit2_is_a_payment_of_the_token_that_it_names() {
    let (rules, usdc) = (rules(&permit_2_table()).unwrap(), Address([9; 20]));
    let good = permit_2(usdc, 50);
    assert_eq!(rules.check(&good), Ok(()));
    assert_eq!(rules.payments(&good), [Payment { token: usdc, amount: Uint::from(50) }]);
    assert!(refused(&rules, &permit_2(usdc, 51)).ends_with("details.amount: 51, at most 50"));
}

#[test]
fn another_chain_contract_or_type_has_no_rule() {
    let rules = rules(&permit_table()).unwrap();
    let other_chain = rules.check(&permit(5, TOKEN, SPENDER, 1)).unwrap_err();
    assert_eq!((other_chain.rule, other_chain.problem.as_str()), (Rule::ChainIds, "chain 5 is not among them"));
    let problem = refused(&rules, &permit(1, SPENDER, SPENDER, 1));
    assert_eq!(problem, format!("{PERMIT} for {SPENDER} on chain 1 has no rule, expected another contract or chain"));
    let problem = refused(&rules, &permit_2(TOKEN, 1));
    assert!(problem.ends_with(&format!("on chain 1 has no rule, expected {PERMIT}")), "{problem}");
    let huge = refused(&rules, &permit(u128::MAX, TOKEN, SPENDER, 1));
    assert!(huge.starts_with("Permit: its domain has no chainId or no verifyingContract"), "{huge}");
}

#[test]
fn without_rules_no_typed_data_is_signed() {
    let rules = rules("").unwrap();
    assert_eq!(refused(&rules, &permit(1, TOKEN, SPENDER, 1)), "no typed data is signed");
    let types = definitions(&[(DOMAIN, &[("name", "string")]), ("A", &[("b", "bool")])]);
    let domain = Struct::new(types.get(DOMAIN).unwrap(), vec![Field::String("x".to_owned())]).unwrap();
    let message = Struct::new(types.get("A").unwrap(), vec![Field::Bool(true)]).unwrap();
    let data = Signable::TypedData(TypedData::new(&types, "A", domain, message).unwrap());
    let some = self::rules(&permit_table()).unwrap();
    assert!(refused(&some, &data).starts_with("A: its domain has no chainId"));
}

#[test]
fn a_table_that_cannot_be_is_refused_with_its_key() {
    let good = permit_table();
    let error = |text: &str| format!("{:#}", rules(text).expect_err(text));
    for (from, to, expected) in [
        ("chain_id = 1", "chain_id = 0", "[0].chain_id: 0 is not a chain id"),
        ("verifying_contract = \"0x03", "verifying_contract = \"03", "[0].verifying_contract: `03"),
        ("type = \"Permit(", "type = \"Permit", "[0].type: unexpected `"),
        ("owner = \"any\", ", "", "[0].fields.owner: missing, expected a list of addresses or \"any\""),
        ("owner = \"any\"", "owner = \"any\", x = 1", "[0].fields.x: not declared, expected one of owner, spender"),
        ("decimals = 6", "decimals = 78", "[0].fields.value.decimals: 78, expected 0 to 77"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = error(&good.replacen(from, to, 1));
        assert!(error.starts_with(&format!("signer.policy.typed_data{expected}")), "{error}");
    }
    assert!(
        error(&format!("{good}{good}")).starts_with("signer.policy.typed_data[1]: the same chain, contract and type")
    );
    assert!(error("typed_data = []\n").starts_with("signer.policy.typed_data: an empty list"));
}
