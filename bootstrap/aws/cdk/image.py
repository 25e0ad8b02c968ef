"""The enclave's image: its measurements and its configuration."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from failure import Failure
from ledger import Ledger, check_fleet, has_windows, single_use
from settings import Settings, is_secret

PCR = re.compile(r"[0-9a-f]{96}")
ZERO = "0" * 96


@dataclass(frozen=True)
class Image:
    """A signer's image."""

    config_path: Path
    eif_path: Path
    measurements_path: Path
    pcrs: list[str]
    key_arn: str
    encryption_context: dict[str, str]
    # Names and ARNs of secrets whose keys clients may use.
    secret_ids: list[str]
    # Keys of its policies that promise to sign a nonce once.
    single_use: list[str]
    # Whether they limit what is signed in a time.
    has_windows: bool
    ledger: Ledger | None
    # AWS's host names that it resolves.
    hosts: list[str]

    @classmethod
    def load(cls, image_dir: Path, config_dir: Path) -> "Image":
        """Reads the output of `make eif`, and compares it with the files that it measures."""
        path = image_dir / "measurements.json"
        eif_path, config_path = image_dir / "enclave.eif", config_dir / "enclave.toml"
        measurements, pcrs = measured(path)
        try:
            eif_digest, config_digest = measurements["sha256"]["eif"], measurements["sha256"]["config"]["enclave.toml"]
        except (KeyError, TypeError) as error:
            raise Failure(f"{path}: {error!r}, expected the output of `make eif`") from error
        if sha256(read(eif_path, "`make eif` writes it")) != eif_digest:
            raise Failure(f"{eif_path} is not the image that {path} measures: run `make eif`, which writes both")
        config = read(config_path, "the image is built from it")
        if sha256(config) != config_digest:
            raise Failure(f"{config_path} was changed after the image was built: run `make eif`, then `wallet policy`")
        return cls(config_path, eif_path, path, pcrs, *kms(config_path, config.decode()))

    def check_ledger(self, settings: Settings) -> None:
        """Refuses a ledger that the stacks do not have, and a fleet that needs one."""
        try:
            check_fleet(self.single_use, self.ledger is not None, settings)
            if self.ledger is not None:
                self.ledger.check(settings, account=self.key_arn.split(":")[4])
        except Failure as failure:
            raise Failure(f"{self.config_path}: {failure}") from failure

    def check_secrets(self, secret_id: str) -> None:
        """Refuses secrets that the instance's role may not read: the first signature would fail."""
        for found in self.secret_ids:
            if not is_secret(found, secret_id):
                raise Failure(
                    f"{self.config_path}: secret_ids of [[signer.clients]] has {found!r}, which the instance's role may not read;"
                    f" expected {secret_id!r} alone, which is key.secret_id in the settings"
                )


def measured(path: Path) -> tuple[dict, list[str]]:
    """The output of `make eif`, and its PCR0, PCR1 and PCR2."""
    text = read_text(path, "`make eif` writes it")
    try:
        measurements = json.loads(text)
        pcrs = [measurements[f"PCR{index}"].lower() for index in range(3)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: {error!r}, expected the output of `make eif`") from error
    for index, pcr in enumerate(pcrs):
        if not PCR.fullmatch(pcr):
            raise Failure(f"{path}: PCR{index} is {pcr!r}, expected 96 hex digits")
        if pcr == ZERO:
            raise Failure(f"{path}: PCR{index} is zero, as in debug mode; expected an image's measurement")
    return measurements, pcrs


def kms(path: Path, text: str) -> tuple[str, dict[str, str], list[str], list[str], bool, Ledger | None, list[str]]:
    """The image's KMS key, encryption context, secret ids, single-use nonces, windows, ledger and AWS host names."""
    config = tomllib.loads(text)
    if "signer" not in config or "kms" not in config:
        raise Failure(f"{path}: expected [signer] and [kms], as in config/signer.toml")
    signer, homes = config["signer"], config.get("home", [])
    secret_ids = [secret_id for caller in [*signer.get("clients", []), *homes] for secret_id in caller.get("secret_ids", [])]
    key_arn, context = config["kms"]["key_arn"], dict(config["kms"]["encryption_context"])
    partition, region = key_arn.split(":")[1], key_arn.split(":")[3]
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    hosts = []
    for table, service in [("kms", "kms"), ("secrets", "secretsmanager")]:
        endpoint = config.get(table, {}).get("endpoint")
        hosts.append(f"{service}.{region}.{suffix}" if endpoint is None else urlsplit(endpoint).hostname)
    ledger = None
    if "ledger" in signer:
        try:
            ledger = Ledger.parse(signer["ledger"], region, suffix)
        except Failure as failure:
            raise Failure(f"{path}: {failure}") from failure
        context |= ledger.context
        hosts.append(ledger.host)
    names = [host for host in hosts if not is_address(host)]
    return key_arn, context, secret_ids, single_use(signer, homes), has_windows(signer, homes), ledger, names


def is_address(host: str) -> bool:
    """Whether it is an IP address, which needs no lookup."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def read(path: Path, hint: str) -> bytes:
    """The file's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; {hint}") from error


def read_text(path: Path, hint: str) -> str:
    """The file's text, without a byte order mark."""
    content = read(path, hint)
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise Failure(f"{path}: byte 0x{byte:02x} at offset {error.start} is not UTF-8; expected UTF-8: {hint}") from error


def sha256(content: bytes) -> str:
    """The digest in hex."""
    return hashlib.sha256(content).hexdigest()
