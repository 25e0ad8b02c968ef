"""Checks with EC2 that the zone has the instance type: the deployment would fail after minutes.

zone.py CONFIG    before `cdk.sh enclave deploy`
"""

import json
import subprocess
import sys
from pathlib import Path

from failure import Failure
from settings import Settings


def check(settings: Settings) -> None:
    """Checks the given subnet's zone, `network.zone`, or the default, which is the region's first."""
    offered = sorted(each["Location"] for each in offerings(settings.instance_type))
    if not offered:
        raise Failure(f"instance.type: no zone of this region has {settings.instance_type}")
    if settings.subnet_id is not None:
        [subnet] = ask("describe-subnets", "--subnet-ids", settings.subnet_id)["Subnets"]
        name, zone, remedy = f"network.subnet_id: {settings.subnet_id} is in", subnet["AvailabilityZone"], "a subnet in"
    elif settings.zone is not None:
        name, zone, remedy = "network.zone:", settings.zone, ""
    else:
        zones = ask("describe-availability-zones", "--filters", "Name=zone-type,Values=availability-zone")
        zone = min(each["ZoneName"] for each in zones["AvailabilityZones"])
        name, remedy = "network.zone is not set, so it would be", "network.zone ="
    if zone not in offered:
        expected = " ".join(filter(None, ["expected", remedy, " or ".join(offered)]))
        raise Failure(f"{name} {zone}, which has no {settings.instance_type}; {expected}")


def offerings(instance_type: str) -> list[dict[str, str]]:
    """The zones that offer the type."""
    words = ["--location-type", "availability-zone", "--filters", f"Name=instance-type,Values={instance_type}"]
    return ask("describe-instance-type-offerings", *words)["InstanceTypeOfferings"]


def ask(*words: str) -> dict:
    """Runs `aws ec2`; returns its answer."""
    try:
        done = subprocess.run(["aws", "ec2", *words, "--output", "json"], check=False, capture_output=True, text=True)
    except OSError as error:
        raise Failure(f"aws: {error.strerror}; install the AWS CLI, version 2") from error
    if done.returncode != 0:
        raise Failure(f"aws ec2 {words[0]}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout)


def main() -> None:
    """Exits with the reason in one line."""
    try:
        path = Path(sys.argv[1])
        try:
            check(Settings.load(path))
        except Failure as failure:
            # Errors in the file already name it.
            raise Failure(str(failure) if str(failure).startswith(str(path)) else f"{path}: {failure}") from failure
    except Failure as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main()
