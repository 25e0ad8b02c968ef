"""The instance's files: programs, configuration, and the script that installs them."""

import io
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from failure import Failure
from image import Image, read, read_text, sha256
from settings import VPC_NETWORK, Settings
from table import ROOT

AWS_DIR = ROOT / "bootstrap/aws"
PORT = 443
# Of ready.py. A load balancer's HTTPS health checks fail for targets with TLS 1.3 alone, as the enclave: the parent asks it
# (https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html).
READY_PORT = 8080
# How an instance of a fleet shows that it is ready, and how it leaves.
FLEET = ["ready.py", "fleet-ready.service", "leave.sh", "fleet-leave.service"]


@dataclass(frozen=True)
class Delivery:
    """A file for the instance."""

    name: str
    path: Path
    sha256: str


def deliveries(settings: Settings, image: Image, work_dir: Path) -> list[Delivery]:
    """All files, under the names that user-data.sh expects. Generated files are in `work_dir`."""
    check_config(settings.parent_dir / "parent.toml", settings.is_private, settings.is_fleet)
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
        "wg-logs.service": AWS_DIR / "systemd/wg-logs.service",
        "wg-metrics.service": AWS_DIR / "systemd/wg-metrics.service",
        "wg-watchdog.service": AWS_DIR / "systemd/wg-watchdog.service",
        "instance-unhealthy.service": AWS_DIR / "systemd/instance-unhealthy.service",
        "instance-unhealthy.sh": AWS_DIR / "instance-unhealthy.sh",
    }
    if settings.is_fleet:
        paths |= {name: AWS_DIR / "fleet" / name for name in FLEET}
    return [Delivery(name, path, sha256(read(path, "the instance needs it"))) for name, path in paths.items()]


def archive(files: list[Delivery], work_dir: Path) -> Delivery:
    """One reproducible archive of all files, so that the instance fetches once."""
    name = "files.tar"
    with tarfile.open(work_dir / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            data = read(file.path, "the instance needs it")
            entry = tarfile.TarInfo(file.name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return Delivery(name, work_dir / name, sha256((work_dir / name).read_bytes()))


def allow_list(path: Path, hosts: list[str], work_dir: Path) -> Path:
    """The operator's list with the AWS host names that the image needs for its key."""
    text = read_text(path, "the names that enclaves may look up")
    names = listed_names(text)
    # `*.name` matches every name below it.
    listed = lambda host: host in names or any(name.startswith("*.") and host.endswith(name[1:]) for name in names)  # noqa: E731
    if missing := [host for host in hosts if not listed(host)]:
        text = text.rstrip("\n") + "\n# Needed by the image for its key; the deployment adds them.\n" + "\n".join(missing) + "\n"
    written = work_dir / "dns-allow-list.txt"
    # wg-server reads UTF-8, whatever this host's locale.
    written.write_bytes(text.encode())
    return written


def listed_names(text: str) -> set[str]:
    """The entries, one a line, as in wg-server's dns/allow_list.rs. Not splitlines(), which splits at more characters."""
    entries = (line.partition("#")[0].strip() for line in text.split("\n"))
    return {entry.removesuffix(".").lower() for entry in entries if entry}


def check_config(path: Path, is_private: bool = False, is_fleet: bool = False) -> None:
    """Refuses an unedited sample; `wg-server check` on the instance checks the rest."""
    text = read_text(path, "the parent's configuration")
    try:
        config = tomllib.loads(text)
        nat = config["nat"]
        forwards = [forward["port"] for forward in nat.get("forwards", [])]
        destinations = config.get("egress", {}).get("destinations", [])
        named = [config["attestation"]["measurements_paths"], config["wireguard"]["private_key_path"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path}: {error!r}, expected the parent's configuration") from error
    if "uplink" in nat:
        raise Failure(f"{path}: nat.uplink: expected none: an instance's interface is not always called {nat['uplink']}")
    if PORT not in forwards:
        raise Failure(f"{path}: no [[nat.forwards]] with port = {PORT}, expected one: clients reach the enclave through it")
    if is_fleet and READY_PORT in forwards:
        raise Failure(
            f"{path}: [[nat.forwards]] with port = {READY_PORT}, expected another port: the load balancer of a fleet asks there"
            " whether the instance is ready"
        )
    expected = [["/etc/wg-server/measurements.json"], "/etc/wg-server/private.key"]
    if named != expected:
        raise Failure(f"{path}: measurements_paths and private_key_path are {named}, expected {expected}")
    if is_private and not any(opens(each) for each in destinations):
        raise Failure(
            f'{path}: egress.destinations: {destinations}, expected also "{VPC_NETWORK}:443": network.private is true, so KMS and'
            " Secrets Manager have addresses of the VPC"
        )


def opens(destination: str) -> bool:
    """Whether it lets enclaves connect to the endpoints of the VPC."""
    network, _, port = destination.partition(":")
    try:
        return destination == "anywhere" or (port in ("", "443") and VPC_NETWORK.subnet_of(IPv4Network(network)))
    except ValueError:
        return False


def forward_target(path: Path) -> str:
    """The enclave's address and port, behind the parent's."""
    forwards = tomllib.loads(read_text(path, "the parent's configuration"))["nat"]["forwards"]
    return next(forward["to"] for forward in forwards if forward["port"] == PORT)


def check_program(path: Path) -> None:
    """Refuses a program that needs a newer C library than the instance's: it would fail after minutes."""
    done = subprocess.run([AWS_DIR / "glibc.sh", path], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip().removeprefix("error: "))


def user_data(parameters: dict[str, str]) -> str:
    """The script, after its parameters."""
    for name, value in parameters.items():
        # Single quotes protect every other character.
        if "'" in value:
            raise Failure(f"{name}: {value!r}, expected no single quote")
    exports = "".join(f"export {name}='{value}'\n" for name, value in parameters.items())
    return "#!/bin/bash\n" + exports + (AWS_DIR / "user-data.sh").read_text()
