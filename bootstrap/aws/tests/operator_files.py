"""An operator's files before a deployment: an image, a key policy, an edited parent.toml, a packed function."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "bootstrap/aws/cdk"))

from aws_cdk import App, Stack  # noqa: E402
from aws_cdk.assertions import Template  # noqa: E402

import app  # noqa: E402
from settings import LedgerSettings, Settings  # noqa: E402

ACCOUNT, REGION = "111122223333", "eu-central-1"
SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
PCRS = [digit * 96 for digit in "abc"]
ROLES = f"arn:aws:iam::{ACCOUNT}:role/"
SAMPLE = Settings.load(ROOT / "config/aws.toml")
FORWARD = '\n[[nat.forwards]]\nport = 443\nto = "203.0.113.2:443"\n'


LEDGER = LedgerSettings(bucket="example-ledger", max_retention_years=10, alarm_gib=10)
LEDGER_TABLE = f'\n[signer.ledger]\nbucket = "example-ledger"\nowner = "{ACCOUNT}"\nretention_years = 10\n'


class Operator:
    """A folder with all files, and settings with their paths."""

    def __init__(self, folder: Path) -> None:
        for name in ("config", "image", "parent"):
            (folder / name).mkdir()
        enclave = (ROOT / "config/enclave/enclave.toml").read_text() + (ROOT / "config/signer.toml").read_text()
        self.config_path = folder / "config/enclave.toml"
        self.config_path.write_text(enclave)
        self.eif_path = folder / "image/enclave.eif"
        self.eif_path.write_bytes(b"an image")
        self.measurements_path = folder / "image/measurements.json"
        self.measure(PCRS)
        self.parent_path = folder / "parent/parent.toml"
        parent = (ROOT / "config/parent/parent.toml").read_text()
        self.parent_path.write_text(parent.replace('uplink = "eth0"\n', "").replace("\n[dns]\n", FORWARD + "\n[dns]\n"))
        (folder / "parent/dns-allow-list.txt").write_text((ROOT / "config/parent/dns-allow-list.txt").read_text())
        self.policy_path = folder / "key-policy.json"
        self.settings = replace(
            SAMPLE,
            image_dir=folder / "image",
            config_dir=folder / "config",
            parent_dir=folder / "parent",
            key_policy_path=self.policy_path,
        )
        self.allow()

    def keep_ledger(self, **settings: Any) -> None:
        """Has an image with a ledger, its bucket, and these settings, such as those of a fleet."""
        self.config_path.write_text(self.config_path.read_text() + LEDGER_TABLE)
        self.measure(PCRS)
        self.settings = replace(self.settings, ledger=LEDGER, **settings)
        self.allow()

    def open_endpoints(self) -> None:
        """Lists the VPC's network in parent.toml."""
        text, before = self.parent_path.read_text(), 'destinations = ["169.254.169.254:80"'
        self.parent_path.write_text(text.replace(before, before + ', "10.0.0.0/16:443"'))

    def measure(self, pcrs: list[str]) -> None:
        """Writes the measurements as `make eif` does."""
        digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()  # noqa: E731
        sha256 = {"eif": digest(self.eif_path), "config": {"enclave.toml": digest(self.config_path)}}
        measurements = {f"PCR{index}": pcr for index, pcr in enumerate(pcrs)} | {"sha256": sha256}
        self.measurements_path.write_text(json.dumps(measurements))

    def allow(self, *flags: str, admins: list[str] = SAMPLE.admins, role: str = SAMPLE.instance_role) -> dict[str, Any]:
        """Writes the key policy with `wallet policy`."""
        command = [ROOT / "target/release/wallet", "policy", "--measurements", self.measurements_path, "--role", ROLES + role]
        command += [word for admin in admins for word in ("--admin", admin)]
        command += flags or ("--encryptor", ROLES + "KeySetter", *self.context())
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.policy_path.write_text(text)
        return json.loads(text)

    def context(self) -> list[str]:
        """The image's encryption context for `wallet policy`."""
        entries = ["purpose=ethereum-signer"]
        if LEDGER_TABLE in self.config_path.read_text():
            entries.append(f"ledger={ACCOUNT}/{LEDGER.bucket}")
        return [word for entry in entries for word in ("--context", entry)]

    def build(self, stage: str, outdir: Path) -> App:
        """The app with the stacks of a stage, as in `cdk.sh`."""
        cdk = App(analytics_reporting=False, outdir=str(outdir), context=app.CONTEXT)
        app.build(cdk, stage, self.settings)
        return cdk

    def synthesize(self, stage: str = "enclave") -> dict[str, Template]:
        """Their templates."""
        cdk = self.build(stage, self.policy_path.parent / "cdk.out")
        # Checks the templates by CloudFormation's rules.
        cdk.synth()
        names = {self.settings.key_stack: "Key", self.settings.enclave_stack: "Enclave"}
        return {names[stack.node.id]: Template.from_stack(stack) for stack in cdk.node.children if isinstance(stack, Stack)}


@cache
def resolved(name: str) -> str:
    """The value of a pseudo parameter."""
    return {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}[name]


def resolve(value: Any, names: dict[str, str]) -> Any:
    """Evaluates the CloudFormation functions in use; `names` has the values of other resources."""
    if isinstance(value, list):
        return [resolve(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": name}:
            return names.get(name) or resolved(name)
        case {"Fn::GetAtt": [name, attribute]}:
            return names[f"{name}.{attribute}"]
        case {"Fn::Join": [separator, parts]}:
            return separator.join(resolve(parts, names))
        case {"Fn::Sub": text}:
            for name in ("AccountId", "Region", "Partition"):
                text = text.replace(f"${{AWS::{name}}}", resolved(f"AWS::{name}"))
            return text
        case {"Fn::Base64": text}:
            return resolve(text, names)
        case {"Fn::ImportValue": name}:
            return resolve(name, names)
    return {key: resolve(each, names) for key, each in value.items()}


def only(template: Template, kind: str) -> tuple[str, dict[str, Any]]:
    """The only resource of a kind: its logical id and itself."""
    [(logical_id, resource)] = template.find_resources(kind).items()
    return logical_id, resource
