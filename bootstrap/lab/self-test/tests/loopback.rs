//! Driver, agent and server over loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use self_test::command::{Reply, Transport};
use self_test::driver::Driver;
use self_test::{Command, Direction, Report, agent, server};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A server and an agent; the future given runs beside them.
async fn with_agent(ip: IpAddr, test: impl AsyncFnOnce(SocketAddr, SocketAddr)) {
    let tcp = TcpListener::bind((ip, 0)).await.unwrap();
    let far = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(far).await.unwrap();
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let near = listener.local_addr().unwrap();
    tokio::select! {
        result = server::run_on(vec![(tcp, udp)]) => panic!("the server ended: {result:?}"),
        result = agent::serve_on(vec![listener]) => panic!("the agent ended: {result:?}"),
        () = test(near, far) => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("not done after a minute"),
    }
}

#[tokio::test]
async fn every_command_works_over_ipv4_and_ipv6() {
    for ip in LOOPBACK {
        with_agent(ip, async |agent, server| {
            let mut driver = Driver::connect(agent).await.unwrap();
            let tcp = driver.run(&Command::Tcp { server, bytes: 3_000_001, seed: 1 }).await.unwrap();
            let Report::Transfer(tcp) = tcp else { panic!("{tcp:?}") };
            assert_eq!((tcp.bytes, tcp.sent.sender), (3_000_001, tcp.sent.receiver));
            assert_eq!(tcp.received.sender, tcp.received.receiver);

            let udp = driver.run(&Command::Udp { server, bytes: 300_001, datagram: 1200, seed: 1 }).await.unwrap();
            let Report::Transfer(udp) = udp else { panic!("{udp:?}") };
            assert_eq!(udp.sent.sender, udp.sent.receiver);
            assert_eq!(udp.received.sender, udp.received.receiver);
            let datagrams = udp.datagrams.unwrap();
            assert_eq!(datagrams.needed, 300_001_u64.div_ceil(1200 - 13));
            assert_eq!(datagrams.sent, datagrams.needed + datagrams.retransmitted);

            for direction in [Direction::Up, Direction::Down] {
                let report = driver.run(&Command::TcpGoodput { server, direction, seconds: 1 }).await.unwrap();
                let Report::Goodput(goodput) = report else { panic!("{report:?}") };
                assert!(goodput.bytes > 32_000 && goodput.elapsed.as_secs() < 3, "{goodput:?}");
            }
            for transport in [Transport::Tcp, Transport::Udp] {
                let report = driver.run(&Command::Rtt { server, transport, count: 20, size: 64 }).await.unwrap();
                let Report::RoundTrips(trips) = report else { panic!("{report:?}") };
                assert_eq!((trips.count, trips.lost), (20, 0));
            }
        })
        .await;
    }
}

/// Between agent and server: loses every fifth datagram and, if asked, changes one byte of one of them.
async fn bad_road(near: UdpSocket, far: SocketAddr, corrupt: bool) {
    let out = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    out.connect(far).await.unwrap();
    let (mut up, mut down) = (vec![0; 65_535], vec![0; 65_535]);
    let mut client = None;
    let mut count = 0_u32;
    loop {
        let (datagram, is_up) = tokio::select! {
            received = near.recv_from(&mut up) => {
                let (n, from) = received.unwrap();
                client = Some(from);
                (up.get_mut(..n).unwrap(), true)
            }
            received = out.recv(&mut down) => (down.get_mut(..received.unwrap()).unwrap(), false),
        };
        count += 1;
        if count.is_multiple_of(5) {
            continue;
        }
        if corrupt && count == 11 {
            *datagram.last_mut().unwrap() ^= 0x80;
        }
        if is_up {
            out.send(datagram).await.unwrap();
        } else {
            near.send_to(datagram, client.unwrap()).await.unwrap();
        }
    }
}

async fn udp_over_a_bad_road(corrupt: bool) -> anyhow::Result<Report> {
    let mut report = None;
    with_agent(LOOPBACK[0], async |agent, server| {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let command = Command::Udp { server: near.local_addr().unwrap(), bytes: 20_000, datagram: 1000, seed: 4 };
        tokio::select! {
            result = async { Driver::connect(agent).await?.run(&command).await } => report = Some(result),
            () = bad_road(near, server, corrupt) => {}
        }
    })
    .await;
    report.unwrap()
}

#[tokio::test]
async fn lost_datagrams_are_sent_again_until_everything_arrived() {
    let report = udp_over_a_bad_road(false).await.unwrap();
    let Report::Transfer(transfer) = report else { panic!("{report:?}") };
    assert_eq!(transfer.sent.sender, transfer.sent.receiver);
    assert!(transfer.datagrams.unwrap().retransmitted > 0);
}

#[tokio::test]
async fn a_changed_datagram_is_an_error() {
    let error = format!("{:#}", udp_over_a_bad_road(true).await.unwrap_err());
    assert!(error.contains("the bytes changed on the way"), "{error}");
}

async fn raw(agent: SocketAddr, line: &str) -> Option<Reply> {
    let mut socket = BufReader::new(TcpStream::connect(agent).await.unwrap());
    // The agent may close before it has read everything.
    drop(socket.write_all(line.as_bytes()).await);
    let mut reply = String::new();
    socket.read_line(&mut reply).await.ok()?;
    serde_json::from_str(&reply).ok()
}

#[tokio::test]
async fn a_command_outside_the_limits_is_answered_with_the_reason() {
    with_agent(LOOPBACK[0], async |agent, _| {
        let reply = raw(agent, "{\"tcp\":{\"server\":\"127.0.0.1:1\",\"bytes\":99999999999}}\n").await;
        assert_eq!(reply, Some(Reply::Error("bytes is 99999999999, must be 1 to 1073741824".into())));
    })
    .await;
}

#[tokio::test]
async fn garbage_and_endless_lines_are_disconnected_without_harm() {
    with_agent(LOOPBACK[0], async |agent, server| {
        assert_eq!(raw(agent, "garbage\n").await, None);
        assert_eq!(raw(agent, &"x".repeat(100_000)).await, None);
        let rtt = Command::Rtt { server, transport: Transport::Tcp, count: 1, size: 64 };
        assert!(Driver::connect(agent).await.unwrap().run(&rtt).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_driver_too_many_is_told_so_and_takes_no_place() {
    with_agent(LOOPBACK[0], async |agent, server| {
        let mut drivers = Vec::new();
        let rtt = Command::Rtt { server, transport: Transport::Tcp, count: 1, size: 64 };
        for _ in 0..agent::MAX_DRIVERS {
            let mut driver = Driver::connect(agent).await.unwrap();
            driver.run(&rtt).await.unwrap();
            drivers.push(driver);
        }
        let mut text = String::new();
        drop(TcpStream::connect(agent).await.unwrap().read_to_string(&mut text).await);
        assert!(text.contains("4 drivers are connected already"), "{text}");
        drop(drivers);
        let again = async {
            while Driver::connect(agent).await.unwrap().run(&rtt).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    with_agent(LOOPBACK[0], async |agent, _| {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let command = Command::Tcp { server: closed, bytes: 1, seed: 0 };
        let error = Driver::connect(agent).await.unwrap().run(&command).await.unwrap_err();
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
    })
    .await;
}
