//! Any bytes behind a selector are the arguments of its function in their only encoding, or refused.
#![no_main]

use std::sync::LazyLock;

use ethereum::abi::Function;
use libfuzzer_sys::fuzz_target;

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    [
        "transfer(address to, uint256 amount)",
        "f(bytes a, string b, int8 c, bool d, bytes3 e)",
        "f(bytes[] a, uint8[2][] b, (address to, string[] names)[] c)",
    ]
    .map(|text| text.parse().unwrap())
    .into()
});

fuzz_target!(|bytes: &[u8]| {
    let Some((which, data)) = bytes.split_first() else { return };
    let function = &FUNCTIONS[usize::from(*which) % FUNCTIONS.len()];
    let calldata = [&function.selector[..], data].concat();
    if let Ok(values) = function.decode(&calldata) {
        assert_eq!(values.len(), function.parameters.len());
        // A shorter or longer one is none.
        assert!(function.decode(&calldata[..calldata.len() - 1]).is_err());
        assert!(function.decode(&[&calldata[..], &[0]].concat()).is_err());
    }
});
