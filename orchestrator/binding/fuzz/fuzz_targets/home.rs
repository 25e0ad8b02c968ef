//! Any bytes are refused, or are a binding that is written back as it was.
#![no_main]

use binding::home::Binding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(binding) = Binding::decode(bytes) {
        assert_eq!(binding.encode(), bytes);
    }
});
