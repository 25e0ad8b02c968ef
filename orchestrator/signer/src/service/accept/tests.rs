use proptest::prelude::*;

use super::*;

fn prefers(fields: &[&str]) -> bool {
    prefers_cbor(fields.iter().map(|field| field.as_bytes()))
}

#[test]
fn cbor_is_for_whoever_names_it_with_the_highest_weight() {
    for accept in [
        "application/cbor",
        "application/cbor, */*",
        "application/cbor;q=1, */*",
        "application/cbor; q=1.000 , */*;q=0.8",
        "APPLICATION/CBOR",
        "application/CBOR;Q=0.9\t,\tapplication/json;q=0.89",
        "*/*, application/cbor",
        "application/*, application/cbor",
        "application/cbor;q=0.5, */*;q=0.5",
        "application/cbor, application/json",
        "application/json;q=0.9, application/cbor",
        "application/json;q=0, */*",
        "application/json;q=0, application/*;q=0.001",
        "text/html, application/cbor;q=0.1",
        ", ,application/cbor,,",
        "application/cbor;q=0.3;level=1;old, application/json;q=0.2",
        "application/cbor;note=\"a, b;q=0\"",
        "nonsense, application/cbor",
        "application/cbor;q=0, application/cbor;q=0.5, text/*",
    ] {
        assert!(prefers(&[accept]), "{accept}");
    }
    assert!(prefers(&["text/html", "application/cbor"]), "the second of two fields");
    assert!(prefers(&["application/json;q=0.5", "", "*/*;q=0.1, application/cbor;q=0.6"]));
}

#[test]
fn json_is_for_everybody_else() {
    for accept in [
        "",
        "*/*",
        "application/*",
        "application/json",
        "application/json, application/cbor",
        "application/json, */*",
        "application/cbor;q=0",
        "application/cbor;q=0, */*",
        "application/cbor;q=0.5, */*;q=0.9",
        "application/cbor;q=0.5, application/json",
        "application/*;q=0.5, */*",
        "text/html, image/*;q=0.8, */*;q=0.5",
        "text/html",
        // None of these is an element of the grammar.
        "application/cbor;q=1.5",
        "application/cbor;q=0.1234",
        "application/cbor;q=",
        "application/cbor;q=1.001",
        "application/cbor;q=-1",
        "application/cbor;q=.5",
        "application /cbor",
        "*/cbor",
        "application/cbor/x",
        "cbor",
        "\"application/cbor\"",
    ] {
        assert!(!prefers(&[accept]), "{accept}");
    }
    assert!(!prefers(&[]));
    assert!(!prefers(&["application/cbor;q=0.2", "application/json"]));
}

/// An element, as a client may mean it.
#[derive(Clone, Debug)]
struct Wish {
    main: &'static str,
    sub: &'static str,
    weight: u16,
}

fn wish() -> impl Strategy<Value = Wish> {
    let kind = prop::sample::select(vec![
        ("application", "cbor"),
        ("application", "json"),
        ("application", "*"),
        ("*", "*"),
        ("text", "*"),
        ("text", "cbor"),
        ("application", "cose"),
    ]);
    let weight = prop_oneof![Just(0), Just(1000), 0..=1000_u16];
    (kind, weight).prop_map(|((main, sub), weight)| Wish { main, sub, weight })
}

/// How an element may be written.
#[derive(Clone, Debug)]
struct Spelling {
    is_upper: bool,
    space: &'static str,
    parameter: &'static str,
    trailing: &'static str,
    leaves_one_out: bool,
    starts_field: bool,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    let space = prop::sample::select(vec!["", " ", "\t", "  \t "]);
    let parameter = prop::sample::select(vec!["", ";charset=utf-8", "; a=\"x,;\\\"q=0\"", ";v=1 ;w=2"]);
    let trailing = prop::sample::select(vec!["", ",", ", ,\t"]);
    let all = (any::<bool>(), space, parameter, trailing, any::<bool>(), any::<bool>());
    all.prop_map(|(is_upper, space, parameter, trailing, leaves_one_out, starts_field)| Spelling {
        is_upper,
        space,
        parameter,
        trailing,
        leaves_one_out,
        starts_field,
    })
}

fn spell(wish: &Wish, spelling: &Spelling) -> String {
    let Spelling { space, parameter, trailing, .. } = spelling;
    let q = if spelling.is_upper { "Q" } else { "q" };
    let digits = format!("{}.{:03}", wish.weight / 1000, wish.weight % 1000);
    let digits = if spelling.leaves_one_out { digits.trim_end_matches('0') } else { &digits };
    let weight = match wish.weight {
        1000 if spelling.leaves_one_out => String::new(),
        _ => format!("{space};{space}{q}={digits}"),
    };
    let range = format!("{}/{}", wish.main, wish.sub);
    let range = if spelling.is_upper { range.to_ascii_uppercase() } else { range };
    format!("{space}{range}{parameter}{weight}{space}{trailing}")
}

/// The specification, read word by word: the weight that the most specific ranges give a form, and how specific they are.
fn meant(wishes: &[Wish], sub: &str) -> (u16, usize, usize) {
    let kinds = [("application", sub), ("application", "*"), ("*", "*")];
    for (specificity, kind) in (1..=3).rev().zip(kinds) {
        let weights = wishes.iter().filter(|wish| (wish.main, wish.sub) == kind).map(|wish| wish.weight);
        if let Some(weight) = weights.max() {
            let at = wishes.iter().position(|wish| (wish.main, wish.sub) == kind && wish.weight == weight);
            return (weight, specificity, at.unwrap());
        }
    }
    (0, 0, 0)
}

proptest! {
    #[test]
    fn whatever_a_client_means_is_understood_however_it_is_written(
        written in prop::collection::vec((wish(), spelling()), 0..6)
    ) {
        let wishes: Vec<_> = written.iter().map(|(wish, _)| wish.clone()).collect();
        let mut fields = vec![String::new()];
        for (wish, spelling) in &written {
            if spelling.starts_field {
                fields.push(String::new());
            }
            let field = fields.last_mut().unwrap();
            let comma = if field.is_empty() { "" } else { "," };
            field.push_str(comma);
            field.push_str(&spell(wish, spelling));
        }
        let (json, cbor) = (meant(&wishes, "json"), meant(&wishes, "cbor"));
        let expected = cbor.0 > 0
            && (cbor.0 > json.0 || cbor.0 == json.0 && (cbor.1 > json.1 || cbor.1 == json.1 && cbor.2 < json.2));
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        prop_assert_eq!(prefers(&fields), expected, "{:?}", fields);
    }

    #[test]
    fn no_bytes_are_too_strange(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..4)) {
        let capitals: Vec<_> = fields.iter().map(|field| field.to_ascii_uppercase()).collect();
        let prefers = prefers_cbor(fields.iter().map(Vec::as_slice));
        prop_assert_eq!(prefers, prefers_cbor(capitals.iter().map(Vec::as_slice)));
    }

    #[test]
    fn nothing_near_the_grammar_is_too_strange(field in "[a*/;,=q\"\\\\ .01]{0,40}") {
        prefers(&[&field]);
    }
}
