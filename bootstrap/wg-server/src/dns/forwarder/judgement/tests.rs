use hickory_proto::op::{MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::svcb::{IpHint, SvcParamKey};
use hickory_proto::rr::rdata::{A, AAAA, NS, NULL};
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::dns::forwarder::question::Received;

const LAB: &str = include_str!("../../../../tests/parent.toml");

fn judge() -> Judge {
    let config = Config::parse(&LAB.replacen("\"169.254.169.254:80\"", "\"10.1.0.0/16:443\"", 1)).unwrap();
    Judge::new(Special::new(&config.wireguard.addresses), config.egress)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(of: &str, kind: RecordType) -> Question {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(of), kind));
    match Question::parse(&message.to_vec().unwrap()) {
        Some(Received::Question(question)) => question,
        other => panic!("{other:?}"),
    }
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, address: &str) -> Record {
    record(owner, ttl, RData::A(A(address.parse().unwrap())))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(target))))
}

fn every() -> Reasons {
    Reasons::from([(ListId::Every, "aws.com".into())])
}

fn judged(of: &str, records: Vec<Record>) -> Result<Judged> {
    let mut answer = Message::response(9, OpCode::Query);
    answer.insert_answers(records);
    judge().judge(&question(of, RecordType::A), answer, &every())
}

fn addresses(judged: &Judged) -> Vec<(String, u64)> {
    judged.addresses.iter().map(|(address, ttl)| (address.to_string(), ttl.as_secs())).collect()
}

fn seconds(address: &str, ttl: u64) -> (String, u64) {
    (address.to_owned(), ttl)
}

#[test]
fn times_to_live_are_at_most_five_minutes_and_huge_ones_are_zero() {
    for (ttl, expected) in
        [(0, 0), (60, 60), (300, 300), (301, 300), (0x7fff_ffff, 300), (0x8000_0000, 0), (u32::MAX, 0)]
    {
        let judged = judged("aws.com.", vec![a("AWS.com.", ttl, "198.51.100.80")]).unwrap();
        assert_eq!(addresses(&judged), [seconds("198.51.100.80", expected)], "{ttl}");
        assert_eq!(u64::from(judged.answer.answers[0].ttl), expected, "{ttl}");
    }
}

#[test]
fn an_address_with_two_times_to_live_has_the_longer_one() {
    let twice =
        vec![a("aws.com.", 10, "198.51.100.80"), a("aws.com.", 60, "198.51.100.80"), a("aws.com.", 5, "198.51.100.81")];
    let judged = judged("aws.com.", twice).unwrap();
    assert_eq!(addresses(&judged), [seconds("198.51.100.80", 60), seconds("198.51.100.81", 5)]);
}

#[test]
fn the_addresses_behind_aliases_count_and_those_of_other_names_are_taken_out() {
    let judged = judged(
        "a.example.",
        vec![
            a("c.example.", 5, "198.51.100.80"),
            a("other.example.", 5, "198.51.100.66"),
            alias("b.example.", 20, "c.example."),
            alias("a.example.", 10, "b.example."),
        ],
    )
    .unwrap();
    assert_eq!(addresses(&judged), [seconds("198.51.100.80", 5)]);
    let targets: Vec<(String, u64)> =
        judged.targets.iter().map(|(name, ttl)| (name.to_ascii(), ttl.as_secs())).collect();
    assert_eq!(targets, [seconds("b.example.", 10), seconds("c.example.", 20)]);
    assert_eq!(judged.answer.answers.len(), 3, "{}", judged.answer);
}

#[test]
fn additional_records_and_addresses_of_authorities_are_taken_out() {
    let mut answer = Message::response(9, OpCode::Query);
    answer.add_answer(a("aws.com.", 5, "198.51.100.80"));
    answer.add_authority(record("aws.com.", 86_400, RData::NS(NS(name("ns.aws.com.")))));
    answer.add_authority(a("aws.com.", 5, "198.51.100.66"));
    answer.add_additional(a("aws.com.", 5, "198.51.100.66"));
    let judged = judge().judge(&question("aws.com.", RecordType::A), answer, &every()).unwrap();
    assert_eq!(addresses(&judged), [seconds("198.51.100.80", 5)]);
    assert_eq!((judged.answer.authorities.len(), judged.answer.authorities[0].ttl), (1, 300));
    assert!(judged.answer.additionals.is_empty());
}

#[test]
fn zone_data_comes_without_any_address() {
    let mut answer = Message::response(9, OpCode::Query);
    answer.add_answer(a("com.", 5, "198.51.100.66"));
    answer.add_answer(record("com.", 5, RData::NS(NS(name("ns.com.")))));
    answer.add_additional(a("ns.com.", 5, "198.51.100.66"));
    let answer = zone_data(&question("com.", RecordType::NS), &answer);
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].record_type(), RecordType::NS);
    assert!(answer.additionals.is_empty());
}

#[test]
fn an_address_of_this_network_is_refused_unless_the_configuration_lists_it() {
    for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "203.0.113.2"] {
        let error = judged("aws.com.", vec![a("aws.com.", 5, "198.51.100.80"), a("aws.com.", 5, address)]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the address {address} (")), "{error}");
        assert!(error.ends_with(&format!("{address} in egress.destinations")), "{error}");
    }
    let listed = judged("aws.com.", vec![a("aws.com.", 5, "10.1.2.3")]).unwrap();
    assert_eq!(addresses(&listed), [], "open already, with the list's ports");
    assert_eq!(listed.answer.answers.len(), 1);
    // Behind an alias, and in IPv6's form.
    let hidden = vec![alias("aws.com.", 5, "x.example."), a("x.example.", 5, "10.0.0.1")];
    assert!(judged("aws.com.", hidden).is_err());
    let mapped = record("aws.com.", 5, RData::AAAA(AAAA("::ffff:10.0.0.1".parse().unwrap())));
    assert!(judged("aws.com.", vec![mapped]).is_err());
}

#[test]
fn where_wg_server_only_observes_such_an_address_passes_and_is_not_opened() {
    let toml = LAB.replacen("[egress]\n", "[egress]\nmode = \"observe\"\n", 1);
    let config = Config::parse(&toml).unwrap();
    let judge = Judge::new(Special::new(&config.wireguard.addresses), config.egress);
    let mut answer = Message::response(9, OpCode::Query);
    answer.insert_answers(vec![a("aws.com.", 5, "198.51.100.80"), a("aws.com.", 5, "10.0.0.1")]);
    let judged = judge.judge(&question("aws.com.", RecordType::A), answer, &every()).unwrap();
    assert_eq!(addresses(&judged), [seconds("198.51.100.80", 5)]);
    assert_eq!(judged.answer.answers.len(), 2);
}

#[test]
fn a_private_address_passes_only_for_names_of_a_list_that_has_it() {
    let list =
        "[[egress.lists]]\nname = \"billing\"\nnames = [\"b.example\"]\ndestinations = [\"10.0.0.1:443\"]\ncids = [16]";
    let config = Config::parse(&LAB.replacen("[dns]", &format!("{list}\n[dns]"), 1)).unwrap();
    let judge = Judge::new(Special::new(&config.wireguard.addresses), config.egress);
    let billing = ListId::Some(crate::config::lists::name("billing"));
    let judged = |list: ListId, address| {
        let mut answer = Message::response(9, OpCode::Query);
        answer.insert_answers(vec![a("b.example.", 5, address)]);
        judge.judge(&question("b.example.", RecordType::A), answer, &Reasons::from([(list, "b.example".into())]))
    };
    let judged_right = judged(billing.clone(), "10.0.0.1").unwrap();
    assert_eq!((addresses(&judged_right), judged_right.answer.answers.len()), (vec![], 1), "the list has the ports");
    let error = judged(ListId::Every, "10.0.0.1").unwrap_err().to_string();
    assert!(
        error.ends_with("10.0.0.1 in egress.destinations"),
        "another's name leads into the list's network: {error}"
    );
    let error = judged(billing, "10.0.0.2").unwrap_err().to_string();
    assert!(error.ends_with("10.0.0.2 in egress.lists.destinations"), "{error}");
}

#[test]
fn hints_of_services_count_as_addresses() {
    let service = |address: &str| {
        let hint = SvcParamValue::Ipv4Hint(IpHint(vec![A(address.parse().unwrap())]));
        let hint_v6 = SvcParamValue::Ipv6Hint(IpHint(vec![AAAA("2001:db8::80".parse().unwrap())]));
        let hints = vec![(SvcParamKey::Ipv4Hint, hint), (SvcParamKey::Ipv6Hint, hint_v6)];
        record("aws.com.", 5, RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), hints))))
    };
    let open = judged("aws.com.", vec![service("198.51.100.80")]).unwrap();
    assert_eq!(addresses(&open), [seconds("198.51.100.80", 5), seconds("2001:db8::80", 5)]);
    assert!(judged("aws.com.", vec![service("10.0.0.1")]).is_err());
}

#[test]
fn aliases_in_a_loop_or_without_an_end_hold_nothing_up() {
    let around = judged("a.example.", vec![alias("a.example.", 5, "b.example."), alias("b.example.", 5, "a.example.")]);
    assert_eq!(addresses(&around.unwrap()), []);
    let long = (0..=MAX_CHAIN).map(|at| alias(&format!("{at}.example."), 5, &format!("{}.example.", at + 1)));
    let error = judged("0.example.", long.collect()).unwrap_err().to_string();
    assert_eq!(error, "more than 16 aliases, expected fewer");
    let wide = (0..=MAX_CHAIN).map(|at| alias("a.example.", 5, &format!("{at}.example.")));
    assert!(judged("a.example.", wide.collect()).is_err());
}

#[test]
fn ten_thousand_addresses_for_one_name_are_refused() {
    let many = (0..10_000_u32).map(|at| {
        let address = std::net::Ipv4Addr::from(u32::from_be_bytes([198, 18, 0, 0]) + at);
        record("aws.com.", 5, RData::A(A(address)))
    });
    let error = judged("aws.com.", many.collect()).unwrap_err().to_string();
    assert_eq!(error, "10000 addresses, expected at most 256");
}

#[test]
fn records_of_another_class_are_refused() {
    let mut chaos = a("aws.com.", 5, "198.51.100.80");
    chaos.dns_class = DNSClass::CH;
    assert_eq!(judged("aws.com.", vec![chaos]).unwrap_err().to_string(), "a record of the class CH, expected IN");
}

#[test]
fn signatures_pass_byte_for_byte() {
    let signature = vec![0, 1, 8, 2, 0, 0, 1, 44, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 3, b'A', b'w', b's', 0, 1, 2, 3];
    let data = RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(signature.clone()) };
    let signed = judged("aws.com.", vec![a("aws.com.", 5, "198.51.100.80"), record("aws.com.", 5, data)]).unwrap();
    let bytes = question("aws.com.", RecordType::A).encode(&signed.answer, false).unwrap();
    assert!(bytes.windows(signature.len()).any(|window| window == signature));
}

fn is_like_a_message(bytes: &[u8]) -> Vec<u8> {
    // Names, types and lengths after a header with small counts: most bytes are read, not refused at once.
    [&[0, 9, 0x84, 0, 0, 1, 0, 2, 0, 1, 0, 1], bytes].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, is_headed: bool) {
        let bytes = if is_headed { is_like_a_message(&bytes) } else { bytes };
        let question = match Question::parse(&bytes) {
            Some(Received::Question(question)) => question,
            _ => question("aws.com.", RecordType::A),
        };
        if let Ok(answer) = Message::from_vec(&bytes) {
            let _ = zone_data(&question, &answer);
            if let Ok(judged) = judge().judge(&question, answer, &every()) {
                prop_assert!(question.encode(&judged.answer, true).is_some());
            }
        }
    }

    #[test]
    fn a_changed_answer_opens_no_address_of_this_network(at: prop::sample::Index, to: u8) {
        let mut answer = Message::response(9, OpCode::Query);
        answer.add_query(Query::query(name("aws.com."), RecordType::A));
        answer.insert_answers(vec![alias("aws.com.", 5, "b.example."), a("b.example.", 5, "11.0.0.1")]);
        let mut bytes = answer.to_vec().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(answer) = Message::from_vec(&bytes)
            && let Ok(judged) = judge().judge(&question("aws.com.", RecordType::A), answer, &every())
        {
            for address in judged.addresses.keys() {
                prop_assert_eq!(judge().special.kind(*address), None);
            }
        }
    }
}
