//! Arbitrary text gives an error with a text, or three registers that survive a round trip.
#![no_main]

use attestation::{Measurements, Pcr};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Measurements::parse(text) {
        Ok(Measurements { pcr0, pcr1, pcr2, others }) => {
            for pcr in [pcr0, pcr1, pcr2].into_iter().chain(others.values().copied()) {
                assert!(!pcr.is_zero());
                assert_eq!(pcr.to_string().parse(), Ok(pcr));
            }
            let written = format!(r#"{{"PCR0": "{pcr0}", "PCR1": "{pcr1}", "PCR2": "{pcr2}"}}"#);
            assert_eq!(Measurements::parse(&written).unwrap(), Measurements::new(pcr0, pcr1, pcr2));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(pcr) = text.parse::<Pcr>() {
        assert_eq!(pcr.to_string(), text.to_ascii_lowercase());
    }
});
