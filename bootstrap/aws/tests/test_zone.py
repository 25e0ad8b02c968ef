"""The check of the zone before a deployment, with moto's EC2 as `aws`."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from operator_files import REGION, ROOT

# Of moto's zones of this region, all but the first have the first type, the last alone has the second, and all have the third.
RARE, RAREST, COMMON, UNKNOWN = "f2.6xlarge", "dl2q.24xlarge", "c6i.xlarge", "c6i.99xlarge"
FIRST, SUBNET, LAST = "subnet-0123456a", "subnet-01234567", "subnet-0123456c"
# EC2's answers, all at once: moto takes its time to start.
MOTO = f"""
import json, sys
import boto3
from moto import mock_aws

with mock_aws():
    ec2 = boto3.client("ec2", region_name="{REGION}", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="not-a-secret")
    is_zone = dict(Name="zone-type", Values=["availability-zone"])
    # One in each zone, all of them called as the tests call theirs.
    subnets = ec2.describe_subnets(Filters=[dict(Name="default-for-az", Values=["true"])])["Subnets"]
    names = {{"{REGION}a": "{FIRST}", "{REGION}b": "{SUBNET}", "{REGION}c": "{LAST}"}}
    subnets = {{names[each["AvailabilityZone"]]: {{**each, "SubnetId": names[each["AvailabilityZone"]]}} for each in subnets}}
    answers = {{
        "describe-availability-zones": ec2.describe_availability_zones(Filters=[is_zone]),
    }}
    for asked in ["{SUBNET}"], ["{FIRST}", "{SUBNET}"], ["{SUBNET}", "{LAST}"]:
        # EC2 does not keep the order.
        answers["describe-subnets " + " ".join(asked)] = {{"Subnets": [subnets[each] for each in reversed(asked)]}}
    both = dict(subnets["{SUBNET}"], SubnetId="{LAST}")
    answers["describe-subnets {LAST} {SUBNET}"] = {{"Subnets": [both, subnets["{SUBNET}"]]}}
    for kind in sys.argv[1:]:
        is_kind = dict(Name="instance-type", Values=[kind])
        found = ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=[is_kind])
        answers["describe-instance-type-offerings " + kind] = found
print(json.dumps({{name: json.dumps(answer, default=str) for name, answer in answers.items()}}))
"""
# aws ec2 VERB ... [--filters Name=instance-type,Values=TYPE] --output json
AWS = """#!/bin/sh
[ -z "${DENIED:-}" ] || { echo "An error occurred (UnauthorizedOperation): You are not authorized" >&2; exit 254; }
case "$*" in
*describe-subnets*) shift 3 && asked="$*" && cat "$ANSWERS/describe-subnets ${asked% --output json}" ;;
*Name=instance-type,Values=*) kind=${*##*Name=instance-type,Values=} && cat "$ANSWERS/$2 ${kind%% *}" ;;
*) cat "$ANSWERS/$2" ;;
esac
"""


LITERAL = ("zones", "subnet_ids", "instances")


class Zone(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.answers = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        command = [os.environ["MOTO_PYTHON"], "-c", MOTO, RARE, RAREST, COMMON, UNKNOWN]
        for name, text in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout).items():
            (cls.answers / name).write_text(text)

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "bin").mkdir()
        aws = self.folder / "bin/aws"
        aws.write_text(AWS)
        aws.chmod(0o755)

    def ask(self, instance_type: str, path: str | None = None, **more: str) -> str:
        """Runs zone.py with a configuration; returns its error."""
        text = (ROOT / "config/aws.toml").read_text().replace(f'"{COMMON}"', f'"{instance_type}"')
        for key in ("zone", "vpc_id", "subnet_id", "zones", "subnet_ids", "instances"):
            if key in more:
                value = more.pop(key)
                text = text.replace(f"# {key} = ", f"{key} = {value if key in LITERAL else json.dumps(value)} # ")
        self.config = self.folder / "aws.toml"
        self.config.write_text(text)
        environment = {**self.environment(), **more} | ({"PATH": path} if path else {})
        command = [sys.executable, "-B", ROOT / "bootstrap/aws/cdk/zone.py", self.config]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1 if done.stderr else 0, ""))
        self.assertLessEqual(done.stderr.count("\n"), 1)
        return done.stderr.strip()

    def environment(self) -> dict[str, str]:
        """With `aws`."""
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "ANSWERS": str(self.answers), "HOME": os.environ["HOME"]}

    def test_a_zone_with_the_type_is_accepted_however_it_was_chosen(self) -> None:
        self.assertEqual(self.ask(COMMON), "")
        self.assertEqual(self.ask(RARE, zone=f"{REGION}b"), "")
        self.assertEqual(self.ask(RARE, vpc_id="vpc-01234567", subnet_id=SUBNET), "")

    def test_a_zone_without_the_type_is_named_with_the_zones_that_have_it(self) -> None:
        without, zones = f"{REGION}a, which has no {RARE}; expected", f"{REGION}b or {REGION}c"
        for said, more in (
            (f"network.zone: {without} {zones}", {"zone": f"{REGION}a"}),
            (f"network.zone is not set, so it would be {without} network.zone = {zones}", {}),
        ):
            self.assertEqual(self.ask(RARE, **more), f"error: {self.config}: {said}")
        said = self.ask(RAREST, vpc_id="vpc-01234567", subnet_id=SUBNET)
        without = f"{SUBNET} is in {REGION}b, which has no {RAREST}; expected a subnet in {REGION}c"
        self.assertEqual(said, f"error: {self.config}: network.subnet_id: {without}")

    def test_each_zone_of_a_fleet_has_the_type(self) -> None:
        fleet = {"instances": "3"}
        self.assertEqual(self.ask(COMMON, **fleet), "")
        for more in (
            {"zones": f'["{REGION}b", "{REGION}c"]'},
            {"vpc_id": "vpc-01234567", "subnet_ids": f'["{SUBNET}", "{LAST}"]'},
        ):
            self.assertEqual(self.ask(RARE, **more, **fleet), "")
        without, zones = f"{REGION}a, which has no {RARE}; expected", f'["{REGION}b", "{REGION}c"]'
        either = f"{REGION}b or {REGION}c"
        for said, more in (
            (f"network.zones is not set, so it would be {without} network.zones = {zones}", {}),
            (f"network.zones: {without} {either}", {"zones": f'["{REGION}b", "{REGION}a"]'}),
            (
                f"network.subnet_ids: {FIRST} is in {without} a subnet in {either}",
                {"vpc_id": "vpc-01234567", "subnet_ids": f'["{FIRST}", "{SUBNET}"]'},
            ),
            (
                f"network.subnet_ids: all are in {REGION}b; expected subnets in 2 zones or more",
                {"vpc_id": "vpc-01234567", "subnet_ids": f'["{LAST}", "{SUBNET}"]'},
            ),
        ):
            self.assertEqual(self.ask(RARE, **more, **fleet), f"error: {self.config}: {said}")

    def test_a_region_with_one_zone_for_the_type_has_no_fleet(self) -> None:
        said = f"fleet.instances: 3, which need 2 zones with {RAREST}: this region has it in {REGION}c alone;"
        self.assertTrue(self.ask(RAREST, instances="3").startswith(f"error: {self.config}: {said}"))

    def test_an_error_of_ec2_is_shown_as_it_is(self) -> None:
        said = self.ask(UNKNOWN)
        self.assertEqual(said, f"error: {self.config}: instance.type: no zone of this region has {UNKNOWN}")
        self.assertIn("aws ec2 describe-instance-type-offerings: An error occurred (Unauth", self.ask(COMMON, DENIED="yes"))
        self.assertIn("aws: No such file or directory; install the AWS CLI", self.ask(COMMON, path=str(self.folder)))

    def test_a_deployment_of_the_enclave_asks_before_anything_is_made(self) -> None:
        self.ask(RARE, zone=f"{REGION}a")
        environment = {**self.environment(), "AWS_TOML": str(self.config)}
        command = [ROOT / "bootstrap/aws/cdk.sh", "enclave", "deploy", "--all"]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        said = done.stderr.splitlines()[-1]
        self.assertEqual(done.returncode, 1)
        self.assertTrue(said.startswith(f"error: {self.config}: network.zone: {REGION}a, which has no {RARE}"), said)
