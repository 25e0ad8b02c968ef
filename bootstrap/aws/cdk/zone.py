"""Checks with EC2 that each zone has the instance type: the deployment would fail after minutes.

zone.py CONFIG    before `cdk.sh enclave deploy`
"""

import json
import subprocess
import sys
from pathlib import Path

from failure import Failure
from settings import ZONES, Settings


def check(settings: Settings) -> None:
    """Checks the zones of the given subnets, those of the settings, or the default, which are the region's first."""
    offered = sorted(each["Location"] for each in offerings(settings.instance_type))
    if not offered:
        raise Failure(f"instance.type: no zone of this region has {settings.instance_type}")
    if settings.is_fleet and len(offered) < ZONES:
        raise Failure(
            f"fleet.instances: {settings.instances}, which need {ZONES} zones with {settings.instance_type}: this region has it"
            f" in {offered[0]} alone; expected another instance.type, another region, or fleet.instances = 1"
        )
    s = "s" if settings.is_fleet else ""
    if subnet_ids := settings.subnet_ids or list(filter(None, [settings.subnet_id])):
        zones = zones_of(subnet_ids)
        found = [(f"network.subnet_id{s}: {subnet_id} is in", zone) for subnet_id, zone in zones.items()]
        remedy = f"a subnet in {' or '.join(offered)}"
        if settings.is_fleet and len(set(zones.values())) < ZONES:
            raise Failure(f"network.subnet_ids: all are in {zones[subnet_ids[0]]}; expected subnets in {ZONES} zones or more")
    elif zones := settings.zones or list(filter(None, [settings.zone])):
        found, remedy = [(f"network.zone{s}:", zone) for zone in zones], " or ".join(offered)
    else:
        zones = ask("describe-availability-zones", "--filters", "Name=zone-type,Values=availability-zone")["AvailabilityZones"]
        first = sorted(each["ZoneName"] for each in zones)[: ZONES if settings.is_fleet else 1]
        found = [(f"network.zone{s} is not set, so it would be", zone) for zone in first]
        remedy = f"network.zones = {json.dumps(offered)}" if settings.is_fleet else f"network.zone = {' or '.join(offered)}"
    for name, zone in found:
        if zone not in offered:
            raise Failure(f"{name} {zone}, which has no {settings.instance_type}; expected {remedy}")


def zones_of(subnet_ids: list[str]) -> dict[str, str]:
    """The zone of each subnet."""
    subnets = ask("describe-subnets", "--subnet-ids", *subnet_ids)["Subnets"]
    return {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in subnets}


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
