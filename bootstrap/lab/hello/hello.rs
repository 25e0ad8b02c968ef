//! A service for an enclave, as small as it gets: answers HTTP on the port that it is given.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> Result<()> {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("expected a port");
    let name = std::env::var("NAME").unwrap_or_else(|_| "an enclave".into());
    let listener = TcpListener::bind(("::", port))?;
    println!("listening on port {port}");
    for stream in listener.incoming() {
        if let Err(error) = answer(stream?, &name) {
            println!("{error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = String::new();
    // One client at a time: a request is one line that is worth reading, and not longer than this.
    BufReader::new((&stream).take(4096)).read_line(&mut request)?;
    println!("{}: {}", stream.peer_addr()?, request.trim_end());
    let body = format!("hello from {name}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
