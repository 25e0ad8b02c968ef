//! What a signature costs over TLS, beside what it costs alone: requests per second over kept-alive connections on
//! loopback, and in the same run bare secp256k1 signatures and signatures with their check, on as many threads.
//!
//! What a request costs the signer alone: CPU time of its thread, which the kernel counts, in the signer's own form and in JSON-RPC's, and
//! over one connection alone, where the thread sleeps before each. Beside it, what reading, judging, signing and checking cost without
//! HTTP and TLS.
//!
//! `cargo bench --workspace --bench sign [-- --json] [--seconds N] [--repetitions N] [--connections N] [--threads N]`
//!
//! In the rates, the clients' half counts too: they run on the same threads.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "a program that reports to the terminal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the benchmark")]
#![allow(clippy::cast_precision_loss, reason = "numbers are rounded for reading anyway")]

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/service/harness.rs"]
mod harness;

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ethereum::key::SecretKey;
use ethereum::signable::{Signable, Unsigned};
use ethereum::transaction::Transaction;
use k256::ecdsa::SigningKey;
use signer::permission::Caller;
use signer::policy::Judges;
use signer_api::answer::SignAnswer;
use signer_api::request::SignRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use harness::{ADDRESS, Client, KEY, POLICY, Server, config, sign_body, start};

/// What a request may cost over what it costs without HTTP and TLS.
const BOUND: f64 = 1.15;

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Per second.
    requests: f64,
    rpc: f64,
    bare: f64,
    checked: f64,
    /// Microseconds of the signer's CPU time for each.
    own_us: f64,
    rpc_us: f64,
    alone_us: f64,
    inside_us: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let is_json = args.iter().any(|arg| arg == "--json");
    let time = Duration::from_secs(number("--seconds", 2) as u64);
    let repetitions = number("--repetitions", 5);
    let connections = number("--connections", 16);
    let threads = number("--threads", thread::available_parallelism().unwrap().get());
    let mut measured = Vec::new();
    // In turns, so that all see the same machine.
    for _ in 0..repetitions {
        measured.push(Measured {
            requests: requests(time, connections, threads, &sign_body(0, "bench")),
            rpc: requests(time, connections, threads, &rpc_body()),
            bare: in_threads(time, threads, bare()),
            checked: in_threads(time, threads, checked()),
            own_us: cost(time, connections, &sign_body(0, "bench")),
            rpc_us: cost(time, connections, &rpc_body()),
            alone_us: cost(time, 1, &sign_body(0, "bench")),
            inside_us: inside(time),
        });
    }
    let median = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (requests, bare, checked) = (median(|m| m.requests), median(|m| m.bare), median(|m| m.checked));
    let rpc = median(|m| m.rpc);
    let (own_us, rpc_us) = (median(|m| m.own_us), median(|m| m.rpc_us));
    let (alone_us, inside_us) = (median(|m| m.alone_us), median(|m| m.inside_us));
    let (of_bare, of_checked) = (requests / bare, requests / checked);
    if is_json {
        println!(
            "{{\"repetitions\":{repetitions},\"connections\":{connections},\"threads\":{threads},\
             \"requests_per_second\":{requests:.0},\"rpc_requests_per_second\":{rpc:.0},\"bare_signatures_per_second\":{bare:.0},\
             \"checked_signatures_per_second\":{checked:.0},\"ratio_to_bare\":{of_bare:.3},\"ratio_to_checked\":{of_checked:.3},\
             \"own_us\":{own_us:.1},\"rpc_us\":{rpc_us:.1},\"alone_us\":{alone_us:.1},\"inside_us\":{inside_us:.1}}}"
        );
        return;
    }
    println!("medians of {repetitions}, {threads} threads, {connections} kept-alive connections");
    println!("requests over TLS, client included  {requests:>9.0} /s");
    println!("the same in JSON-RPC                {rpc:>9.0} /s  ratio {:.3}", rpc / requests);
    println!("bare secp256k1 signatures           {bare:>9.0} /s  ratio {of_bare:.3}");
    println!("signatures, encoded and checked     {checked:>9.0} /s  ratio {of_checked:.3}");
    println!("CPU time of the signer for a request");
    println!("without HTTP and TLS                {inside_us:>9.1} us");
    println!("over TLS                            {own_us:>9.1} us  ratio {:.3}, bound {BOUND}", own_us / inside_us);
    println!("in JSON-RPC                         {rpc_us:>9.1} us  ratio {:.3}, bound {BOUND}", rpc_us / inside_us);
    println!("over TLS, one connection alone      {alone_us:>9.1} us  ratio {:.3}", alone_us / inside_us);
}

/// The CPU time of the signer's thread for a request, in microseconds. As in the enclave, it has one.
fn cost(time: Duration, connections: usize, body: &str) -> f64 {
    let (told, listening) = channel::<(String, SocketAddr, CancellationToken)>();
    let signer = thread::Builder::new().name("signer".to_owned()).spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let server = start(with_key()).await;
            told.send((this_thread(), server.address, server.shutdown.clone())).unwrap();
            server.ended().await;
        });
    });
    let signer = signer.unwrap();
    let (thread, address, shutdown) = listening.recv().unwrap();
    let spent = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Server::shake_hands(TcpStream::connect(address).await.unwrap()).await.unwrap());
        }
        let (before, end) = (cpu_us(&thread), Instant::now() + time);
        let tasks: JoinSet<u64> = clients.into_iter().map(|client| sign_until(end, client, body.to_owned())).collect();
        let count: u64 = tasks.join_all().await.into_iter().sum();
        (cpu_us(&thread) - before) / count as f64
    });
    shutdown.cancel();
    signer.join().unwrap();
    spent
}

/// The number of this thread.
fn this_thread() -> String {
    fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

/// What a thread of this process has used, in microseconds.
fn cpu_us(thread: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// The same for what the signer does with a body, from its bytes to those of the answer.
fn inside(time: Duration) -> f64 {
    let (config, key, body) = (with_key(), SecretKey::parse(KEY.as_bytes()).unwrap(), sign_body(0, "bench"));
    let (thread, start, mut count) = (this_thread(), Instant::now(), 0);
    let before = cpu_us(&thread);
    while start.elapsed() < time {
        for _ in 0..100 {
            let request = SignRequest::parse(body.as_bytes()).unwrap();
            Judges::new(&config.policy, key.address(), &Caller::Anyone).check(&request.subject).unwrap();
            let signed = Unsigned::new(&request.subject).sign(&key).unwrap();
            std::hint::black_box(serde_json::to_string(&SignAnswer::from(&signed)).unwrap());
        }
        count += 100;
    }
    (cpu_us(&thread) - before) / f64::from(count)
}

fn with_key() -> signer::config::Config {
    config(&format!("open = true\n[[keys]]\nsecret_id = \"bench\"\n{POLICY}"))
}

/// Signatures alone, by the curve's library.
fn bare() -> impl Fn(u64) + Send + Sync {
    let bytes: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap()).collect();
    let key = SigningKey::from_slice(&bytes).unwrap();
    move |count: u64| {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&count.to_be_bytes());
        std::hint::black_box(key.sign_prehash_recoverable(&hash).unwrap());
    }
}

/// What the service does without HTTP and TLS, parsing aside.
fn checked() -> impl Fn(u64) + Send + Sync {
    let key = SecretKey::parse(KEY.as_bytes()).unwrap();
    let Signable::Transaction(transaction) = SignRequest::parse(sign_body(0, "bench").as_bytes()).unwrap().subject
    else {
        panic!("the body is a transaction's");
    };
    move |count: u64| {
        let subject = Signable::Transaction(Transaction { nonce: count, ..transaction.clone() });
        std::hint::black_box(Unsigned::new(&subject).sign(&key).unwrap());
    }
}

fn in_threads(time: Duration, threads: usize, work: impl Fn(u64) + Send + Sync) -> f64 {
    let start = Instant::now();
    let count: u64 = thread::scope(|scope| {
        let count = || {
            let mut count = 0;
            while start.elapsed() < time {
                work(count);
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    count as f64 / start.elapsed().as_secs_f64()
}

/// The transaction of [`sign_body`] as a call.
fn rpc_body() -> String {
    format!(
        r#"{{"jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [{{"from": "{ADDRESS}",
        "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "value": "0x2386f26fc10000", "nonce": "0x0", "chainId": "0x4",
        "gas": "0x186a0", "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0xb2d05e00"}}]}}"#
    )
}

fn requests(time: Duration, connections: usize, threads: usize, body: &str) -> f64 {
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = start(with_key()).await;
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(server.connect().await);
        }
        let begin = Instant::now();
        let tasks: JoinSet<u64> =
            clients.into_iter().map(|client| sign_until(begin + time, client, body.to_owned())).collect();
        let count: u64 = tasks.join_all().await.into_iter().sum();
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        server.shutdown.cancel();
        server.ended().await;
        rate
    })
}

/// Signs one transaction after the other until `end`. The nonce stays: memory of nonces is not what is measured.
async fn sign_until(end: Instant, mut client: Client, body: String) -> u64 {
    let request = format!("POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut answer = [0; 4096];
    let mut count = 0;
    while Instant::now() < end {
        client.stream.write_all(request.as_bytes()).await.unwrap();
        client.stream.flush().await.unwrap();
        let mut len = 0;
        while !answer[..len].ends_with(b"\"}") {
            let read = client.stream.read(&mut answer[len..]).await.unwrap();
            assert!(read > 0, "closed");
            len += read;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..len]));
        count += 1;
    }
    count
}
