//! OpenSSL and this crate read each other's messages.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use kms::Recipient;
use kms::seal::{Form, encode, seal};

/// Its standard output; `None` without the program.
fn openssl<S: AsRef<OsStr>>(dir: &Path, arguments: &[S]) -> Option<Vec<u8>> {
    let output = match Command::new("openssl").args(arguments).current_dir(dir).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// A key pair that OpenSSL made, in `key.pem` too.
fn recipient(dir: &Path) -> Option<Recipient> {
    openssl(dir, &words("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem"))?;
    let pkcs8 = openssl(dir, &words("pkcs8 -topk8 -nocrypt -in key.pem -outform DER"))?;
    Some(Recipient::from_pkcs8(&pkcs8).unwrap())
}

#[test]
fn openssl_opens_what_seal_makes_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recipient) = recipient(dir.path()) else {
        return eprint_skipped();
    };
    let plaintext = [b"0123456789abcdef".repeat(5), b"tail".to_vec()].concat();
    let message = seal(recipient.public_key(), &plaintext).unwrap();
    for form in [Form::Definite, Form::Indefinite, Form::Pieces(16), Form::Pieces(7)] {
        fs::write(dir.path().join("message"), encode(&message, form)).unwrap();
        let opened = openssl(dir.path(), &words("cms -decrypt -inform DER -inkey key.pem -in message")).unwrap();
        assert_eq!(opened, plaintext, "{form:?}");
    }
}

#[test]
fn what_openssl_makes_opens() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recipient) = recipient(dir.path()) else {
        return eprint_skipped();
    };
    let identifier = openssl(dir.path(), &words("pkey -in key.pem -pubout -outform DER -out spki.der"))
        .and_then(|_| openssl(dir.path(), &words("dgst -sha256 -r spki.der")))
        .map(|line| String::from_utf8(line).unwrap().split_whitespace().next().unwrap().to_owned())
        .unwrap();
    let extension = format!("subjectKeyIdentifier={identifier}");
    let certificate = "req -x509 -key key.pem -subj /CN=test -days 1 -out certificate.pem -addext";
    openssl(dir.path(), &[&words(certificate)[..], &[&extension]].concat()).unwrap();

    for length in [1, 64, 4000] {
        let plaintext = vec![b'x'; length];
        fs::write(dir.path().join("plaintext"), &plaintext).unwrap();
        for extra in ["", "-stream"] {
            let encrypt = format!(
                "cms -encrypt -binary -aes-256-cbc -in plaintext -outform DER -out message {extra} -keyid \
                 -recip certificate.pem -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha256"
            );
            openssl(dir.path(), &words(&encrypt)).unwrap();
            let message = fs::read(dir.path().join("message")).unwrap();
            let opened = recipient.open(&message).unwrap_or_else(|error| panic!("{length} {extra}: {error:?}"));
            assert_eq!(opened.expose(), plaintext);
        }
    }
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output should know that it compared nothing")]
fn eprint_skipped() {
    eprintln!("no openssl here: nothing compared");
}
