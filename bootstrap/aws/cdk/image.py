"""The enclave's image: what it measures, and the configuration that is in it."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from failure import Failure
from settings import is_secret

PCR = re.compile(r"[0-9a-f]{96}")
ZERO = "0" * 96


@dataclass(frozen=True)
class Image:
    """An image that may have keys."""

    config_path: Path
    eif_path: Path
    measurements_path: Path
    pcrs: list[str]
    key_arn: str
    encryption_context: dict[str, str]
    # Those of the secrets' names and ARNs that clients may have keys of.
    secret_ids: list[str]
    # Whom it asks of AWS.
    hosts: list[str]

    @classmethod
    def load(cls, image_dir: Path, config_dir: Path) -> "Image":
        """Reads what `make eif` wrote, and holds it against the files that it is about."""
        path = image_dir / "measurements.json"
        eif_path, config_path = image_dir / "enclave.eif", config_dir / "enclave.toml"
        measurements, pcrs = measured(path)
        try:
            eif_digest, config_digest = measurements["sha256"]["eif"], measurements["sha256"]["config"]["enclave.toml"]
        except (KeyError, TypeError) as error:
            raise Failure(f"{path}: {error!r}, expected what `make eif` writes") from error
        if sha256(read(eif_path, "`make eif` writes it")) != eif_digest:
            raise Failure(f"{eif_path} is not the image that {path} measures: `make eif` writes both")
        config = read(config_path, "the image is made of it")
        if sha256(config) != config_digest:
            raise Failure(f"{config_path} was changed after the image was made: `make eif`, and `wallet policy` again")
        return cls(config_path, eif_path, path, pcrs, *kms(config_path, config.decode()))

    def check_secrets(self, secret_id: str) -> None:
        """A client's key that the instance's role may not read would be missed at its first signature."""
        for found in self.secret_ids:
            if not is_secret(found, secret_id):
                raise Failure(
                    f"{self.config_path}: secret_ids of [[signer.clients]] has {found!r}, which the instance's role may not read;"
                    f" expected {secret_id!r} alone, which is key.secret_id in the settings"
                )


def measured(path: Path) -> tuple[dict, list[str]]:
    """What `make eif` wrote, and PCR0, PCR1 and PCR2 of it."""
    text = read_text(path, "`make eif` writes it")
    try:
        measurements = json.loads(text)
        pcrs = [measurements[f"PCR{index}"].lower() for index in range(3)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: {error!r}, expected what `make eif` writes") from error
    for index, pcr in enumerate(pcrs):
        if not PCR.fullmatch(pcr):
            raise Failure(f"{path}: PCR{index} is {pcr!r}, expected 96 hex digits")
        if pcr == ZERO:
            raise Failure(f"{path}: PCR{index} is zero, as in debug mode, where every image measures the same")
    return measurements, pcrs


def kms(path: Path, text: str) -> tuple[str, dict[str, str], list[str], list[str]]:
    """Which key the image asks for, what ciphertexts are bound to, where they are, and the names of who is asked."""
    config = tomllib.loads(text)
    if "signer" not in config or "kms" not in config:
        raise Failure(f"{path}: has no [signer] and [kms], so nothing signs; config/signer.toml is a sample")
    clients = config["signer"].get("clients", [])
    secret_ids = [secret_id for client in clients for secret_id in client.get("secret_ids", [])]
    key_arn = config["kms"]["key_arn"]
    partition, region = key_arn.split(":")[1], key_arn.split(":")[3]
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    hosts = []
    for table, service in [("kms", "kms"), ("secrets", "secretsmanager")]:
        endpoint = config.get(table, {}).get("endpoint")
        host = f"{service}.{region}.{suffix}" if endpoint is None else urlsplit(endpoint).hostname
        if not is_address(host):
            hosts.append(host)
    return key_arn, config["kms"]["encryption_context"], secret_ids, hosts


def is_address(host: str) -> bool:
    """Whether nobody has to look it up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def read(path: Path, hint: str) -> bytes:
    """The file's bytes; without it, what is missing."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; {hint}") from error


def read_text(path: Path, hint: str) -> str:
    """The file's text, without the byte order mark that some editors put in front of it."""
    content = read(path, hint)
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise Failure(f"{path}: byte 0x{byte:02x} at offset {error.start} is not UTF-8; expected UTF-8: {hint}") from error


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()
