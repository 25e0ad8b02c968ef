use super::super::error::INVALID_PARAMS;
use super::*;

fn call(text: &str) -> Call<'_> {
    Call::parse(text).unwrap_or_else(|malformed| panic!("{text}: {malformed:?}"))
}

/// The id of the answer, and the code of the error.
fn refused(text: &str) -> (&str, i64, String) {
    let malformed = Call::parse(text).expect_err(text);
    (malformed.id.as_json(), malformed.error.code, malformed.error.message)
}

#[test]
fn only_what_has_a_version_or_is_a_list_of_objects_is_json_rpc() {
    for body in [
        r#"{"jsonrpc": "2.0"}"#,
        r#" {"id": {"a": [1]}, "jsonrpc": null}"#,
        "[]",
        "[ {}]",
        r#"{"method": nonsense, "jsonrpc": "2.0"}"#,
        r#"{"jsonrpc": "2.0", nonsense"#,
    ] {
        assert!(is_rpc(body.as_bytes()), "{body}");
    }
    for body in [
        "",
        "{}",
        "[1]",
        "[[",
        r#""jsonrpc""#,
        r#"{"transaction_payload": {"jsonrpc": "2.0"}}"#,
        r#"{"secret_id": "\"jsonrpc\""}"#,
        r#"{"secret_id": "jsonrpc"}"#,
    ] {
        assert!(!is_rpc(body.as_bytes()), "{body}");
    }
}

#[test]
fn a_call_has_an_id_a_method_and_parameters() {
    let read = call(r#"{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts", "params": [ 1 ]}"#);
    assert_eq!((read.id.unwrap().as_json(), &*read.method, read.params.as_json()), ("1", "eth_accounts", "[ 1 ]"));
    let read = call(r#"{"method": "a\u0062", "jsonrpc": "2.0"}"#);
    assert!(read.id.is_none() && read.method == "ab" && read.params.as_json() == "[]");
    assert_eq!(call(r#"{"jsonrpc": "2.0", "method": "a", "params": null}"#).params.as_json(), "[]");
}

#[test]
fn an_id_of_every_type_is_repeated_or_refused() {
    for id in [r#""a""#, r#""\u00e9\"""#, "0", "-1", "1.5e3", "18446744073709551616", "null"] {
        let text = format!(r#"{{"jsonrpc": "2.0", "id": {id}, "method": "a"}}"#);
        assert_eq!(call(&text).id.unwrap().as_json(), id);
    }
    for id in ["true", "false", "[1]", "{}"] {
        let text = format!(r#"{{"jsonrpc": "2.0", "id": {id}, "method": "a"}}"#);
        let (repeated, code, message) = refused(&text);
        assert_eq!((repeated, code), ("null", INVALID_REQUEST));
        assert!(message.starts_with(&format!("id: {id}: expected ")), "{message}");
    }
    let with = |len: usize| format!(r#"{{"jsonrpc": "2.0", "id": "{}", "method": "a"}}"#, "x".repeat(len - 2));
    call(&with(MAX_ID));
    let too_long = with(MAX_ID + 1);
    let (repeated, code, message) = refused(&too_long);
    assert!(repeated == "null" && code == INVALID_REQUEST && message.len() < 200, "{message}");
}

#[test]
fn another_version_method_or_form_of_parameters_is_an_invalid_request() {
    for (text, message) in [
        (r#"{"id": 1, "method": "a"}"#, "jsonrpc: missing, expected \"2.0\""),
        (r#"{"jsonrpc": "1.0", "id": 1, "method": "a"}"#, "jsonrpc: \"1.0\": expected \"2.0\""),
        (r#"{"jsonrpc": 2.0, "id": 1, "method": "a"}"#, "jsonrpc: 2.0: expected \"2.0\""),
        (r#"{"jsonrpc": "2.0", "id": 1}"#, "method: missing, expected the name of a method"),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": 5}"#, "method: 5: expected a string"),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": null}"#, "method: null: expected a string"),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "a", "params": "x"}"#, "params: \"x\": expected a list or an object"),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "a", "params": 1}"#, "params: 1: expected a list or an object"),
    ] {
        assert_eq!(refused(text), ("1", INVALID_REQUEST, message.to_owned()), "{text}");
    }
}

#[test]
fn what_is_written_twice_or_unknown_is_named() {
    for (text, message) in [
        (r#"{"jsonrpc": "2.0", "id": 1, "id": 1, "method": "a"}"#, "id: written twice, expected once"),
        (
            r#"{"jsonrpc": "2.0", "\u006aethod": "a", "method": "a"}"#,
            "jethod: unknown field, expected one of jsonrpc, id, method, params",
        ),
        (r#"{"jsonrpc": "2.0", "method": "a", "\u006dethod": "b"}"#, "method: written twice, expected once"),
        (r#"{"jsonrpc": "2.0", "method": "a", "params": null, "params": []}"#, "params: written twice, expected once"),
        ("5", "body: not an object, expected one"),
        ("[]", "body: not an object, expected one"),
    ] {
        assert_eq!(refused(text), ("null", INVALID_REQUEST, message.to_owned()), "{text}");
    }
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    for text in ["", "{", r#"{"jsonrpc": "2.0", "method": a}"#, r#"{"jsonrpc": "2.0"} {}"#, "nonsense"] {
        assert_eq!(refused(text).1, PARSE, "{text}");
    }
    for body in [b"[{}".as_slice(), b"[{}] x", b"[{} {}]", &[b'{', 0xff, b'}']] {
        assert_eq!(Body::parse(body).unwrap_err().code, PARSE, "{body:?}");
    }
}

#[test]
fn a_batch_has_one_to_a_hundred_calls() {
    let batch = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    for count in [1, MAX_BATCH] {
        let text = batch(count);
        assert!(matches!(Body::parse(text.as_bytes()), Ok(Body::Batch(calls)) if calls.len() == count));
    }
    for (count, message) in [
        (0, "body: an empty batch, expected at least one call"),
        (MAX_BATCH + 1, "body: a longer batch, expected at most 100 calls"),
        (10_000, "body: a longer batch, expected at most 100 calls"),
    ] {
        let error = Body::parse(batch(count).as_bytes()).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (INVALID_REQUEST, message));
    }
    assert!(matches!(Body::parse(b" {}"), Ok(Body::Single("{}"))));
}

#[test]
fn ten_thousand_levels_are_read_without_a_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let text = format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "a", "params": [{deep}]}}"#);
        assert!(is_rpc(text.as_bytes()));
        let params = call(&text).params;
        assert_eq!(params.none().unwrap_err().field, "params[0]");
        let error = super::super::TransactionCall::read(params).unwrap_err();
        assert_eq!(RpcError::from(error).code, INVALID_PARAMS);
        refused(&format!(r#"{{"jsonrpc": "2.0", "id": {deep}, "method": "a"}}"#));
        refused(&deep);
    }
}

#[test]
fn parameters_come_by_position_or_by_name() {
    let slots = |params: &str| {
        let text = format!(r#"{{"jsonrpc": "2.0", "method": "a", "params": {params}}}"#);
        let slots = call(&text).params.read(["one", "two"]);
        slots.map(|slots| slots.map(|slot| slot.raw.map(|raw| raw.get().to_owned()))).map_err(|error| error.to_string())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(slots("[1, 2]"), Ok([some("1"), some("2")]));
    assert_eq!(slots(r#"{"two": 2, "one": 1}"#), Ok([some("1"), some("2")]));
    assert_eq!(slots("[1]"), Ok([some("1"), None]));
    assert_eq!(slots("[null, 2]"), Ok([None, some("2")]));
    assert_eq!(slots(r#"{"one": null}"#), Ok([None, None]));
    assert_eq!(slots("[1, 2, 3]"), Err("params[2]: one parameter too many, expected at most 2 (one, two)".to_owned()));
    assert_eq!(slots(r#"{"three": 3}"#), Err("params.three: unknown field, expected one of one, two".to_owned()));
    assert_eq!(slots(r#"{"one": 1, "one": 1}"#), Err("params.one: written twice, expected once".to_owned()));
}
