//! The parent's configuration: the files that ship, with the edits of docs/aws.md and the lab's own root.

use anyhow::{Result, ensure};

/// The operator's edits: no `nat.uplink`, and a forward to the signer.
const OPERATOR: [(&str, &str); 3] = [
    ("\nuplink = \"eth0\"\n", "\n"),
    ("\n# [[nat.forwards]]\n# port = 443\n", "\n[[nat.forwards]]\nport = 443\n"),
    ("\n# to = \"203.0.113.2:443\"\n", "\nto = \"203.0.113.2:443\"\n"),
];
/// The lab's edits: its own root signs the documents of its enclaves, and they reach the self-test servers by address.
const LAB: [(&str, &str); 2] = [
    ("\n# root_path = \"/etc/wg-server/lab-root.pem\"\n", "\nroot_path = \"/etc/wg-server/lab-root.pem\"\n"),
    (
        "\ndestinations = [\"169.254.169.254:80\"]\n",
        "\ndestinations = [\"169.254.169.254:80\", \"198.51.100.10\", \"2001:db8:100::10\"]\n",
    ),
];
/// The names that a signer needs in the region of the lab's key.
const NAMES: [(&str, &str); 2] = [
    ("\n# kms.eu-central-1.amazonaws.com\n", "\nkms.eu-central-1.amazonaws.com\n"),
    ("\n# secretsmanager.eu-central-1.amazonaws.com\n", "\nsecretsmanager.eu-central-1.amazonaws.com\n"),
];

/// The lab's `parent.toml`.
///
/// # Errors
/// The file that ships does not have the text to edit.
pub fn parent(shipped: &str) -> Result<String> {
    edit(&edit(shipped, &OPERATOR)?, &LAB)
}

/// The lab's `dns-allow-list.txt`.
///
/// # Errors
/// As [`parent`].
pub fn allow_list(shipped: &str) -> Result<String> {
    edit(shipped, &NAMES)
}

fn edit(text: &str, changes: &[(&str, &str)]) -> Result<String> {
    changes.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.matches(from).count() == 1, "expected {from:?} once, to replace it with {to:?}");
        Ok(text.replacen(from, to, 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internet::SELF_TEST_SERVERS;

    const PARENT: &str = include_str!("../../../../config/parent/parent.toml");

    #[test]
    fn the_files_that_ship_can_be_changed_as_the_documents_say() {
        let text = parent(PARENT).unwrap();
        assert!(!text.contains("uplink = \"eth0\"") && text.contains("\nto = \"203.0.113.2:443\"\n"), "{text}");
        for server in SELF_TEST_SERVERS {
            assert!(text.contains(&format!("\"{}\"", server.ip())), "{server}: {text}");
        }
        let list = allow_list(include_str!("../../../../config/parent/dns-allow-list.txt")).unwrap();
        assert!(list.lines().any(|line| line == "secretsmanager.eu-central-1.amazonaws.com"), "{list}");
    }

    #[test]
    fn what_is_not_there_to_be_changed_is_named() {
        let error = parent(&PARENT.replace("uplink = \"eth0\"", "uplink = \"ens5\"")).unwrap_err().to_string();
        assert!(error.contains("uplink = \\\"eth0\\\""), "{error}");
    }
}
