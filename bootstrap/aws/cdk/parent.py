"""What the instance is given: programs, configuration, and the script that puts them into place."""

import io
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from failure import Failure
from image import Image, read, read_text, sha256
from settings import ROOT, Settings

AWS_DIR = ROOT / "bootstrap/aws"
PORT = 443


@dataclass(frozen=True)
class Delivery:
    """A file for the instance."""

    name: str
    path: Path
    sha256: str


def deliveries(settings: Settings, image: Image, work_dir: Path) -> list[Delivery]:
    """All of them, by the names that user-data.sh knows; those that are made here are in `work_dir`."""
    check_config(settings.parent_dir / "parent.toml")
    check_program(settings.wg_server_path)
    paths = {
        "enclave.eif": image.eif_path,
        "measurements.json": image.measurements_path,
        "wg-server": settings.wg_server_path,
        "parent.toml": settings.parent_dir / "parent.toml",
        "dns-allow-list.txt": allow_list(settings.parent_dir / "dns-allow-list.txt", image.hosts, work_dir),
        "wg-server.service": AWS_DIR / "systemd/wg-server.service",
        "wg-named.service": AWS_DIR / "systemd/wg-named.service",
        "enclave.service": AWS_DIR / "systemd/enclave.service",
    }
    return [Delivery(name, path, sha256(read(path, "the instance needs it"))) for name, path in paths.items()]


def archive(files: list[Delivery], work_dir: Path) -> Delivery:
    """All of them in one, so that the instance asks once. The same files make the same archive."""
    name = "files.tar"
    with tarfile.open(work_dir / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            data = read(file.path, "the instance needs it")
            entry = tarfile.TarInfo(file.name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return Delivery(name, work_dir / name, sha256((work_dir / name).read_bytes()))


def allow_list(path: Path, hosts: list[str], work_dir: Path) -> Path:
    """The operator's list, and the names without which the image has no key; they have its region in them."""
    text = read_text(path, "the names that enclaves may look up")
    names = listed_names(text)
    # `*.name` stands for everything below a name.
    listed = lambda host: host in names or any(name.startswith("*.") and host.endswith(name[1:]) for name in names)  # noqa: E731
    if missing := [host for host in hosts if not listed(host)]:
        text = text.rstrip("\n") + "\n# Whom the image asks for its key; the deployment adds them.\n" + "\n".join(missing) + "\n"
    written = work_dir / "dns-allow-list.txt"
    # wg-server reads UTF-8, whatever the locale of this host has.
    written.write_bytes(text.encode())
    return written


def listed_names(text: str) -> set[str]:
    """The entries as wg-server's dns/allow_list.rs reads them, a line each; splitlines() would end lines at more than that."""
    entries = (line.partition("#")[0].strip() for line in text.split("\n"))
    return {entry.removesuffix(".").lower() for entry in entries if entry}


def check_config(path: Path) -> None:
    """The sample is not what an instance needs; `wg-server check` on the instance says the rest."""
    text = read_text(path, "the parent's configuration")
    try:
        config = tomllib.loads(text)
        nat = config["nat"]
        forwards = [forward["port"] for forward in nat.get("forwards", [])]
        named = [config["attestation"]["measurements_paths"], config["wireguard"]["private_key_path"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path}: {error!r}, expected the parent's configuration") from error
    if "uplink" in nat:
        raise Failure(f"{path}: nat.uplink: leave it out, an instance's interface is not always called {nat['uplink']}")
    if PORT not in forwards:
        raise Failure(f"{path}: no [[nat.forwards]] with port = {PORT}, so no client reaches the enclave")
    expected = [["/etc/wg-server/measurements.json"], "/etc/wg-server/private.key"]
    if named != expected:
        raise Failure(f"{path}: measurements_paths and private_key_path are {named}, and files will be at {expected}")


def check_program(path: Path) -> None:
    """A program that the instance's C library is too old for would fail there, after minutes."""
    done = subprocess.run([AWS_DIR / "glibc.sh", path], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip().removeprefix("error: "))


def user_data(parameters: dict[str, str]) -> str:
    """The script, with its parameters before it."""
    for name, value in parameters.items():
        # Within single quotes everything else is itself.
        if "'" in value:
            raise Failure(f"{name}: {value!r} has a quote")
    exports = "".join(f"export {name}='{value}'\n" for name, value in parameters.items())
    return "#!/bin/bash\n" + exports + (AWS_DIR / "user-data.sh").read_text()
