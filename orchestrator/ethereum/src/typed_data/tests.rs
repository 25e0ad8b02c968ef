use std::collections::BTreeMap;

use super::*;
use crate::key::SecretKey;
use crate::signable::{Signable, Unsigned};
use crate::signature::SignError;

/// A domain, `T` with one member `a` of this type, and `U`.
fn types(type_: &str) -> Types {
    let member = |name: &str, type_: &str| vec![(name.to_owned(), type_.to_owned())];
    let definitions = [(DOMAIN, member("name", "string")), ("T", member("a", type_)), ("U", member("b", "bool"))];
    Types::new(&BTreeMap::from(definitions.map(|(name, members)| (name.to_owned(), members)))).unwrap()
}

fn value(types: &Types, name: &str, values: Vec<Value>) -> Result<Struct, String> {
    Struct::new(types.get(name).unwrap(), values).map_err(|error| error.to_string())
}

#[test]
fn a_value_of_another_type_is_in_no_struct() {
    let uint = |number: u128| Value::Uint(Uint::from(number));
    let of_other_types = value(&types("bool"), "U", vec![Value::Bool(true)]).unwrap();
    for (type_, wrong) in [
        ("uint8", uint(256)),
        ("int8", Value::Int(Int::from_decimal("128").unwrap())),
        ("int256", uint(1)),
        ("bool", uint(1)),
        ("bytes2", Value::FixedBytes(vec![1])),
        ("bytes2", Value::Bytes(vec![1, 2])),
        ("bytes", Value::FixedBytes(vec![1])),
        ("string", Value::Bytes(vec![])),
        ("uint8[2]", Value::Array(vec![uint(1)])),
        ("uint8[]", Value::Array(vec![uint(256)])),
        ("uint8", Value::Array(vec![])),
        // Its type has the same text.
        ("U", Value::Struct(of_other_types)),
    ] {
        let error = value(&types(type_), "T", vec![wrong]).unwrap_err();
        assert_eq!(error, format!("T.a: not of its type, expected {type_}"));
    }
    assert!(value(&types("uint8[2]"), "T", vec![Value::Array(vec![uint(1), uint(255)])]).is_ok());
}

#[test]
fn a_struct_has_a_value_for_each_member() {
    for count in [0, 2] {
        let error = value(&types("bool"), "T", vec![Value::Bool(true); count]).unwrap_err();
        assert_eq!(error, format!("T: {count} values, expected 1"));
    }
}

#[test]
fn a_domain_and_a_message_are_of_these_types() {
    let (here, there) = (types("bool"), types("bool"));
    let domain = |types| value(types, DOMAIN, vec![Value::String(String::new())]).unwrap();
    let message = |types, name| value(types, name, vec![Value::Bool(true)]).unwrap();
    let new = |primary: &str, domain, message| {
        TypedData::new(&here, primary, domain, message).map(|_| ()).map_err(|error| error.path)
    };
    assert_eq!(new("T", domain(&here), message(&here, "T")), Ok(()));
    for wrong in [domain(&there), message(&here, "U")] {
        assert_eq!(new("T", wrong, message(&here, "T")), Err("domain".to_owned()));
    }
    for (primary, wrong) in
        [("T", message(&here, "U")), ("T", message(&there, "T")), ("V", message(&here, "T")), (DOMAIN, domain(&here))]
    {
        assert_eq!(new(primary, domain(&here), wrong), Err("message".to_owned()), "{primary}");
    }
}

#[test]
fn typed_data_of_which_two_libraries_have_different_hashes_is_not_signed() {
    let types = types("bool");
    let domain = value(&types, DOMAIN, vec![Value::String(String::new())]).unwrap();
    let message = value(&types, "T", vec![Value::Bool(true)]).unwrap();
    let good = TypedData::new(&types, "T", domain, message).unwrap();
    let key = SecretKey::generate().unwrap();
    let sign = |data| Unsigned::new(&Signable::TypedData(data)).sign(&key).map(|_| ());
    assert_eq!(sign(good.clone()), Ok(()));
    let mut hash = good.hash;
    hash[0] ^= 1;
    assert_eq!(sign(TypedData { hash, ..good.clone() }), Err(SignError::Different));
    // What the policy has read is not what alloy has hashed.
    let message = value(&types, "T", vec![Value::Bool(false)]).unwrap();
    assert_eq!(sign(TypedData { message, ..good }), Err(SignError::Different));
}
