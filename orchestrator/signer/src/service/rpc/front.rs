//! The paths.

use ethereum::transaction::MAX_CHAIN_ID;
use signer_api::path;

/// Where a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Front {
    /// None: the path names none.
    pub(in crate::service) chain: Option<u64>,
    /// Whether transactions are answered as geth answers them.
    pub(in crate::service) is_geth: bool,
}

impl Front {
    pub(in crate::service) const ROOT: Self = Self { chain: None, is_geth: false };

    /// Of a path that is for JSON-RPC alone, with a slash behind it or not.
    pub(in crate::service) fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == path::GETH {
            return Some(Self { chain: None, is_geth: true });
        }
        let rest = path.strip_prefix(path::CHAIN)?.strip_prefix('/')?;
        let (digits, is_geth) = match rest.strip_suffix(path::GETH) {
            Some(digits) => (digits, true),
            None => (rest, false),
        };
        // No sign and no zeros in front: each chain has one path.
        let chain = digits.parse().ok().filter(|chain: &u64| chain.to_string() == digits)?;
        (1..=MAX_CHAIN_ID).contains(&chain).then_some(Self { chain: Some(chain), is_geth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_chain_and_a_form() {
        let front = |chain, is_geth| Some(Front { chain, is_geth });
        assert_eq!(Front::of("/geth"), front(None, true));
        assert_eq!(Front::of("/chain/8453"), front(Some(8453), false));
        assert_eq!(Front::of("/chain/1/geth"), front(Some(1), true));
        assert_eq!(Front::of("/geth/"), Front::of("/geth"));
        assert_eq!(Front::of("/chain/1/"), Front::of("/chain/1"));
        for other in [
            "/",
            "/geth//",
            "/chain",
            "/chain/",
            "/chain/0",
            "/chain/01",
            "/chain/+1",
            "/chain/1//",
            "/chain/1/x",
            "/chain/x",
            "/chain//geth",
            "/chain/1geth",
            "/chain/18446744073709551615",
            "/chains/1",
        ] {
            assert_eq!(Front::of(other), None, "{other}");
        }
    }
}
