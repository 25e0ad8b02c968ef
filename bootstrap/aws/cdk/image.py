"""The enclave's image: what it measures, and the configuration that is in it."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from failure import Failure

PCR = re.compile(r"[0-9a-f]{96}")
ZERO = "0" * 96


@dataclass(frozen=True)
class Image:
    """An image that may have keys."""

    eif_path: Path
    measurements_path: Path
    pcrs: list[str]
    key_arn: str
    encryption_context: dict[str, str]

    @classmethod
    def load(cls, image_dir: Path, config_dir: Path) -> "Image":
        """Reads what `make eif` wrote, and holds it against the files that it is about."""
        path = image_dir / "measurements.json"
        eif_path, config_path = image_dir / "enclave.eif", config_dir / "enclave.toml"
        text = read(path, "`make eif` writes it").decode()
        try:
            measurements = json.loads(text)
            pcrs = [measurements[f"PCR{index}"].lower() for index in range(3)]
            eif_digest, config_digest = measurements["sha256"]["eif"], measurements["sha256"]["config"]["enclave.toml"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure(f"{path}: {error!r}, expected what `make eif` writes") from error
        for index, pcr in enumerate(pcrs):
            if not PCR.fullmatch(pcr):
                raise Failure(f"{path}: PCR{index} is {pcr!r}, expected 96 hex digits")
            if pcr == ZERO:
                raise Failure(f"{path}: PCR{index} is zero, as in debug mode, where every image measures the same")
        if sha256(read(eif_path, "`make eif` writes it")) != eif_digest:
            raise Failure(f"{eif_path} is not the image that {path} measures: `make eif` writes both")
        config = read(config_path, "the image is made of it")
        if sha256(config) != config_digest:
            raise Failure(f"{config_path} was changed after the image was made: `make eif`, and `wallet policy` again")
        return cls(eif_path, path, pcrs, *kms(config_path, config.decode()))


def kms(path: Path, text: str) -> tuple[str, dict[str, str]]:
    """Which key the image asks for, and what ciphertexts are bound to."""
    config = tomllib.loads(text)
    if "signer" not in config or "kms" not in config:
        raise Failure(f"{path}: has no [signer] and [kms], so nothing signs; config/signer.toml is a sample")
    return config["kms"]["key_arn"], config["kms"]["encryption_context"]


def read(path: Path, hint: str) -> bytes:
    """The file's bytes; without it, what is missing."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; {hint}") from error


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()
