use alloy_primitives::{I256, U256};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TO: Address = Address([7; 20]);

fn function(text: &str) -> Function {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    text.parse::<Function>().expect_err(text).to_string()
}

fn word(number: u64) -> Vec<u8> {
    U256::from(number).to_be_bytes_vec()
}

/// Calldata of words.
fn call(function: &Function, words: &[Vec<u8>]) -> Vec<u8> {
    [&function.selector[..], &words.concat()].concat()
}

fn uint(number: u64) -> Value {
    Value::Uint(Uint::from(u128::from(number)))
}

#[test]
fn a_function_has_the_selector_that_contracts_give_it() {
    for (text, signature, selector) in [
        ("transfer(address to, uint256 amount)", "transfer(address,uint256)", [0xa9, 0x05, 0x9c, 0xbb]),
        ("approve( address spender,uint amount )", "approve(address,uint256)", [0x09, 0x5e, 0xa7, 0xb3]),
        (
            "transferFrom(address from, address to, uint256 amount)",
            "transferFrom(address,address,uint256)",
            [0x23, 0xb8, 0x72, 0xdd],
        ),
        ("pause()", "pause()", [0x84, 0x56, 0xcb, 0x59]),
        ("multicall(bytes[] calldata data)", "multicall(bytes[])", [0xac, 0x96, 0x50, 0xd8]),
        ("f((uint8 a) b)", "f((uint8))", [0x6d, 0x79, 0xc9, 0x8d]),
        (
            "exactInputSingle((address tokenIn, address tokenOut, uint24 fee, address recipient, uint256 deadline, uint256 amountIn, \
             uint256 amountOutMinimum, uint160 sqrtPriceLimitX96) params)",
            "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
            [0x41, 0x4b, 0xf3, 0x89],
        ),
    ] {
        let function = function(text);
        assert_eq!((function.signature.as_str(), function.selector), (signature, selector), "{text}");
    }
    let Type::Tuple(fields) = &function("f((uint8 a, int16[2][] b)[3] c)").parameters[0].ty.clone().element() else {
        panic!()
    };
    assert_eq!((fields[0].name.as_str(), fields[1].ty.to_string().as_str()), ("a", "int16[2][]"));
}

impl Type {
    fn element(self) -> Self {
        let Self::Array(element, _) = self else { panic!("{self}") };
        *element
    }
}

#[test]
fn a_struct_has_the_fields_of_the_types_that_it_is_made_of() {
    let permit = "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)PermitDetails(address token,uint160 amount)";
    let read: StructType = permit.parse().unwrap();
    assert_eq!((read.name.as_str(), read.description.as_str()), ("PermitSingle", permit));
    let names: Vec<_> = read.fields.iter().map(|field| (field.name.as_str(), field.ty.to_string())).collect();
    let expected = [("details", "(address,uint160)"), ("spender", "address"), ("sigDeadline", "uint256")];
    assert_eq!(names, expected.map(|(name, ty)| (name, ty.to_owned())));
    let list: StructType = "A(B[] b)B(uint8 n)".parse().unwrap();
    assert_eq!(list.fields[0].ty.to_string(), "(uint8)[]");
    for (text, expected) in [
        ("", "unexpected `end`"),
        ("A", "unexpected `A`"),
        ("A(B b)", "`B` is not a type"),
        ("A(uint8 a)A(uint8 b)", "the name `A`"),
        ("A(uint8)", "the uint8 without a name"),
        ("A(uint8 a", "unexpected `A(uint8 a`"),
        // A type that contains itself ends at the depth that others may have.
        ("A(A a)", "more than 6 arrays"),
    ] {
        let error = text.parse::<StructType>().expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_no_function_is_refused_and_says_why() {
    for (text, expected) in [
        ("", "unexpected `end`"),
        ("transfer", "unexpected `end`"),
        ("(address to)", "unexpected `(address to)`"),
        ("1f()", "unexpected `1f()`"),
        ("f(address to", "unexpected `end`"),
        ("f(address to,)", "unexpected `)`"),
        ("f(address to) returns (bool)", "unexpected ` returns (bool)`"),
        ("f(address to uint256 b)", "unexpected `uint256 b)`"),
        ("f(address[01] to)", "unexpected `01] to)`"),
        ("f(address[0] to)", "unexpected `0] to)`"),
        ("f(address[-1] to)", "unexpected `-1] to)`"),
        ("f(address[ to)", "unexpected ` to)`"),
        ("f(address)", "the address without a name"),
        ("f((uint8) a)", "the uint8 without a name"),
        ("f(uint7 a)", "`uint7` is not a type"),
        ("f(uint264 a)", "`uint264` is not a type"),
        ("f(bytes33 a)", "`bytes33` is not a type"),
        ("f(Token a)", "`Token` is not a type"),
        ("f(function a)", "`function` is not a type"),
        ("f(() a)", "`()` is not a type"),
        ("f(uint8 a, uint8 a)", "two arguments have the name `a`"),
        ("f(uint8[][][][][][][] a)", "more than 6 arrays"),
        ("f((((((((uint8 a) a) a) a) a) a) a) a)", "more than 6 arrays"),
        ("f(uint8[4097] a)", "at least 4097 words"),
        ("f(uint8[4294967296][4294967296] a)", "words of 32 bytes"),
    ] {
        assert!(refused(text).contains(expected), "{text}: {}", refused(text));
    }
    let deep = format!("f({}", "(".repeat(100_000));
    assert!(refused(&deep).contains("more than 6"), "a deep nest overflows the stack");
}

#[test]
fn arguments_are_read_by_their_types() {
    let transfer = function("transfer(address to, uint256 amount)");
    let to = [vec![0; 12], TO.0.to_vec()].concat();
    assert_eq!(transfer.decode(&call(&transfer, &[to, word(1000)])), Ok(vec![Value::Address(TO), uint(1000)]));
    let all = function("f(bool a, int16 b, bytes3 c, string d, bytes e, uint8[] f, uint8[2] g, (uint8 x, string y) h)");
    let minus_one = vec![0xff; 32];
    let text = |text: &[u8]| [word(text.len() as u64), [text, &vec![0; 32 - text.len()]].concat()].concat();
    let head = [
        word(1),
        minus_one,
        [b"abc".to_vec(), vec![0; 29]].concat(),
        word(288),
        word(352),
        word(416),
        word(7),
        word(8),
        word(512),
    ];
    let tail =
        [text(b"hey"), text(&[9]), [word(2), word(1), word(2)].concat(), [word(5), word(64), text(b"z")].concat()];
    let calldata = call(&all, &[head.to_vec(), tail.to_vec()].concat());
    let read = all.decode(&calldata).unwrap();
    assert_eq!(
        read[..3],
        [Value::Bool(true), Value::Int(Int::from_decimal("-1").unwrap()), Value::Bytes(b"abc".to_vec())]
    );
    assert_eq!(read[3..5], [Value::String("hey".to_owned()), Value::Bytes(vec![9])]);
    assert_eq!(read[5..7], [Value::List(vec![uint(1), uint(2)]), Value::List(vec![uint(7), uint(8)])]);
    assert_eq!(read[7], Value::List(vec![uint(5), Value::String("z".to_owned())]));
}

#[test]
fn data_that_is_short_long_or_anothers_is_refused() {
    let transfer = function("transfer(address to, uint256 amount)");
    let good = call(&transfer, &[word(7), word(1000)]);
    assert!(transfer.decode(&good).is_ok());
    for len in 4..good.len() {
        assert_eq!(transfer.decode(&good[..len]), Err(DecodeError::Layout), "{len}");
    }
    for len in 0..4 {
        assert_eq!(transfer.decode(&good[..len]), Err(DecodeError::Selector), "{len}");
    }
    for more in [1, 31, 32, 64] {
        assert_eq!(transfer.decode(&[good.clone(), vec![0; more]].concat()), Err(DecodeError::Layout), "{more}");
    }
    let pause = function("pause()");
    assert_eq!(pause.decode(&pause.selector), Ok(vec![]));
    assert_eq!(pause.decode(&call(&pause, &[word(0)])), Err(DecodeError::Layout));
    assert_eq!(pause.decode(&good), Err(DecodeError::Selector));
}

#[test]
fn bits_that_a_type_does_not_have_are_refused() {
    let one = |ty: &str, word: Vec<u8>| {
        let function = function(&format!("f({ty} a)"));
        function.decode(&call(&function, &[word]))
    };
    let with = |at: usize, byte: u8| {
        let mut word = vec![0; 32];
        word[at] = byte;
        word
    };
    let dirty = Err(DecodeError::Bits);
    for (ty, word) in [
        ("address", with(11, 1)),
        ("bool", with(31, 2)),
        ("bool", with(0, 1)),
        ("uint8", with(30, 1)),
        ("uint248", with(0, 1)),
        ("int8", with(31, 0x80)),
        ("int8", with(30, 1)),
        ("bytes3", with(3, 1)),
        ("bytes31", with(31, 1)),
    ] {
        assert_eq!(one(ty, word), dirty, "{ty}");
    }
    assert_eq!(one("uint8", word(255)), Ok(vec![uint(255)]));
    let text = function("f(string a)");
    assert_eq!(text.decode(&call(&text, &[word(32), word(1), with(0, 0xff)])), dirty);
    assert_eq!(text.decode(&call(&text, &[word(32), word(1), with(1, b'a')])), dirty);
}

#[test]
fn offsets_and_lengths_that_no_encoder_writes_are_refused() {
    let two = function("f(bytes a, bytes b)");
    let text = [word(1), vec![1; 1], vec![0; 31]].concat();
    let at = |a: u64, b: u64, tail: &[Vec<u8>]| two.decode(&call(&two, &[&[word(a), word(b)], tail].concat()));
    assert!(at(64, 128, &[text.clone(), text.clone()]).is_ok());
    let layout = Err(DecodeError::Layout);
    // Both at one place, swapped, with a gap, into the head, and far away.
    assert_eq!(at(64, 64, std::slice::from_ref(&text)), layout);
    assert_eq!(at(128, 64, &[text.clone(), text.clone()]), layout);
    assert_eq!(at(64, 160, &[text.clone(), word(0), text.clone()]), layout);
    assert_eq!(at(0, 64, std::slice::from_ref(&text)), layout);
    assert_eq!(at(64, u64::MAX, &[text.clone(), text.clone()]), layout);
    let list = function("f(uint256[] a)");
    for (len, words) in [(2, 1), (1, 2), (u64::MAX, 1)] {
        let elements: Vec<u8> = (0..words).flat_map(word).collect();
        assert_eq!(list.decode(&call(&list, &[word(32), word(len), elements])), layout, "{len}");
    }
    let huge = [vec![1; 24], vec![0; 7], vec![1]].concat();
    assert_eq!(list.decode(&call(&list, &[word(32), huge, word(1)])), layout);
}

/// alloy refuses them as well, so that a call does not show it.
#[test]
fn a_number_of_more_than_64_bits_is_no_offset_and_no_length() {
    let huge = |number: u8| [vec![1; 24], vec![0; 7], vec![number]].concat();
    let list = [Type::Array(Box::new(Type::Bool), None)];
    let len = |words: [Vec<u8>; 3]| layout::len(list.iter(), &words.concat());
    assert_eq!(len([word(32), word(1), word(1)]), Some(96));
    assert_eq!(len([huge(32), word(1), word(1)]), None);
    assert_eq!(len([word(32), huge(1), word(1)]), None);
}

/// Each of 60 lists of 60 lists points to the same: 60^4 elements in 8 KB, if it were read.
#[test]
fn data_that_points_to_itself_again_and_again_is_not_read() {
    let nested = function("f(uint256[][][][] a)");
    let level = |offset: u64| [vec![word(60)], vec![word(offset); 60]].concat().concat();
    let last = [vec![word(60)], vec![word(1); 60]].concat().concat();
    let calldata = call(&nested, &[word(32), level(60 * 32), level(60 * 32), level(60 * 32), last]);
    assert_eq!(nested.decode(&calldata), Err(DecodeError::Layout));
}

/// A type, and a value of it as alloy has them.
fn typed() -> impl Strategy<Value = (String, DynSolValue)> {
    let bits = (1..=32_usize).prop_map(|bytes| bytes * 8);
    let leaf = prop_oneof![
        any::<[u8; 20]>().prop_map(|address| ("address".to_owned(), DynSolValue::Address(address.into()))),
        any::<bool>().prop_map(|is_true| ("bool".to_owned(), DynSolValue::Bool(is_true))),
        (bits.clone(), any::<[u8; 32]>()).prop_map(|(bits, bytes)| {
            let number = U256::from_be_bytes(bytes) >> (256 - bits);
            (format!("uint{bits}"), DynSolValue::Uint(number, bits))
        }),
        (bits, any::<[u8; 32]>()).prop_map(|(bits, bytes)| {
            let number = I256::from_raw(U256::from_be_bytes(bytes)).asr(256 - bits);
            (format!("int{bits}"), DynSolValue::Int(number, bits))
        }),
        (1..=32_usize, any::<[u8; 32]>()).prop_map(|(len, mut bytes)| {
            bytes[len..].fill(0);
            (format!("bytes{len}"), DynSolValue::FixedBytes(bytes.into(), len))
        }),
        vec(any::<u8>(), 0..70).prop_map(|bytes| ("bytes".to_owned(), DynSolValue::Bytes(bytes))),
        ".{0,40}".prop_map(|text| ("string".to_owned(), DynSolValue::String(text))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0..3_usize)
                .prop_map(|((ty, value), len)| (format!("{ty}[]"), DynSolValue::Array(vec![value; len]))),
            (inner.clone(), 1..3_usize)
                .prop_map(|((ty, value), len)| (format!("{ty}[{len}]"), DynSolValue::FixedArray(vec![value; len]))),
            vec(inner, 1..3).prop_map(|fields| {
                let types: Vec<String> = fields.iter().enumerate().map(|(at, (ty, _))| format!("{ty} f{at}")).collect();
                (
                    format!("({})", types.join(", ")),
                    DynSolValue::Tuple(fields.into_iter().map(|(_, value)| value).collect()),
                )
            }),
        ]
    })
}

proptest! {
    /// Another implementation writes; one changed byte is never read as the same, nor is one more or less.
    #[test]
    fn what_an_encoder_writes_is_read_and_a_changed_byte_is_another_value_or_none(
        (ty, value) in typed(), at in any::<prop::sample::Index>(), change in 1..=255_u8,
    ) {
        let function = function(&format!("f(uint8 first, {ty} a)"));
        let arguments = DynSolValue::Tuple(vec![DynSolValue::Uint(U256::from(7), 8), value]).abi_encode_params();
        let good = [&function.selector[..], &arguments].concat();
        let read = function.decode(&good).unwrap();
        prop_assert_eq!(&read[0], &uint(7));
        let mut changed = good.clone();
        changed[4 + at.index(arguments.len())] ^= change;
        if let Ok(other) = function.decode(&changed) {
            prop_assert_ne!(other, read);
        }
        prop_assert!(function.decode(&good[..good.len() - 1]).is_err());
        prop_assert!(function.decode(&[&good[..], &[0; 32]].concat()).is_err());
    }

    #[test]
    fn no_bytes_panic(ty in typed(), data in vec(prop_oneof![Just(0_u8), Just(32), any::<u8>()], 0..400)) {
        let function = function(&format!("f({} a)", ty.0));
        drop(function.decode(&[&function.selector[..], &data].concat()));
    }
}
