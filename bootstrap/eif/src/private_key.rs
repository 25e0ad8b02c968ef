//! Finds private keys. Anyone who can read an image's file can read all of it, so it must not contain any.

/// Why the file looks like a secret; `None` if it does not.
pub(crate) fn sign_of_secret(name: &str, bytes: &[u8]) -> Option<&'static str> {
    sign_in_name(name).or_else(|| sign_in_der(bytes)).or_else(|| sign_in_text(&String::from_utf8_lossy(bytes)))
}

fn sign_in_name(name: &str) -> Option<&'static str> {
    const SUFFIXES: [&str; 8] = [".key", ".p8", ".p12", ".pfx", ".jks", ".keystore", ".ppk", ".gpg"];
    const STEMS: [&str; 4] = ["id_rsa", "id_ecdsa", "id_ed25519", "id_dsa"];
    let name = name.to_ascii_lowercase();
    (SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || STEMS.contains(&name.as_str()))
        .then_some("its name is typical of a private key")
}

/// PKCS #8, PKCS #1, SEC 1 and PKCS #12 all are a SEQUENCE that starts with a small version number; a certificate starts
/// with another SEQUENCE.
fn sign_in_der(bytes: &[u8]) -> Option<&'static str> {
    let body = match bytes {
        [0x30, 0x82, _, _, body @ ..] | [0x30, 0x81, _, body @ ..] => body,
        [0x30, length, body @ ..] if *length < 0x80 => body,
        _ => return None,
    };
    matches!(body, [0x02, 0x01, 0 | 1 | 3, ..]).then_some("it holds a private key in DER")
}

fn sign_in_text(text: &str) -> Option<&'static str> {
    if text.contains("PRIVATE KEY-----") || text.contains("PRIVATE KEY BLOCK-----") {
        return Some("it holds a private key in PEM");
    }
    if text.contains("AGE-SECRET-KEY-1") {
        return Some("it holds an age secret key");
    }
    if text.contains("PuTTY-User-Key-File") {
        return Some("it holds a PuTTY private key");
    }
    let alone = text.trim();
    if is_base64_of_32_bytes(alone) {
        return Some("it is one base64 value of 32 bytes, as `wg genkey` writes (put a public key in enclave.toml)");
    }
    let hex = alone.strip_prefix("0x").unwrap_or(alone);
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some("it is one hex value of 32 bytes, like a raw private key");
    }
    text.lines().any(assigns_secret).then_some("it assigns a value to a setting named like a secret")
}

fn is_base64_of_32_bytes(text: &str) -> bool {
    text.len() == 44
        && text.strip_suffix('=').is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
        })
}

/// Comments count: they are in the image as well.
fn assigns_secret(line: &str) -> bool {
    const NAMES: [&str; 10] = [
        "accesskeysecret",
        "awssecretaccesskey",
        "mnemonic",
        "passphrase",
        "password",
        "presharedkey",
        "privatekey",
        "secretaccesskey",
        "secretkey",
        "sessiontoken",
    ];
    let Some((name, value)) = line.split_once(['=', ':']) else {
        return false;
    };
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_lowercase()).collect();
    let value = value.trim_matches([' ', '\t', '"', '\'', ',']);
    NAMES.contains(&name.as_str()) && !value.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_of_every_usual_form_are_seen() {
        // Spelled in halves so that scanners for leaked keys pass over this file.
        let pem = |kind: &str| format!("-----BEGIN {kind}PRIVATE {}-----\nAAAA\n", "KEY");
        let cases: [(&str, Vec<u8>); 16] = [
            ("a.pem", pem("").into()),
            ("a.pem", pem("RSA ").into()),
            ("a.pem", pem("EC ").into()),
            ("a.pem", pem("OPENSSH ").into()),
            ("a.pem", pem("ENCRYPTED ").into()),
            ("wg.conf", b"[Interface]\nPrivateKey = abc=\n".into()),
            ("wg.conf", b"PresharedKey=abc=\n".into()),
            ("x.toml", b"private_key = \"abc\"\n".into()),
            ("x.toml", b"# private_key = \"abc\"\n".into()),
            ("x.json", b"{\n  \"secretAccessKey\": \"abc\",\n".into()),
            ("x", format!("{}=\n", "A".repeat(43)).into()),
            ("x", format!("0x{}\n", "ab".repeat(32)).into()),
            ("x.der", b"\x30\x82\x04\xbe\x02\x01\x00\x30\x0d".into()),
            ("x.der", b"\x30\x77\x02\x01\x01\x04\x20".into()),
            ("server.KEY", b"anything".into()),
            ("id_ed25519", b"anything".into()),
        ];
        for (name, bytes) in cases {
            assert!(sign_of_secret(name, &bytes).is_some(), "{name}: {}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_a_measured_configuration_holds_is_let_through() {
        let public_key = "A".repeat(43);
        let blind = format!("[peer]\npublic_key = \"{public_key}=\"\n");
        let cases: [(&str, &[u8]); 6] = [
            ("enclave.toml", b"[tunnel]\nmtu = 15360 # private keys are made at boot\n"),
            ("enclave.toml", blind.as_bytes()),
            ("ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
            ("ca.der", b"\x30\x82\x04\xbe\x30\x82\x03\xa6\xa0\x03\x02\x01\x02"),
            ("x.toml", b"private_key_path = \"/etc/wg-server/x\"\n"),
            ("x.toml", b"key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/1\"\n"),
        ];
        for (name, bytes) in cases {
            assert_eq!(sign_of_secret(name, bytes), None, "{name}");
        }
    }
}
