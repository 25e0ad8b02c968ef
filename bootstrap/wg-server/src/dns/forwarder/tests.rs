//! The forwarder between a client and a resolver that the test plays.

use hickory_proto::op::{Edns, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{RData, Record};

use super::*;
use crate::dns::AllowList;

mod lists;

const LAB: &str = include_str!("../../../tests/parent.toml");
const LIST: &str = "aws.com\n*.wild.example\nalias.example\n";
const SOON: Duration = Duration::from_secs(5);

/// A resolver's two sockets, on one port.
struct Resolver {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// What the resolver was asked, and by whom.
struct Asked {
    message: Message,
    by: SocketAddr,
}

impl Resolver {
    async fn bind() -> Self {
        let (udp, tcp) = bind().await.unwrap();
        Self { udp, tcp }
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    async fn asked(&self) -> Asked {
        let mut buffer = [0; 1500];
        let (len, by) = timeout(SOON, self.udp.recv_from(&mut buffer)).await.expect("nobody asks").unwrap();
        Asked { message: Message::from_vec(&buffer[..len]).unwrap(), by }
    }

    /// The next question over TCP, and its connection.
    async fn asked_over_tcp(&self) -> (TcpStream, Message) {
        let (mut stream, _) = timeout(SOON, self.tcp.accept()).await.expect("nobody connects").unwrap();
        let question = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
        (stream, question)
    }

    async fn send(&self, answer: &Message, to: SocketAddr) {
        self.udp.send_to(&answer.to_vec().unwrap(), to).await.unwrap();
    }
}

impl Asked {
    fn answer(&self, records: &[(&str, u32, RData)]) -> Message {
        answer_to(&self.message, records)
    }
}

fn answer_to(question: &Message, records: &[(&str, u32, RData)]) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(question.queries[0].clone());
    for (name, ttl, data) in records {
        answer.add_answer(Record::from_rdata(Name::from_ascii(name).unwrap(), *ttl, data.clone()));
    }
    answer
}

fn a(address: &str) -> RData {
    RData::A(A(address.parse().unwrap()))
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(target).unwrap()))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// What was opened so far, by the name that led to it, unless opening fails.
#[derive(Clone, Default)]
struct Recorder {
    opened: Arc<Mutex<Vec<(String, String, u64)>>>,
    is_broken: bool,
}

impl Opens for Recorder {
    async fn open(&self, reasons: &Reasons, addresses: &BTreeMap<IpAddr, Duration>) -> Result<()> {
        anyhow::ensure!(!self.is_broken, "the firewall is broken");
        for (list, name) in reasons {
            let reason = match list {
                ListId::Every => name.to_string(),
                ListId::Some(list) => format!("{list}: {name}"),
            };
            let entries = addresses.iter().map(|(address, ttl)| (reason.clone(), address.to_string(), ttl.as_secs()));
            self.opened.lock().unwrap().extend(entries);
        }
        Ok(())
    }
}

impl Recorder {
    fn take(&self) -> Vec<(String, String, u64)> {
        std::mem::take(&mut self.opened.lock().unwrap())
    }
}

fn entry(name: &str, address: &str, ttl: u64) -> (String, String, u64) {
    (name.to_owned(), address.to_owned(), ttl)
}

async fn forwarder(resolvers: &[&Resolver]) -> Forwarder {
    forwarder_with("", resolvers).await
}

/// With further tables.
async fn forwarder_with(tables: &str, resolvers: &[&Resolver]) -> Forwarder {
    let addresses: Vec<String> = resolvers.iter().map(|resolver| format!("\"{}\"", resolver.address())).collect();
    let toml = LAB.replacen("\"198.51.100.53\"", &addresses.join(","), 1);
    let config = Config::parse(&toml.replacen("[dns]", &format!("{tables}\n[dns]"), 1)).unwrap();
    let lists = AllowLists::new(AllowList::parse(LIST).unwrap(), &config.egress.lists);
    Forwarder::bind(&config, lists).await.unwrap()
}

/// Runs the forwarder while `test` goes on.
async fn run(forwarder: &Forwarder, test: impl Future<Output = ()>) {
    run_with(Recorder::default(), forwarder, test).await;
}

async fn run_with(sets: Recorder, forwarder: &Forwarder, test: impl Future<Output = ()>) {
    tokio::select! {
        () = forwarder.run(sets, CancellationToken::new()) => panic!("the forwarder has ended"),
        () = test => {}
    }
}

/// A client's answer.
async fn ask(forwarder: &Forwarder, question: Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), forwarder.address().unwrap()).await.unwrap();
    let mut buffer = [0; 1500];
    let len = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.expect("no answer").unwrap();
    let answer = Message::from_vec(&buffer[..len]).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (question.metadata.id, &question.queries));
    answer
}

async fn ask_over_tcp(forwarder: &Forwarder, question: Message) -> Message {
    let mut stream = TcpStream::connect(forwarder.address().unwrap()).await.unwrap();
    write_framed(&mut stream, &question.to_vec().unwrap()).await.unwrap();
    Message::from_vec(&timeout(SOON, read_framed(&mut stream)).await.expect("no answer").unwrap()).unwrap()
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[tokio::test]
async fn a_listed_name_is_asked_for_with_a_new_id_and_port_each_time() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let question = question("AWS.com.", RecordType::A);
            let served = async {
                let asked = resolver.asked().await;
                assert_eq!(asked.message.queries, question.queries);
                assert!(asked.message.metadata.recursion_desired);
                resolver.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
                (asked.message.metadata.id, asked.by.port())
            };
            let (answer, asked) = tokio::join!(ask(&forwarder, question.clone()), served);
            assert_eq!(addresses(&answer), ["198.51.100.80".parse::<IpAddr>().unwrap()]);
            seen.insert(asked);
        }
        let (ids, ports): (std::collections::BTreeSet<_>, std::collections::BTreeSet<_>) = seen.into_iter().unzip();
        assert!(ids.len() >= 3 && ports.len() >= 3, "{ids:?} {ports:?}");
        assert!(!ids.contains(&0x1234) || ids.len() > 1, "named's own ID");
    })
    .await;
}

#[tokio::test]
async fn answers_with_another_id_question_or_source_are_ignored() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            let records = [("aws.com.", 60, a("198.51.100.66"))];
            let mut other_id = asked.answer(&records);
            other_id.metadata.id ^= 1;
            let mut other_question = asked.answer(&records);
            other_question.queries = question("x.wild.example.", RecordType::A).queries;
            let mut other_kind = asked.answer(&records);
            other_kind.queries = question("aws.com.", RecordType::AAAA).queries;
            let mut is_question = asked.answer(&records);
            is_question.metadata.message_type = MessageType::Query;
            for wrong in [other_id, other_question, other_kind, is_question] {
                resolver.send(&wrong, asked.by).await;
            }
            resolver.udp.send_to(b"not DNS", asked.by).await.unwrap();
            let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            elsewhere.send_to(&asked.answer(&records).to_vec().unwrap(), asked.by).await.unwrap();
            resolver.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!(addresses(&answer), ["198.51.100.80".parse::<IpAddr>().unwrap()]);
    })
    .await;
}

#[tokio::test]
async fn after_many_wrong_answers_the_resolver_is_asked_over_tcp() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            for guess in 0..8 {
                let mut wrong = asked.answer(&[("aws.com.", 60, a("198.51.100.66"))]);
                wrong.metadata.id = asked.message.metadata.id.wrapping_add(guess + 1);
                resolver.send(&wrong, asked.by).await;
            }
            let (mut stream, question) = resolver.asked_over_tcp().await;
            let answer = answer_to(&question, &[("aws.com.", 60, a("198.51.100.80"))]);
            write_framed(&mut stream, &answer.to_vec().unwrap()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!(addresses(&answer), ["198.51.100.80".parse::<IpAddr>().unwrap()]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_over_tcp_on_both_sides() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    let many: Vec<(&str, u32, RData)> = (0..200).map(|at| ("aws.com.", 60, a(&format!("198.51.100.{at}")))).collect();
    let serve = async || {
        let asked = resolver.asked().await;
        let mut cut = asked.answer(&[]);
        cut.metadata.truncation = true;
        resolver.send(&cut, asked.by).await;
        let (mut stream, question) = resolver.asked_over_tcp().await;
        write_framed(&mut stream, &answer_to(&question, &many).to_vec().unwrap()).await.unwrap();
    };
    run(&forwarder, async {
        let question = question("aws.com.", RecordType::A);
        let (answer, ()) = tokio::join!(ask(&forwarder, question.clone()), serve());
        assert!(answer.metadata.truncation && answer.answers.is_empty(), "{answer}");
        let (answer, ()) = tokio::join!(ask_over_tcp(&forwarder, question.clone()), serve());
        assert_eq!(addresses(&answer).len(), 200);
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_64_kib_is_read_and_refused() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            let mut cut = asked.answer(&[]);
            cut.metadata.truncation = true;
            resolver.send(&cut, asked.by).await;
            let (mut stream, question) = resolver.asked_over_tcp().await;
            let many: Vec<(&str, u32, RData)> = (0..4090)
                .map(|at| ("aws.com.", 60, a(&std::net::Ipv4Addr::from(0xc612_0000 + at).to_string())))
                .collect();
            let bytes = answer_to(&question, &many).to_vec().unwrap();
            assert!(bytes.len() > 65_000, "{}", bytes.len());
            write_framed(&mut stream, &bytes).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    })
    .await;
}

#[tokio::test]
async fn a_resolver_that_fails_or_is_not_there_is_followed_by_the_next() {
    let (first, second) = (Resolver::bind().await, Resolver::bind().await);
    let forwarder = forwarder(&[&first, &second]).await;
    run(&forwarder, async {
        let served = async {
            let asked = first.asked().await;
            let mut failed = asked.answer(&[]);
            failed.metadata.response_code = ResponseCode::ServFail;
            first.send(&failed, asked.by).await;
            let asked = second.asked().await;
            second.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!(addresses(&answer).len(), 1);
        // From now on the second comes first. When it is gone, its port refuses, and the first is asked again.
        drop(second);
        let served = async {
            let asked = first.asked().await;
            first.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.81"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!(addresses(&answer), ["198.51.100.81".parse::<IpAddr>().unwrap()]);
        drop(first);
        let answer = ask(&forwarder, question("aws.com.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    })
    .await;
}

#[tokio::test]
async fn a_resolver_without_edns_is_asked_without_it() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let mut question = question("aws.com.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        question.edns = Some(edns);
        let served = async {
            let asked = resolver.asked().await;
            let edns = asked.message.edns.as_ref().unwrap();
            assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
            let mut unknown = asked.answer(&[]);
            unknown.metadata.response_code = ResponseCode::FormErr;
            resolver.send(&unknown, asked.by).await;
            let asked = resolver.asked().await;
            assert!(asked.message.edns.is_none());
            resolver.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question.clone()), served);
        assert_eq!(addresses(&answer).len(), 1);
        assert!(answer.edns.unwrap().flags().dnssec_ok);
    })
    .await;
}

#[tokio::test]
async fn names_that_are_not_on_the_list_are_refused_without_being_asked_for() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        for (name, kind) in [
            ("evil.test.", RecordType::A),
            ("x.aws.com.", RecordType::AAAA),
            ("com.", RecordType::HTTPS),
            ("wild.example.", RecordType::A),
            ("evil.test.", RecordType::TXT),
        ] {
            let answer = ask(&forwarder, question(name, kind)).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        }
        // What verifies signatures may be asked for everywhere.
        let served = async {
            let asked = resolver.asked().await;
            assert_eq!(asked.message.queries[0].query_type(), RecordType::DS);
            resolver.send(&asked.answer(&[("com.", 60, a("198.51.100.66"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("com.", RecordType::DS)), served);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
    })
    .await;
}

#[tokio::test]
async fn an_alias_s_target_off_the_list_may_be_asked_for_after_the_alias_and_belongs_to_its_name() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    let sets = Recorder::default();
    run_with(sets.clone(), &forwarder, async {
        let target = question("hidden.example.", RecordType::A);
        assert_eq!(ask(&forwarder, target.clone()).await.metadata.response_code, ResponseCode::Refused);
        for (question, records, opened) in [
            (question("alias.example.", RecordType::A), [("alias.example.", 60, alias("hidden.example."))], vec![]),
            (target, [("hidden.example.", 1, a("198.51.100.80"))], vec![entry("alias.example", "198.51.100.80", 1)]),
        ] {
            let served = async {
                let asked = resolver.asked().await;
                resolver.send(&asked.answer(&records), asked.by).await;
            };
            let (answer, ()) = tokio::join!(ask(&forwarder, question), served);
            assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
            assert_eq!(sets.take(), opened);
        }
    })
    .await;
}

#[tokio::test]
async fn every_address_of_an_answer_is_open_before_the_answer_is_there() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    let sets = Recorder::default();
    run_with(sets.clone(), &forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            let records =
                [("x.wild.example.", 60, a("198.51.100.80")), ("x.wild.example.", u32::MAX, a("198.51.100.81"))];
            resolver.send(&asked.answer(&records), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("X.wild.example.", RecordType::A)), served);
        assert_eq!(addresses(&answer).len(), 2);
        let expected = [("198.51.100.80", 60), ("198.51.100.81", 0)];
        assert_eq!(sets.take(), expected.map(|(address, ttl)| entry("x.wild.example", address, ttl)));
    })
    .await;
}

#[tokio::test]
async fn if_the_addresses_cannot_be_opened_there_is_no_answer() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    let sets = Recorder { is_broken: true, ..Recorder::default() };
    run_with(sets, &forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            resolver.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    })
    .await;
}

#[tokio::test]
async fn an_address_of_this_network_gets_named_no_answer() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let served = async {
            let asked = resolver.asked().await;
            resolver.send(&asked.answer(&[("aws.com.", 60, a("10.0.0.1"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_question_gets_an_error_or_nothing() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    let shared = &forwarder.shared;
    let code = async |message: &Message| {
        let answer = shared.answer(&message.to_vec().unwrap(), true, &Recorder::default()).await?;
        Some(Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    let mut two = question("aws.com.", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(code(&two).await, Some(ResponseCode::FormErr));
    let mut status = question("aws.com.", RecordType::A);
    status.metadata.op_code = OpCode::Status;
    assert_eq!(code(&status).await, Some(ResponseCode::NotImp));
    let mut answer = question("aws.com.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(code(&answer).await, None, "two forwarders would answer each other for ever");
    assert_eq!(shared.answer(b"not DNS", true, &Recorder::default()).await, None);
}

#[tokio::test]
async fn more_clients_over_tcp_than_are_served_at_once_keep_nobody_out_over_udp() {
    let resolver = Resolver::bind().await;
    let forwarder = forwarder(&[&resolver]).await;
    run(&forwarder, async {
        let mut idle = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            idle.push(TcpStream::connect(forwarder.address().unwrap()).await.unwrap());
        }
        let served = async {
            let asked = resolver.asked().await;
            resolver.send(&asked.answer(&[("aws.com.", 60, a("198.51.100.80"))]), asked.by).await;
        };
        let (answer, ()) = tokio::join!(ask(&forwarder, question("aws.com.", RecordType::A)), served);
        assert_eq!(addresses(&answer).len(), 1);
    })
    .await;
}
