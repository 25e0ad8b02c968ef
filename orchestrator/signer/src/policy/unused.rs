//! Rules that can never be of use, which `orchestrator --check` warns of.

use super::windows::Limit;
use super::{Allowed, Rules};

impl Rules {
    /// A sentence for each, where the rules at `path` are not those of `base`.
    pub(super) fn unused(&self, path: &str, base: Option<&Self>) -> Vec<String> {
        let is_its_own = base.is_none_or(|base| {
            (&self.calls, &self.windows, &self.recipients) != (&base.calls, &base.windows, &base.recipients)
        });
        if !is_its_own {
            return Vec::new();
        }
        [self.unreachable_contracts(path), self.windows_without_payments(path)].concat()
    }

    fn unreachable_contracts(&self, path: &str) -> Vec<String> {
        let Allowed::Only(recipients) = &self.recipients else { return Vec::new() };
        let unreachable = self.calls.contracts().filter(|contract| !recipients.contains(contract));
        let warning = |contract| {
            format!(
                "{path}.calls.{contract}: no transaction may be to this contract; expected its address in {path}.recipients"
            )
        };
        unreachable.map(warning).collect()
    }

    fn windows_without_payments(&self, path: &str) -> Vec<String> {
        if self.calls.pay() || self.typed_data.as_ref().is_none_or(super::typed_data::Messages::pay) {
            return Vec::new();
        }
        let windows = self.windows.iter().enumerate().filter(|(_, window)| matches!(window.limit, Limit::Token { .. }));
        let warning = |at| {
            format!(
                "{path}.windows[{at}].token: no rule declares a payment, so nothing counts; expected is_payment = true in {path}.calls"
            )
        };
        windows.map(|(at, _)| warning(at)).collect()
    }
}
