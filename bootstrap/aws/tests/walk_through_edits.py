"""What an operator changes in the files that ship: by the file, and what the document says of the change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from walk_through_document import Step


@dataclass(frozen=True)
class Edit:
    """A text, which the file has once, and what comes in its place."""

    old: str
    new: str

    def apply(self, path: str, text: str, names: Mapping[str, str]) -> str:
        """The file's text after it."""
        old, new = placed(self.old, names), placed(self.new, names)
        if (times := text.count(old)) != 1:
            raise ValueError(f"{path} has {times} times {old!r}, expected it once, to be changed into {new!r}")
        return text.replace(old, new)


def placed(text: str, names: Mapping[str, str]) -> str:
    """The text with what its names stand for."""
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z0-9-])({alternatives})(?![A-Za-z0-9])", lambda found: names[found[0]], text)


# By the words after `$EDITOR`: the file, then the comment. What other commands printed goes by its name in the document.
DOCUMENT = {
    (
        "config/aws.toml",
        "key.admins, with the role of `cdk bootstrap`; key.secret_id; alarm; network",
    ): [
        Edit('"arn:aws:iam::111122223333:role/KeyAdmin"', '"ADMIN-1"'),
        Edit('"arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"', '"ADMIN-2"'),
        Edit('# email = "security@example.com"', 'email = "security@example.com"'),
        Edit("clients = []", 'clients = ["198.51.100.0/24"]'),
    ],
    (
        "config/enclave/enclave.toml",
        "signer.client_ca is ca.pem; secret_ids of the client has SecretId; kms.key_arn is KeyArn; chain ids, recipients, limits",
    ): [
        Edit("CLIENT-CA-OF-THE-SAMPLE", "CLIENT-CA"),
        Edit('secret_ids = ["prod/hot-wallet"]', 'secret_ids = ["SecretId"]'),
        Edit('key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"', 'key_arn = "KeyArn"'),
        # So that the walk need not wait for ten minutes until a key that was replaced or revoked is not used any more.
        Edit('key_cache_time = "10m"', 'key_cache_time = "5s"'),
    ],
    (
        "config/aws.toml",
        'function.client_secret_id = "clients/wallet"',
    ): [Edit('# client_secret_id = "clients/wallet"', 'client_secret_id = "clients/wallet"')],
    (
        "config/parent/parent.toml",
        "no nat.uplink; a [[nat.forwards]] from 443 to 203.0.113.2:443",
    ): [
        Edit('\nuplink = "eth0"\n', "\n"),
        Edit("\n# [[nat.forwards]]\n# port = 443\n", "\n[[nat.forwards]]\nport = 443\n"),
        Edit('\n# to = "203.0.113.2:443"\n', '\nto = "203.0.113.2:443"\n'),
    ],
    (
        "config/enclave/enclave.toml",
        "what is to be different; or take a newer release of this project",
    ): [Edit('max_value = "1.5 ether"', 'max_value = "2 ether"')],
    (
        "config/aws.toml",
        'files.former_measurements_paths = ["former/measurements.json"]',
    ): [Edit("# former_measurements_paths = ", "former_measurements_paths = ")],
    (
        "config/aws.toml",
        "files.former_measurements_paths = []",
    ): [Edit('former_measurements_paths = ["former/measurements.json"]', "former_measurements_paths = []")],
}

# What is different in the lab, beside the document's own edits.
LAB = {
    # The servers that play AWS have certificates of the lab's authority.
    "config/enclave/enclave.toml": [Edit('# roots_path = "web-ca.pem"', 'roots_path = "web-ca.pem"')],
    # The lab's attestation documents are not signed by AWS hardware.
    "config/parent/parent.toml": [
        Edit('# root_path = "/etc/wg-server/lab-root.pem"', 'root_path = "/etc/wg-server/lab-root.pem"')
    ],
}

PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)


def sample_ca(root: Path) -> str:
    """The CA in the sample of the signer's configuration, which every operator replaces."""
    [pem] = PEM.findall((root / "config/signer.toml").read_text())
    return pem


def edit(root: Path, step: Step, names: Mapping[str, str], is_first: bool) -> None:
    """Changes the file as the step says; the first time, as the lab needs it, too."""
    path, comment = step.edit
    if (path, comment) not in DOCUMENT:
        known = [each for file, each in DOCUMENT if file == path]
        raise ValueError(f"docs/aws.md:{step.line}: no edit of {path} is known for {comment!r}, expected one of {known}")
    text = (root / path).read_text()
    for each in DOCUMENT[path, comment] + (LAB.get(path, []) if is_first else []):
        text = each.apply(path, text, names)
    (root / path).write_text(text)
