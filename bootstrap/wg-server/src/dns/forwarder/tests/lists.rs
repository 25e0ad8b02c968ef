//! Names that are on the lists of some enclaves.

use super::*;

const LISTS: &str = r#"[[egress.lists]]
name = "a"
names = ["aws.com", "only-a.example", "to-target.example"]
cids = [16]
[[egress.lists]]
name = "b"
names = ["only-b.example", "also-to-target.example", "end.example"]
cids = [17]
"#;

/// Asks for a name, which the resolver answers with these records, and returns what was opened.
async fn opened(
    sets: &Recorder,
    forwarder: &Forwarder,
    resolver: &Resolver,
    name: &str,
    records: &[(&str, u32, RData)],
) -> Vec<(String, String, u64)> {
    let served = async {
        let asked = resolver.asked().await;
        resolver.send(&asked.answer(records), asked.by).await;
    };
    let (answer, ()) = tokio::join!(ask(forwarder, question(name, RecordType::A)), served);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
    sets.take()
}

#[tokio::test]
async fn the_addresses_of_a_name_open_for_each_list_that_has_it_and_for_no_other() {
    let (resolver, sets) = (Resolver::bind().await, Recorder::default());
    let forwarder = forwarder_with(LISTS, &[&resolver]).await;
    run_with(sets.clone(), &forwarder, async {
        for (name, expected) in [
            ("aws.com", &["aws.com", "a: aws.com"][..]),
            ("x.wild.example", &["x.wild.example"]),
            ("only-a.example", &["a: only-a.example"]),
            ("only-b.example", &["b: only-b.example"]),
        ] {
            let records = [(name, 60, a("198.51.100.80"))];
            let opened = opened(&sets, &forwarder, &resolver, &format!("{name}."), &records).await;
            assert_eq!(opened, expected.iter().map(|reason| entry(reason, "198.51.100.80", 60)).collect::<Vec<_>>());
        }
        let answer = ask(&forwarder, question("on-none.example.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    })
    .await;
}

#[tokio::test]
async fn the_target_of_aliases_on_two_lists_opens_for_both() {
    let (resolver, sets) = (Resolver::bind().await, Recorder::default());
    let forwarder = forwarder_with(LISTS, &[&resolver]).await;
    run_with(sets.clone(), &forwarder, async {
        for name in ["to-target.example", "also-to-target.example"] {
            let records = [(name, 60, alias("target.test"))];
            assert_eq!(opened(&sets, &forwarder, &resolver, &format!("{name}."), &records).await, []);
        }
        // named asks for the target alone, whichever alias led to it.
        let records = [("target.test", 5, a("198.51.100.80"))];
        let both = ["a: to-target.example", "b: also-to-target.example"];
        let opened = opened(&sets, &forwarder, &resolver, "target.test.", &records).await;
        assert_eq!(opened, both.map(|reason| entry(reason, "198.51.100.80", 5)));
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_on_a_list_itself_opens_for_that_list_too_because_named_keeps_it() {
    let (resolver, sets) = (Resolver::bind().await, Recorder::default());
    let forwarder = forwarder_with(LISTS, &[&resolver]).await;
    run_with(sets.clone(), &forwarder, async {
        let records = [("only-a.example", 60, alias("end.example")), ("end.example", 60, a("198.51.100.80"))];
        let opened = opened(&sets, &forwarder, &resolver, "only-a.example.", &records).await;
        assert_eq!(opened, ["a: only-a.example", "b: end.example"].map(|reason| entry(reason, "198.51.100.80", 60)));
    })
    .await;
}
