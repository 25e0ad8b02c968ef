//! A service that tries what it may not do, and says how it went.

use std::fs::{self, File};
use std::io::Error;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::{Command, exit};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("end") => {}
        Some("fail") => exit(1),
        _ => rights(),
    }
}

fn say<T>(what: &str, result: Result<T, Error>) {
    match result {
        Ok(_) => println!("{what}: allowed"),
        Err(error) => println!("{what}: {error}"),
    }
}

fn rights() {
    let variables: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    println!("variables: {}", variables.join(" "));
    let mut names: Vec<_> =
        fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    println!("root directory: {}", names.join(" "));
    say("/config", File::open("/config/enclave.toml"));
    say("/proc", File::open("/proc/self/status"));
    say("write /intruder", File::options().write(true).open("/intruder"));
    for port in [8080, 8081, 0] {
        say(&format!("bind {port}"), TcpListener::bind(("::", port)));
    }
    say("bind UDP 5353", UdpSocket::bind(("::", 5353)));
    for to in ["198.51.100.10:7008", "198.51.100.80:443", "198.51.100.80:80"] {
        say(&format!("connect {to}"), TcpStream::connect(to));
    }
    for name in ["aws.com:443", "off-list.example:443"] {
        say(&format!("resolve {name}"), name.to_socket_addrs());
    }
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for to in ["127.0.53.2:53", "127.0.53.1:53", "203.0.113.1:53"] {
        say(&format!("send {to}"), socket.send_to(b"question", to));
    }
    say("thread", std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join()));
    say("process", Command::new("/intruder").spawn());
    for mib in [16, 64] {
        let mut memory = Vec::<u8>::new();
        match memory.try_reserve_exact(mib << 20) {
            Ok(()) => println!("{mib} MiB: allowed"),
            Err(error) => println!("{mib} MiB: {error}"),
        }
    }
    println!("\x1b[2J is escaped");
}
