//! The addresses that answers have opened, until when, and why. Decisions without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::config::ListId;
use crate::dns::Reasons;

/// named counts whole seconds, and starts to count after wg-server.
const ROUNDING: Duration = Duration::from_secs(2);
/// From an enclave's question, just before the answer ends, to its first packet.
const CONNECT: Duration = Duration::from_mins(1);
/// Of both IP versions and all lists. Limits the kernel's memory, to some 4 MB.
pub(super) const MAX_ADDRESSES: usize = 16_384;
/// The kernel's clock and this one tick apart, and nft shows whole seconds.
const TOLERANCE: Duration = Duration::from_secs(5);

/// All open addresses.
#[derive(Debug, Default)]
pub(super) struct Opened {
    addresses: Entries,
}

/// An address that is open to the enclaves of a list.
pub(super) type Key = (ListId, IpAddr);
pub(super) type Entries = BTreeMap<Key, Entry>;

/// Why an address is open, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name on the list that resolved to it.
    pub(super) name: Arc<str>,
    pub(super) until: Instant,
}

/// An element of a set as nft shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) list: ListId,
    pub(super) address: IpAddr,
    /// `None`: it stays for ever.
    pub(super) expires: Option<Duration>,
    pub(super) comment: String,
}

impl Opened {
    /// What has to change in the kernel before these addresses may be known: those that are new, or would end too early.
    pub(super) fn missing(&self, reasons: &Reasons, addresses: &BTreeMap<IpAddr, Duration>, now: Instant) -> Entries {
        let mut missing = Entries::new();
        for (list, name) in reasons {
            for (address, ttl) in addresses {
                let (key, until) = ((list.clone(), *address), now + *ttl + ROUNDING + CONNECT);
                if self.addresses.get(&key).is_none_or(|known| known.until < until) {
                    missing.insert(key, Entry { name: Arc::clone(name), until });
                }
            }
        }
        missing
    }

    /// # Errors
    /// Too many are open.
    pub(super) fn ensure_room(&mut self, missing: &Entries, now: Instant) -> Result<()> {
        self.addresses.retain(|_, entry| entry.until > now);
        let new = missing.keys().filter(|key| !self.addresses.contains_key(key)).count();
        ensure!(self.addresses.len() + new <= MAX_ADDRESSES, "{MAX_ADDRESSES} addresses are open, the maximum");
        Ok(())
    }

    /// The kernel has them, or will have them together with its table.
    pub(super) fn extend(&mut self, entries: Entries) {
        self.addresses.extend(entries);
    }

    /// Takes over what an earlier wg-server has opened.
    pub(super) fn adopt(listed: Vec<Listed>, is_listed: impl Fn(&ListId, &str) -> bool, now: Instant) -> Self {
        let kept = listed.into_iter().filter(|element| is_listed(&element.list, &element.comment)).take(MAX_ADDRESSES);
        let entries = kept.filter_map(|Listed { list, address, expires, comment }| {
            Some(((list, address), Entry { name: comment.into(), until: now + expires? }))
        });
        Self { addresses: entries.collect() }
    }

    /// Those that are open now.
    pub(super) fn present(&self, now: Instant) -> impl Iterator<Item = (&Key, &Entry)> {
        self.addresses.iter().filter(move |(_, entry)| entry.until > now)
    }

    /// Whether the kernel has these, and no others, and lets none live longer.
    pub(super) fn are(&self, listed: &[Listed], now: Instant) -> bool {
        let is_known = |element: &Listed| {
            let Some(expires) = element.expires else { return false };
            let known = self.addresses.get(&(element.list.clone(), element.address));
            expires <= TOLERANCE || known.is_some_and(|known| now + expires <= known.until + TOLERANCE)
        };
        let keys: BTreeSet<(&ListId, IpAddr)> = listed.iter().map(|element| (&element.list, element.address)).collect();
        let lives_on = |entry: &Entry| entry.until > now + TOLERANCE;
        let has = |(list, address): &Key| keys.contains(&(list, *address));
        listed.iter().all(is_known) && self.present(now).all(|(key, entry)| !lives_on(entry) || has(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(62);

    fn addresses(ttls: &[(&str, u64)]) -> BTreeMap<IpAddr, Duration> {
        ttls.iter().map(|(address, ttl)| (address.parse().unwrap(), Duration::from_secs(*ttl))).collect()
    }

    fn every(name: &str) -> Reasons {
        Reasons::from([(ListId::Every, name.into())])
    }

    fn opened(ttls: &[(&str, u64)], now: Instant) -> Opened {
        let mut opened = Opened::default();
        opened.extend(opened.missing(&every("aws.com"), &addresses(ttls), now));
        opened
    }

    #[test]
    fn an_address_is_open_for_the_answer_s_life_and_a_minute_and_two_seconds() {
        let now = Instant::now();
        let opened = opened(&[("198.51.100.80", 60), ("2001:db8::80", 0)], now);
        let at = |later| opened.present(now + later).map(|((_, address), _)| address.to_string()).collect::<Vec<_>>();
        assert_eq!(at(MARGIN - Duration::from_millis(1)), ["198.51.100.80", "2001:db8::80"]);
        assert_eq!(at(MARGIN), ["198.51.100.80"]);
        assert_eq!(at(MARGIN + Duration::from_secs(60)), [""; 0]);
    }

    #[test]
    fn a_known_address_is_extended_and_never_shortened() {
        let now = Instant::now();
        let opened = opened(&[("198.51.100.80", 60)], now);
        let missing = |ttl, later| {
            let ttls = addresses(&[("198.51.100.80", ttl)]);
            opened.missing(&every("alias.example"), &ttls, now + Duration::from_secs(later)).len()
        };
        assert_eq!(missing(60, 0), 0);
        // A resolver's cache counts down.
        assert_eq!(missing(50, 10), 0);
        assert_eq!(missing(5, 10), 0);
        assert_eq!(missing(51, 10), 1);
        assert_eq!(missing(0, 61), 1);
    }

    #[test]
    fn more_addresses_than_the_sets_hold_are_refused_until_some_have_ended() {
        let now = Instant::now();
        let many: BTreeMap<IpAddr, Duration> = (0..u32::try_from(MAX_ADDRESSES).unwrap())
            .map(|at| (std::net::Ipv4Addr::from(0x0b00_0000 + at).into(), Duration::ZERO))
            .collect();
        let mut opened = Opened::default();
        let missing = opened.missing(&every("aws.com"), &many, now);
        opened.ensure_room(&missing, now).unwrap();
        opened.extend(missing);
        // Extending one takes no room.
        let again = opened.missing(&every("aws.com"), &addresses(&[("11.0.0.1", 60)]), now);
        opened.ensure_room(&again, now).unwrap();
        let more = opened.missing(&every("aws.com"), &addresses(&[("198.51.100.80", 60)]), now);
        let error = opened.ensure_room(&more, now).unwrap_err().to_string();
        assert_eq!(error, "16384 addresses are open, the maximum");
        opened.ensure_room(&more, now + MARGIN).unwrap();
        assert_eq!(opened.addresses.len(), 0);
    }

    fn listed(address: &str, expires: Option<u64>) -> Listed {
        let comment = "aws.com".to_owned();
        let (list, address) = (ListId::Every, address.parse().unwrap());
        Listed { list, address, expires: expires.map(Duration::from_secs), comment }
    }

    #[test]
    fn an_address_is_open_to_the_enclaves_of_each_list_for_a_reason_and_a_time_of_its_own() {
        let (now, billing) = (Instant::now(), ListId::Some(crate::config::lists::name("billing")));
        let mut opened = opened(&[("198.51.100.80", 60)], now);
        let both = [(ListId::Every, "aws.com".into()), (billing.clone(), "b.example".into())].into();
        let missing = opened.missing(&both, &addresses(&[("198.51.100.80", 60)]), now);
        assert_eq!(missing.keys().cloned().collect::<Vec<_>>(), [(billing.clone(), "198.51.100.80".parse().unwrap())]);
        let mut of_list = listed("198.51.100.80", Some(122));
        let of_every = of_list.clone();
        of_list.list = billing;
        assert!(!opened.are(&[of_list.clone(), of_every.clone()], now), "an element in another list's set");
        opened.extend(missing);
        assert!(opened.are(&[of_list, of_every.clone()], now));
        assert!(!opened.are(&[of_every.clone(), of_every], now), "in one set only");
        assert_eq!(opened.present(now).map(|(_, entry)| &*entry.name).collect::<Vec<_>>(), ["aws.com", "b.example"]);
    }

    #[test]
    fn an_element_that_somebody_added_removed_or_made_to_stay_is_noticed() {
        let now = Instant::now();
        let opened = opened(&[("198.51.100.80", 60), ("198.51.100.81", 60)], now);
        let [first, second] = ["198.51.100.80", "198.51.100.81"];
        assert!(opened.are(&[listed(first, Some(121)), listed(second, Some(122))], now));
        assert!(!opened.are(&[listed(first, Some(121))], now), "removed");
        assert!(!opened.are(&[listed(first, None), listed(second, Some(122))], now), "for ever");
        assert!(!opened.are(&[listed(first, Some(200)), listed(second, Some(122))], now), "for longer");
        let added = [listed(first, Some(121)), listed(second, Some(122)), listed("198.51.100.66", Some(60))];
        assert!(!opened.are(&added, now), "added");
        // Those that are about to end may be there or not.
        let later = now + Duration::from_secs(119);
        assert!(opened.are(&[], later) && opened.are(&[listed(first, Some(3))], later));
    }

    #[test]
    fn what_an_earlier_wg_server_opened_stays_open_if_its_name_is_still_on_the_list() {
        let now = Instant::now();
        let mut off_list = listed("198.51.100.66", Some(60));
        off_list.comment = "evil.test".to_owned();
        let elements = vec![listed("198.51.100.80", Some(60)), off_list, listed("198.51.100.81", None)];
        let opened = Opened::adopt(elements, |_, name| name == "aws.com", now);
        let present: Vec<_> =
            opened.present(now).map(|((_, address), entry)| (address.to_string(), entry.clone())).collect();
        let until = now + Duration::from_secs(60);
        assert_eq!(present, [("198.51.100.80".to_owned(), Entry { name: "aws.com".into(), until })]);
    }
}
