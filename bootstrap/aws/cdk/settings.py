"""config/aws.toml."""

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import instance_type
from failure import Failure
from table import Table

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NAMES = "1 to 32 lower case letters, digits and hyphens, a letter first"
# As in `wallet policy`: no wildcards.
PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/-]+)")
SECRET_ID = re.compile(r"[A-Za-z0-9/+=.@_-]{1,512}")
# A name, or an ARN with Secrets Manager's suffix.
CLIENT_SECRET_ID = re.compile(
    r"[A-Za-z0-9/+=.@_-]{1,512}|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/+=.@_-]+-[A-Za-z0-9]{6}"
)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
TOPIC_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
# No dots: the enclave's TLS asks for the bucket's name before S3's.
BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
ID = "([0-9a-f]{8}|[0-9a-f]{17})"
# Of the VPC that the stack makes.
VPC_NETWORK = ipaddress.IPv4Network("10.0.0.0/16")
# The fewest of a fleet, and those that it has unless the settings name them.
ZONES = 2
ZONE = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]")


@dataclass(frozen=True)
class LedgerSettings:
    """[ledger]."""

    bucket: str
    max_retention_years: int
    alarm_gib: int


@dataclass(frozen=True)
class Settings:
    """The parsed file, with absolute paths."""

    name: str
    admins: list[str]
    secret_id: str
    alarm_email: str | None
    alarm_topic_arn: str | None
    vpc_id: str | None
    subnet_id: str | None
    subnet_ids: list[str]
    zone: str | None
    zones: list[str]
    is_private: bool
    clients: list[str]
    instance_type: str
    ami_id: str | None
    cpus: int
    memory_mib: int
    cid: int
    image_dir: Path
    config_dir: Path
    former_measurements_paths: list[Path]
    key_policy_path: Path
    wg_server_path: Path
    parent_dir: Path
    lambda_path: Path
    client_secret_id: str | None
    may_set_key: bool
    instances: int
    ledger: LedgerSettings | None

    @property
    def is_fleet(self) -> bool:
        """Whether there is a group of instances, behind a load balancer."""
        return self.instances > 1

    @property
    def key_stack(self) -> str:
        """The name of the stack, which is also its name in the app: `cdk.sh key deploy NAME-key` finds it."""
        return f"{self.name}-key"

    @property
    def enclave_stack(self) -> str:
        """The name of the other stack."""
        return f"{self.name}-enclave"

    @property
    def group(self) -> str:
        """The name of the fleet's Auto Scaling group, which its instances know before it exists."""
        return f"{self.name}-fleet"

    @property
    def instance_role(self) -> str:
        """The name of the role."""
        return f"{self.name}-instance"

    @property
    def lambda_role(self) -> str:
        """The name of the role."""
        return f"{self.name}-lambda"

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Reads the file; names the first error."""
        try:
            return cls.parse(path.read_text(), os.environ.get("CDK_PREFIX", ""))
        except (OSError, ValueError) as error:
            raise Failure(f"{path}: {error}") from error
        except Failure as error:
            raise Failure(f"{path}: {error}") from error

    @classmethod
    def parse(cls, text: str, prefix: str = "") -> "Settings":
        """Parses the file's text. The prefix comes before its name."""
        file = Table("", tomllib.loads(text))
        key, network, instance = file.table("key"), file.table("network"), file.table("instance")
        enclave, files = file.table("enclave"), file.table("files")
        alarm, function, fleet = (file.optional_table(name) for name in ("alarm", "function", "fleet"))
        ledger = file.table("ledger") if "ledger" in file.values else None
        settings = cls(
            name=prefixed(prefix, file.text("name", NAME, NAMES)),
            admins=key.texts("admins", PRINCIPAL, "arn:aws:iam::ACCOUNT:role/NAME, user/NAME or root"),
            secret_id=key.text("secret_id", SECRET_ID, "a secret's name, such as prod/hot-wallet"),
            alarm_email=alarm.optional("email", EMAIL, "an address, such as security@example.com"),
            alarm_topic_arn=alarm.optional("topic_arn", TOPIC_ARN, "arn:aws:sns:REGION:ACCOUNT:NAME"),
            vpc_id=network.optional("vpc_id", re.compile(rf"vpc-{ID}"), "a VPC's id"),
            subnet_id=network.optional("subnet_id", re.compile(rf"subnet-{ID}"), "a subnet's id"),
            subnet_ids=network.optional_texts("subnet_ids", re.compile(rf"subnet-{ID}"), "subnets' ids"),
            zone=network.optional("zone", ZONE, "an availability zone, such as eu-central-1a"),
            zones=network.optional_texts("zones", ZONE, "availability zones, such as eu-central-1a"),
            is_private=network.optional_flag("private"),
            clients=network.texts("clients", None, ""),
            instance_type=instance.text("type", instance_type.NAME, "an instance type, such as c6i.xlarge"),
            ami_id=instance.optional("ami_id", re.compile(rf"ami-{ID}"), "an AMI's id"),
            cpus=enclave.number("cpus", 1, 128),
            memory_mib=enclave.number("memory_mib", 256, 1 << 20),
            # CIDs 0 to 3 are reserved for the hypervisor, the host and the parent.
            cid=enclave.number("cid", 4, (1 << 32) - 2),
            image_dir=files.path("image_dir"),
            config_dir=files.path("config_dir"),
            former_measurements_paths=files.optional_paths("former_measurements_paths"),
            key_policy_path=files.path("key_policy_path"),
            wg_server_path=files.path("wg_server_path"),
            parent_dir=files.path("parent_dir"),
            lambda_path=files.path("lambda_path"),
            client_secret_id=function.optional("client_secret_id", CLIENT_SECRET_ID, "a secret's name, or its whole ARN"),
            may_set_key=function.optional_flag("may_set_key"),
            instances=fleet.optional_number("instances", 1, 100, default=1),
            ledger=None if ledger is None else parse_ledger(ledger),
        )
        for table in (file, key, alarm, network, instance, enclave, files, function, fleet):
            table.end()
        settings.check()
        return settings

    def check(self) -> None:
        """Checks values that depend on each other."""
        if not self.admins:
            raise Failure("key.admins: empty, expected at least one: without it, the key's policy could never change")
        if self.alarm_email is not None and self.alarm_topic_arn is not None:
            raise Failure("alarm: expected email or topic_arn, not both")
        self.check_network()
        if len(self.former_measurements_paths) > 1:
            raise Failure(
                f"files.former_measurements_paths: {len(self.former_measurements_paths)} files, expected at most one: at most"
                " two images may use the key, the running one and the new one. End the upgrade under way first"
            )
        # Otherwise a compromised parent could sign as the function, and `set_key` could overwrite the secret.
        if self.client_secret_id is not None and is_secret(self.client_secret_id, self.secret_id):
            raise Failure(
                f"function.client_secret_id: {self.client_secret_id!r}, expected another secret than key.secret_id, which the"
                " instance reads"
            )
        instance_type.check(self.instance_type, self.cpus, self.memory_mib)
        for client in self.clients:
            try:
                ipaddress.IPv4Network(client)
            except ValueError as error:
                raise Failure(f"network.clients: {client!r}: {error}, expected such as 10.0.0.0/16") from error

    def check_network(self) -> None:
        """Checks that the place of each instance is given, or none."""
        for name, value in (("zone", self.zone), ("subnet_id", self.subnet_id)):
            if value is not None and self.is_fleet:
                raise Failure(f"network.{name}: expected network.{name}s, with two or more: fleet.instances is {self.instances}")
        for name, values in (("zones", self.zones), ("subnet_ids", self.subnet_ids)):
            if values and not self.is_fleet:
                raise Failure(f"network.{name}: expected network.{name[:-1]}: fleet.instances is 1")
            if values and len(set(values)) < ZONES:
                raise Failure(f"network.{name}: {values}, expected two or more different ones: a fleet outlives a zone")
        subnet, zone = ("subnet_ids", "zones") if self.is_fleet else ("subnet_id", "zone")
        has_subnet = bool(self.subnet_ids) or self.subnet_id is not None
        if (self.vpc_id is None) == has_subnet:
            raise Failure(f"network: expected both vpc_id and {subnet}, or neither")
        if self.is_private and has_subnet:
            raise Failure(f"network: expected private = true or {subnet}, not both: an existing VPC has its own ways out")
        if (self.zones or self.zone is not None) and has_subnet:
            raise Failure(f"network: expected {zone} or {subnet}, not both: a subnet has its zone")


def prefixed(prefix: str, name: str) -> str:
    """The name of this deployment among others from the same file."""
    if not NAME.fullmatch(prefix + name):
        raise Failure(f"name: {name!r} after CDK_PREFIX, {prefix!r}, expected together {NAMES}")
    return prefix + name


def parse_ledger(table: Table) -> LedgerSettings:
    """Parses [ledger]."""
    ledger = LedgerSettings(
        bucket=table.text("bucket", BUCKET, "3 to 63 lower-case letters, digits and hyphens, such as example-ledger"),
        max_retention_years=table.number("max_retention_years", 1, 100),
        alarm_gib=table.optional_number("alarm_gib", 1, 1 << 20, default=10),
    )
    table.end()
    return ledger


def is_secret(name_or_arn: str, name: str) -> bool:
    """Whether the first names that secret. An ARN has a hyphen and six more characters."""
    return name_or_arn == name or (name_or_arn.startswith("arn:") and name_or_arn.rsplit(":", maxsplit=1)[-1][:-7] == name)
