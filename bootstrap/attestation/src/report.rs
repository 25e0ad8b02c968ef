//! A genuine document's claims, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Claims, Pcr, Printable};

/// A document's claims and the binding in its `user_data`. Times are in RFC 3339, bytes in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimsReport<B> {
    module_id: String,
    timestamp: String,
    /// Without PCRs of zeros.
    pcrs: BTreeMap<u8, String>,
    certificate_not_before: String,
    certificate_not_after: String,
    public_key: Option<String>,
    user_data: Option<String>,
    nonce: Option<String>,
    binding: Option<B>,
}

impl<B> ClaimsReport<B> {
    /// Reports `claims`. `binding` is what the caller has decoded from their `user_data`.
    #[must_use]
    pub fn new(claims: Claims, binding: Option<B>) -> Self {
        let is_measured = |(_, pcr): &(&u8, &Pcr)| !pcr.is_zero();
        Self {
            timestamp: rfc3339(claims.timestamp),
            pcrs: claims.pcrs.iter().filter(is_measured).map(|(index, pcr)| (*index, pcr.to_string())).collect(),
            certificate_not_before: rfc3339(claims.not_before),
            certificate_not_after: rfc3339(claims.not_after),
            public_key: claims.public_key.as_deref().map(const_hex::encode),
            user_data: claims.user_data.as_deref().map(const_hex::encode),
            nonce: claims.nonce.as_deref().map(const_hex::encode),
            binding,
            module_id: claims.module_id,
        }
    }

    /// The decoded `user_data`, if the caller knew its layout.
    #[must_use]
    pub fn binding(&self) -> Option<&B> {
        self.binding.as_ref()
    }
}

impl<B: Display> Display for ClaimsReport<B> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The hypervisor chooses the module's name. It is escaped like everything that a peer sends.
        writeln!(f, "module: {}", Printable(&self.module_id))?;
        writeln!(f, "created: {}", self.timestamp)?;
        let (from, to) = (&self.certificate_not_before, &self.certificate_not_after);
        writeln!(f, "signing certificate valid: {from} to {to}")?;
        for index in (0..=2).filter(|index| !self.pcrs.contains_key(index)) {
            writeln!(f, "PCR{index}: zero, as in debug mode")?;
        }
        for (index, pcr) in &self.pcrs {
            writeln!(f, "PCR{index}: {pcr}")?;
        }
        for (name, value) in [("public key", &self.public_key), ("user data", &self.user_data), ("nonce", &self.nonce)]
        {
            writeln!(f, "{name}: {}", value.as_deref().unwrap_or("(none)"))?;
        }
        match &self.binding {
            Some(binding) => binding.fmt(f),
            None => Ok(()),
        }
    }
}

/// A time in RFC 3339; in the debug format before 1970 and after 9999.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let nanoseconds = time.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|time| time.as_nanos().try_into().ok());
    let date = nanoseconds.and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time).ok());
    date.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{time:?}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claims() -> Claims {
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(1_723_012_992_231);
        Claims {
            module_id: "i-0\u{1b}[2J's".to_owned(),
            timestamp: made,
            pcrs: [(0, Pcr([1; 48])), (1, Pcr([0; 48])), (2, Pcr([2; 48])), (3, Pcr([0; 48]))].into(),
            public_key: None,
            user_data: Some(vec![0xab, 0x01]),
            nonce: Some(Vec::new()),
            not_before: made,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000),
        }
    }

    #[test]
    fn a_module_s_name_cannot_break_the_text() {
        let text = ClaimsReport::new(claims(), Some("binds nothing\n")).to_string();
        let expected = format!(
            "module: i-0\\u{{1b}}[2J's\ncreated: 2024-08-07T06:43:12.231Z\n\
             signing certificate valid: 2024-08-07T06:43:12.231Z to {:?}\n\
             PCR1: zero, as in debug mode\nPCR0: {}\nPCR2: {}\n\
             public key: (none)\nuser data: ab01\nnonce: \nbinds nothing\n",
            claims().not_after,
            "01".repeat(48),
            "02".repeat(48),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_json_has_the_same_claims() {
        let json = serde_json::to_value(ClaimsReport::new(claims(), None::<()>)).unwrap();
        assert_eq!(json["pcrs"], serde_json::json!({ "0": "01".repeat(48), "2": "02".repeat(48) }));
        assert_eq!(json["timestamp"], "2024-08-07T06:43:12.231Z");
        assert_eq!((&json["user_data"], &json["nonce"]), (&"ab01".into(), &"".into()));
        assert_eq!((&json["public_key"], &json["binding"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    }
}
