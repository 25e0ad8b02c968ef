use ethereum::address::Address;
use ethereum::hex;
use ethereum::key::SecretKey;
use ethereum::message::Message;
use ethereum::signable::{Signable, Signed, Unsigned};
use serde_json::{Value as Json, json};

use super::*;

const VECTORS: &str = include_str!("../../../tests/vectors/ethereum-messages.json");

/// The example of EIP-712.
fn mail() -> Json {
    json!({
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"}, {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"},
            ],
            "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
            "Mail": [{"name": "from", "type": "Person"}, {"name": "to", "type": "Person"}, {"name": "contents", "type": "string"}],
        },
        "primaryType": "Mail",
        "domain": {
            "name": "Ether Mail", "version": "1", "chainId": 1,
            "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
        },
        "message": {
            "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
            "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
            "contents": "Hello, Bob!",
        },
    })
}

fn read(text: &str) -> Result<TypedData, String> {
    parse(&Field::new("data", text)).map_err(|error| {
        let error = error.to_string();
        assert!(error.len() < 4096 && error.starts_with("data") && error.contains("expected"), "{error}");
        error
    })
}

/// The error with `from` replaced in the example.
fn refused(from: &str, to: &str) -> String {
    let text = mail().to_string();
    assert!(text.contains(from), "{from} is not in {text}");
    read(&text.replacen(from, to, 1)).expect_err("accepted")
}

/// A message with one member `a` of this type, and more types beside.
fn one(type_: &str, value: &str, more: &str) -> Result<Value, String> {
    let text = format!(
        r#"{{"types": {{"EIP712Domain": [{{"name": "name", "type": "string"}}], {more} "T": [{{"name": "a", "type": "{type_}"}}]}},
            "primaryType": "T", "domain": {{"name": ""}}, "message": {{"a": {value}}}}}"#
    );
    let data = read(&text)?;
    // What alloy reckons is what is reckoned by hand.
    Unsigned::new(&Signable::TypedData(data.clone())).sign(&key()).unwrap();
    Ok(data.message().get("a").unwrap().clone())
}

fn key() -> SecretKey {
    SecretKey::parse(b"0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318").unwrap()
}

fn int(number: i64) -> Int {
    Int::from_decimal(&number.to_string()).unwrap()
}

#[test]
fn the_example_of_eip_712_has_the_hash_of_eip_712() {
    let data = read(&mail().to_string()).unwrap();
    let hash = "0xbe609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2";
    assert_eq!(hex::prefixed(&data.hash()), hash);
    assert_eq!(data.primary_type(), "Mail");
    assert_eq!(data.description(), "Mail(Person from,Person to,string contents)Person(string name,address wallet)");
    let domain = data.domain();
    assert_eq!((domain.name.as_deref(), domain.version.as_deref()), (Some("Ether Mail"), Some("1")));
    assert_eq!((domain.chain_id, domain.salt), (Some(Uint::from(1)), None));
    assert_eq!(domain.verifying_contract, Some(Address([0xcc; 20])));
    let Some(Value::Struct(to)) = data.message().get("to") else { panic!() };
    assert_eq!((to.name(), to.get("name")), ("Person", Some(&Value::String("Bob".to_owned()))));
    assert_eq!(data.message().iter().count(), 3);
    // As some wallets send it.
    assert_eq!(read(&Json::String(mail().to_string()).to_string()).unwrap(), data);
}

#[test]
fn what_eth_account_signs_is_signed_byte_for_byte() {
    let vectors: Json = serde_json::from_str(VECTORS).unwrap();
    let key = SecretKey::parse(vectors["private_key"].as_str().unwrap().as_bytes()).unwrap();
    let sign = |subject: Signable| match Unsigned::new(&subject).sign(&key).unwrap() {
        Signed::Message(signature) | Signed::TypedData(signature) => hex::prefixed(&signature.bytes),
        other => panic!("{other:?}"),
    };
    let messages = vectors["personal_sign"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    for vector in messages {
        let text = vector["text"].as_str().unwrap();
        for written in [json!(text), json!(hex::prefixed(text.as_bytes()))] {
            let message = crate::message::parse(&Field::new("params[0]", &written.to_string())).unwrap();
            assert_eq!(message, Message(text.into()));
            assert_eq!(sign(Signable::Message(message)), vector["signature"].as_str().unwrap(), "{text}");
        }
    }
    for vector in vectors["typed_data"].as_array().unwrap() {
        let data = read(&vector["typed_data"].to_string()).unwrap();
        assert_eq!(sign(Signable::TypedData(data)), vector["signature"].as_str().unwrap());
    }
}

#[test]
fn a_member_is_there_once_and_nothing_else_is() {
    let cow = r#""name":"Cow","#;
    assert!(refused(cow, "").starts_with("data.message.from.name: missing, expected string as Person has it"));
    assert!(refused(cow, &format!("{cow}{cow}")).starts_with("data.message.from.name: written twice"));
    assert!(refused(cow, &format!("{cow}\"\\u006eame\":\"Cow\",")).contains("written twice"));
    let extra = refused(cow, &format!("{cow}\"age\":5,"));
    assert!(
        extra.starts_with("data.message.from.age: not a member of Person, expected one of name, wallet"),
        "{extra}"
    );
    assert!(refused(r#""Cow""#, "null").starts_with("data.message.from.name: null"));
    let mut other = mail();
    other["message"]["from"] = json!(["Cow", "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"]);
    assert_eq!(read(&other.to_string()).unwrap_err(), "data.message.from: not an object, expected one");
    assert!(refused(r#""contents":"Hello, Bob!""#, r#""contents":[1]"#).starts_with("data.message.contents: "));
    assert!(refused(r#""primaryType":"Mail""#, r#""primaryType":"Mail","x":1"#).starts_with("data.x: unknown field"));
    for part in ["types", "primaryType", "domain", "message"] {
        let mut without = mail();
        without.as_object_mut().unwrap().remove(part);
        assert!(read(&without.to_string()).unwrap_err().starts_with(&format!("data.{part}: missing")));
    }
}

#[test]
fn a_domain_has_the_fields_that_its_type_lists_and_eip_712_knows() {
    let salt = refused(r#""version":"1""#, r#""version":"1","salt":"0x00""#);
    assert!(salt.starts_with("data.domain.salt: not a member of EIP712Domain"), "{salt}");
    assert!(refused(r#""version":"1""#, r#""version":1"#).starts_with("data.domain.version: 1: expected a string"));
    let version = r#"{"name":"version","type":"string"}"#;
    assert!(refused(version, r#"{"name":"owner","type":"string"}"#).starts_with("data.types.EIP712Domain[1]: "));
    assert!(refused(version, r#"{"name":"version","type":"bytes32"}"#).contains("expected one of string name"));
    assert!(refused(r#""EIP712Domain""#, r#""Domain""#).starts_with("data.types.EIP712Domain: missing"));
    let mut empty = mail();
    empty["types"]["EIP712Domain"] = json!([]);
    empty["domain"] = json!({});
    assert!(read(&empty.to_string()).unwrap_err().starts_with("data.types.EIP712Domain: empty"));
    assert!(refused(r#""primaryType":"Mail""#, r#""primaryType":"EIP712Domain""#).starts_with("data.primaryType: "));
    assert!(refused(r#""primaryType":"Mail""#, r#""primaryType":"mail""#).starts_with("data.primaryType: "));
    assert!(refused(r#""primaryType":"Mail""#, r#""primaryType":"Mail[]""#).starts_with("data.primaryType: "));
    // In any order, and a salt.
    let mut other = mail();
    other["types"]["EIP712Domain"] =
        json!([{"name": "salt", "type": "bytes32"}, {"name": "chainId", "type": "uint256"}]);
    other["domain"] = json!({"chainId": "0x2105", "salt": format!("0x{}", "07".repeat(32))});
    let domain = read(&other.to_string()).unwrap().domain().clone();
    assert_eq!((domain.chain_id, domain.salt, domain.name), (Some(Uint::from(8453)), Some([7; 32]), None));
}

#[test]
fn types_are_those_of_eip_712_and_those_that_are_defined() {
    for good in ["uint8", "uint256", "int8", "int248", "bytes1", "bytes32", "bool", "address", "string", "bytes"] {
        assert!(!one(good, "{}", "").unwrap_err().contains("data.types"), "{good}");
    }
    for wrong in [
        "uint",
        "int",
        "uint0",
        "uint7",
        "uint264",
        "uint08",
        "int512",
        "bytes0",
        "bytes33",
        "bytes01",
        "byte",
        "function",
        "fixed",
        "Missing",
        "",
        " uint8",
        "uint8 ",
        "uint8[",
        "uint8[]]",
        "uint8[0]",
        "uint8[01]",
        "uint8[-1]",
        "uint8[2049]",
        "uint8[99999999999999999999]",
        "(uint8)",
        "uint8[][",
        "a.b",
        "1a",
        "größe",
        "T[x]",
    ] {
        let error = one(wrong, "1", "").unwrap_err();
        assert!(error.starts_with("data.types.T[0].type: "), "{wrong}: {error}");
    }
    assert!(one("string", "\"\"", r#""bad name": [],"#).unwrap_err().contains("not a name"));
    assert!(one("string", "\"\"", r#""uint8": [],"#).unwrap_err().contains("the name of a type of Solidity"));
    assert!(
        one("string", "\"\"", r#""U": [{"name": "1", "type": "bool"}],"#)
            .unwrap_err()
            .contains("U[0].name: not a name")
    );
    let twice = r#""U": [{"name": "b", "type": "bool"}, {"name": "b", "type": "bool"}],"#;
    assert!(one("string", "\"\"", twice).unwrap_err().starts_with("data.types.U[1].name: `b` is written twice"));
    assert!(one("string", "\"\"", r#""U": [], "U": [],"#).unwrap_err().starts_with("data.types.U: written twice"));
    assert!(
        one("string", "\"\"", r#""U": [{"name": "b"}],"#).unwrap_err().starts_with("data.types.U[0].type: missing")
    );
    assert!(
        one("string", "\"\"", r#""U": [{"name": "b", "type": "bool", "x": 1}],"#)
            .unwrap_err()
            .contains("unknown field")
    );
    assert!(one("string", "\"\"", r#""U": [{"name": "b", "type": "Missing"}],"#).unwrap_err().contains("not in types"));
    // A type that is not needed does no harm, and a struct may be empty.
    assert!(one("U", "{}", r#""U": [], "V": [],"#).is_ok());
}

#[test]
fn a_type_does_not_contain_itself() {
    let itself = one("T", "{}", "").unwrap_err();
    assert_eq!(itself, "data.types.T: contains itself (T > T), expected types that end");
    assert!(one("T[]", "[]", "").unwrap_err().contains("contains itself"));
    let round = r#""U": [{"name": "v", "type": "V[2]"}], "V": [{"name": "u", "type": "U"}],"#;
    assert!(one("bool", "true", round).unwrap_err().contains("(U > V > U)"));
}

#[test]
fn types_are_bounded() {
    let chain = |length: usize| -> String {
        (0..length).map(|at| format!(r#""U{at}": [{{"name": "b", "type": "U{}"}}],"#, at + 1)).collect::<String>()
            + &format!(r#""U{length}": [{{"name": "b", "type": "bool"}}],"#)
    };
    assert!(one("bool", "true", &chain(30)).is_ok());
    assert!(one("bool", "true", &chain(32)).unwrap_err().contains("deep, expected at most 32"));
    assert!(one("bool", "true", &chain(70)).unwrap_err().contains("types, expected at most 64"));
    assert!(one(&format!("bool{}", "[]".repeat(30)), "[]", "").is_ok());
    assert!(one(&format!("bool{}", "[]".repeat(31)), "[]", "").unwrap_err().contains("expected"));
    assert!(one(&format!("bool{}", "[]".repeat(2_000)), "[]", "").unwrap_err().contains("arrays in one another"));
    let members =
        |count: usize| (0..count).map(|at| format!(r#"{{"name": "m{at}", "type": "bool"}},"#)).collect::<String>();
    let many = format!(r#""U": [{}],"#, members(600).trim_end_matches(','));
    assert!(one("bool", "true", &many).unwrap_err().contains("members, expected at most 512"));
    let long = format!(r#""{}": [],"#, "U".repeat(17_000));
    assert!(one("bool", "true", &long).unwrap_err().contains("characters, expected at most 16384"));
}

#[test]
fn unsigned_numbers_are_read_as_wallets_write_them() {
    for written in ["255", "\"255\"", "\"0xff\"", "\"0xFF\"", "\"0x00ff\""] {
        assert_eq!(one("uint8", written, ""), Ok(Value::Uint(Uint::from(255))), "{written}");
    }
    let largest = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let number = Value::Uint(Uint::MAX);
    for written in [largest.to_owned(), format!("\"{largest}\""), format!("\"0x{}\"", "f".repeat(64))] {
        assert_eq!(one("uint256", &written, ""), Ok(number.clone()));
    }
    assert_eq!(one("uint256", "9007199254740993", ""), Ok(Value::Uint(Uint::from(9_007_199_254_740_993))));
    for wrong in [
        "256",
        "\"256\"",
        "\"0x100\"",
        "-1",
        "\"-1\"",
        "-0",
        "1.0",
        "1e2",
        "\"1e2\"",
        "\"\"",
        "\"0x\"",
        "\"0X1\"",
        "\"007\"",
        "\" 7\"",
        "\"7n\"",
        "true",
        "[]",
        "{}",
        "\"\\u0037\"",
        "\"0b1\"",
        "\"0o7\"",
        "\"1_0\"",
        "\"+1\"",
    ] {
        let error = one("uint8", wrong, "").unwrap_err();
        assert!(error.starts_with("data.message.a: ") && error.contains("from 0 to 2^8 - 1"), "{wrong}: {error}");
    }
    assert!(one("uint256", &largest.replace("935", "936"), "").is_err());
}

#[test]
fn signed_numbers_have_a_sign_and_a_range() {
    for (written, number) in [("-128", int(-128)), ("\"-1\"", int(-1)), ("127", int(127)), ("\"0x7f\"", int(127))] {
        assert_eq!(one("int8", written, ""), Ok(Value::Int(number)), "{written}");
    }
    for wrong in ["128", "-129", "\"0xff\"", "\"0x80\"", "\"-0x1\"", "-0", "\"--1\"", "\"-\"", "-1.5", "\"- 1\""] {
        assert!(one("int8", wrong, "").unwrap_err().contains("from -2^7 to 2^7 - 1"), "{wrong}");
    }
    let lowest = "-57896044618658097711785492504343953926634992332820282019728792003956564819968";
    let Ok(Value::Int(number)) = one("int256", lowest, "") else { panic!() };
    assert_eq!(number.to_string(), lowest);
    assert!(one("int256", &lowest.replace("968", "969"), "").is_err());
    // As an unsigned number, and not as the two's complement that it looks like.
    assert!(one("int256", &format!("\"0x{}\"", "f".repeat(64)), "").is_err());
    assert!(one("int256", &lowest[1..], "").is_err());
}

#[test]
fn bytes_have_the_length_of_their_type() {
    assert_eq!(one("bytes4", "\"0xA9059cbb\"", ""), Ok(Value::FixedBytes(vec![0xa9, 5, 0x9c, 0xbb])));
    for wrong in [
        "\"0xa9059c\"",
        "\"0xa9059cbb00\"",
        "\"0x\"",
        "\"a9059cbb\"",
        "\"0xa9059cb\"",
        "\"0xa9059cbg\"",
        "1",
        "[1, 2, 3, 4]",
    ] {
        assert!(one("bytes4", wrong, "").unwrap_err().starts_with("data.message.a: "), "{wrong}");
    }
    assert_eq!(one("bytes", "\"0x\"", ""), Ok(Value::Bytes(vec![])));
    for wrong in ["\"\"", "\"0x0\"", "\"text\"", "7", "[7]", "null"] {
        assert!(one("bytes", wrong, "").is_err(), "{wrong}");
    }
}

#[test]
fn addresses_strings_and_booleans_are_just_that() {
    let address = "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826";
    for good in [address.to_owned(), address.to_lowercase(), format!("0x{}", address[2..].to_uppercase())] {
        assert!(one("address", &format!("\"{good}\""), "").is_ok(), "{good}");
    }
    assert!(one("address", &format!("\"{}\"", address.replace("CD2a", "Cd2a")), "").unwrap_err().contains("checksum"));
    for wrong in ["\"0x0\"", "\"vitalik.eth\"", "0", "\"\""] {
        assert!(one("address", wrong, "").is_err(), "{wrong}");
    }
    assert_eq!(one("string", "\"\\u00fc\\n\"", ""), Ok(Value::String("ü\n".to_owned())));
    for wrong in ["1", "true", "\"\\ud800\"", "[]"] {
        assert!(one("string", wrong, "").is_err(), "{wrong}");
    }
    for wrong in ["\"true\"", "1", "0", "\"\"", "TRUE"] {
        assert!(one("bool", wrong, "").is_err(), "{wrong}");
    }
}

#[test]
fn a_list_has_the_length_of_its_type_in_each_dimension() {
    let numbers =
        |numbers: &[u128]| Value::Array(numbers.iter().map(|number| Value::Uint(Uint::from(*number))).collect());
    assert_eq!(one("uint8[]", "[]", ""), Ok(numbers(&[])));
    assert_eq!(one("uint8[2]", "[1, \"2\"]", ""), Ok(numbers(&[1, 2])));
    assert_eq!(one("uint8[2][]", "[[1, 2], [3, 4]]", ""), Ok(Value::Array(vec![numbers(&[1, 2]), numbers(&[3, 4])])));
    for (type_, wrong) in [
        ("uint8[2]", "[1]"),
        ("uint8[2]", "[1, 2, 3]"),
        ("uint8[2][]", "[[1, 2], [3]]"),
        ("uint8[]", "{}"),
        ("uint8[]", "\"12\""),
        ("uint8[]", "null"),
    ] {
        assert!(one(type_, wrong, "").unwrap_err().starts_with("data.message.a"), "{type_} {wrong}");
    }
    assert!(one("uint8[2][]", "[[1, 2], [3, 256]]", "").unwrap_err().starts_with("data.message.a[1][1]: 256"));
    assert!(
        one("U[]", r#"[{"b": true}, {"c": true}]"#, r#""U": [{"name": "b", "type": "bool"}],"#)
            .unwrap_err()
            .starts_with("data.message.a[1].c: ")
    );
}

#[test]
fn too_many_values_or_bytes_are_refused() {
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    // The domain has one value, and the list is one.
    assert!(one("uint8[]", &list(MAX_VALUES - 2), "").is_ok());
    assert!(one("uint8[]", &list(MAX_VALUES - 1), "").unwrap_err().contains("more than 2048 values"));
    let megabyte = format!("\"{}\"", "a".repeat(1 << 20));
    assert!(one("string", &megabyte, "").unwrap_err().starts_with("data: 1048"));
    assert!(read(&megabyte).unwrap_err().contains("expected at most 262144"));
    // The longest type, over and over.
    let members = |count: usize| {
        (0..count)
            .map(|at| format!(r#"{{"name": "{}{at}", "type": "bool"}}"#, "m".repeat(55)))
            .collect::<Vec<_>>()
            .join(",")
    };
    let types = format!(r#""V": [{}], "U": [{{"name": "v", "type": "V[]"}}],"#, members(250));
    let values = |count: usize| format!("[{}]", vec![r#"{"v":[]}"#; count].join(","));
    assert!(one("U[]", &values(400), &types).is_ok());
    assert!(one("U[]", &values(1_000), &types).unwrap_err().contains("the descriptions of all its structs' types"));
}

#[test]
fn depth_costs_an_attackers_bytes_only() {
    for deep in ["[".repeat(10_000), "{\"a\":".repeat(10_000), format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))]
    {
        for type_ in ["uint8", "T", "uint8[]", "bool", "string"] {
            one(type_, &deep, "").unwrap_err();
        }
        read(&deep).unwrap_err();
        refused(r#""Mail":["#, &format!(r#""Mail":{deep},"M":["#));
        refused(r#""domain":{"#, &format!(r#""domain":{{"name":{deep},"x":"#));
    }
    let escaped = Json::String(mail().to_string()).to_string();
    assert!(read(&Json::String(escaped).to_string()).unwrap_err().contains("not an object"));
}
