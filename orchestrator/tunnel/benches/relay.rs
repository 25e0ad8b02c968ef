//! What the relay costs without any VM: CPU seconds per GB and datagrams per second.
//!
//! `cargo bench -p tunnel --bench relay [-- --json] [--seconds N] [--repetitions N]`
//!
//! ```text
//! generator -> UDP -> relay A -> AF_UNIX stream -> relay B -> UDP -> counter
//! ```
//!
//! Each relay is a thread with a current-thread runtime, as in the enclave; only these two threads' CPU clocks count.
//! The reference, in the same run, is a plain loop in their place: one `recv` and one write per datagram, two reads and
//! one `send` per frame. The generator sends no faster than datagrams arrive (at most a window is under way), so that nothing is lost.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reports to the terminal")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that panics has failed, as it should")]
#![allow(clippy::cast_precision_loss, reason = "numbers are rounded for reading anyway")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tunnel::counters::Counters;
use tunnel::pump::{Pump, Settings};

const SIZES: [usize; 3] = [1_452, 8_952, 15_400];
/// Bytes under way at most.
const WINDOW: u64 = 512 << 10;

#[derive(Clone, Copy, Debug)]
struct Measured {
    cpu_per_gb: f64,
    datagrams_per_second: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u32| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let is_json = args.iter().any(|arg| arg == "--json");
    let time = Duration::from_secs(number("--seconds", 1).into());
    let repetitions = number("--repetitions", 5);
    let mut lines = Vec::new();
    for size in SIZES {
        let (mut pump, mut plain) = (Vec::new(), Vec::new());
        // In turns, so that both see the same machine.
        for _ in 0..repetitions {
            pump.push(measure(size, time, relay_pump));
            plain.push(measure(size, time, relay_plain));
        }
        let (pump, plain) = (median(&pump), median(&plain));
        let cpu = pump.cpu_per_gb / plain.cpu_per_gb;
        let rate = pump.datagrams_per_second / plain.datagrams_per_second;
        lines.push(if is_json {
            format!(
                "{{\"bytes\":{size},\"repetitions\":{repetitions},\"cpu_seconds_per_gb\":{:.4},\"datagrams_per_second\":{:.0},\
                 \"plain_cpu_seconds_per_gb\":{:.4},\"plain_datagrams_per_second\":{:.0},\"cpu_ratio\":{cpu:.3},\"rate_ratio\":{rate:.3}}}",
                pump.cpu_per_gb, pump.datagrams_per_second, plain.cpu_per_gb, plain.datagrams_per_second
            )
        } else {
            format!(
                "{size:>6}  {:>8.3} {:>8.3} {cpu:>6.2}  {:>9.0} {:>9.0} {rate:>6.2}",
                pump.cpu_per_gb, plain.cpu_per_gb, pump.datagrams_per_second, plain.datagrams_per_second
            )
        });
    }
    if is_json {
        println!("[{}]", lines.join(","));
    } else {
        println!("medians of {repetitions}; both relays together, one direction");
        println!(" bytes  CPU s/GB    plain  ratio  datagr./s     plain  ratio");
        println!("{}", lines.join("\n"));
    }
}

fn median(measured: &[Measured]) -> Measured {
    let middle = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured { cpu_per_gb: middle(|m| m.cpu_per_gb), datagrams_per_second: middle(|m| m.datagrams_per_second) }
}

/// One end of the tunnel.
struct End {
    udp: UdpSocket,
    peer: SocketAddr,
    stream: UnixStream,
    /// Whether datagrams come in here (and leave at the other end).
    is_first: bool,
    stop: Arc<AtomicBool>,
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    tunnel::udp::raise_buffers(&socket).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

fn measure(size: usize, time: Duration, relay: fn(End)) -> Measured {
    let (generator, counter, first, second) = (bind(), bind(), bind(), bind());
    let (a, b) = UnixStream::pair().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (into, out_of) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    let end = |udp, peer: &UdpSocket, stream, is_first| End {
        udp,
        peer: peer.local_addr().unwrap(),
        stream,
        is_first,
        stop: Arc::clone(&stop),
    };
    let ends = [end(first, &generator, a, true), end(second, &counter, b, false)];
    generator.connect(into).unwrap();
    counter.connect(out_of).unwrap();
    let arrived = AtomicU64::new(0);
    let window = WINDOW / size as u64;
    thread::scope(|scope| {
        let relays = ends.map(|end| {
            scope.spawn(move || {
                relay(end);
                cpu_time()
            })
        });
        scope.spawn(|| {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if counter.recv(&mut buffer).is_ok() {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let datagram = vec![4; size];
        let start = Instant::now();
        let (mut sent, mut looked) = (0, Instant::now());
        while start.elapsed() < time {
            if sent - arrived.load(Ordering::Relaxed) < window {
                generator.send(&datagram).unwrap();
                sent += 1;
                looked = Instant::now();
            } else {
                // A datagram lost would shrink the window for ever.
                assert!(looked.elapsed() < Duration::from_secs(2), "datagrams were lost");
                thread::yield_now();
            }
        }
        let elapsed = start.elapsed();
        let arrived = arrived.load(Ordering::Relaxed) as f64;
        stop.store(true, Ordering::Relaxed);
        let cpu: f64 = relays.into_iter().map(|relay| relay.join().unwrap()).sum();
        Measured {
            cpu_per_gb: cpu / (arrived * size as f64 / 1e9),
            datagrams_per_second: arrived / elapsed.as_secs_f64(),
        }
    })
}

/// CPU seconds of this thread so far, in the kernel and outside of it.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn relay_pump(end: End) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        end.stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::UnixStream::from_std(end.stream).unwrap();
        let mut udp = tunnel::udp::UdpSocket::new(end.udp, end.peer).unwrap();
        let (mut reader, mut writer) = stream.split();
        let (mut receiver, mut sender) = udp.split();
        let counters = Counters::default();
        let mut pump = Pump::new(Settings::default());
        let stopped = async {
            while !end.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _end = pump.run(&mut reader, &mut writer, &mut receiver, &mut sender, &counters) => {}
            () = stopped => {}
        }
        if std::env::var_os("RELAY_COUNTERS").is_some() {
            println!("{:?}", counters.snapshot());
        }
    });
}

fn relay_plain(mut end: End) {
    let mut frame = vec![0; 65_536];
    end.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while !end.stop.load(Ordering::Relaxed) {
        if end.is_first {
            let Ok((len, _from)) = end.udp.recv_from(&mut frame[2..]) else { continue };
            frame[..2].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            if end.stream.write_all(&frame[..2 + len]).is_err() {
                break;
            }
        } else {
            let mut header = [0; 2];
            if end.stream.read_exact(&mut header).is_err() {
                continue;
            }
            let datagram = &mut frame[..usize::from(u16::from_be_bytes(header))];
            if end.stream.read_exact(datagram).is_err() {
                break;
            }
            end.udp.send_to(datagram, end.peer).unwrap();
        }
    }
}
