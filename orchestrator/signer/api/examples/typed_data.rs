//! Signs typed data, one piece a line, with a test key: prints each signature, or why there is none.
//! bootstrap/clients/typed-data compares them with those of another wallet.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::io::BufRead;

use anyhow::{Context, Result};
use ethereum::hex;
use ethereum::key::SecretKey;
use ethereum::signable::{Signable, Signed, Unsigned};
use signer_api::field::Field;
use signer_api::typed_data;

fn main() -> Result<()> {
    let key = SecretKey::parse("01".repeat(32).as_bytes())?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read standard input")?;
        match typed_data::parse(&Field::new("data", line.trim())) {
            Ok(data) => match Unsigned::new(&Signable::TypedData(data)).sign(&key)? {
                Signed::TypedData(signature) => println!("{}", hex::prefixed(&signature.bytes)),
                Signed::Transaction(_) | Signed::Authorization(_) | Signed::Message(_) => println!("another kind"),
            },
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
