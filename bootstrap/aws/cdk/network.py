"""The network of instances and function: the operator's own, or a new VPC."""

from dataclasses import dataclass

from aws_cdk import Fn, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import IDependable

import endpoints
from lint import accept
from settings import VPC_NETWORK, ZONES, Settings


@dataclass(frozen=True)
class Network:
    """A VPC, one private subnet in each zone, and what a first boot there waits for."""

    vpc: ec2.IVpc
    subnets: list[ec2.ISubnet]
    way_out: list[IDependable]


def make(stack: Stack, settings: Settings) -> Network:
    """The given VPC and subnets, or a new VPC with a private subnet in each zone."""
    return new(stack, settings) if settings.vpc_id is None else existing(stack, settings)


def existing(stack: Stack, settings: Settings) -> Network:
    """The operator's own."""
    # The zone is not used.
    vpc = ec2.Vpc.from_vpc_attributes(stack, "Vpc", vpc_id=settings.vpc_id, availability_zones=[Fn.select(0, Fn.get_azs())])
    ids = settings.subnet_ids or [settings.subnet_id]
    subnets = []
    for index, subnet_id in enumerate(ids):
        subnet = ec2.Subnet.from_subnet_id(stack, f"Subnet{index or ''}", subnet_id)
        accept(subnet, "Nothing asks for its route table", "@aws-cdk/aws-ec2:noSubnetRouteTableId")
        subnets.append(subnet)
    return Network(vpc, subnets, [])


def new(stack: Stack, settings: Settings) -> Network:
    """A VPC that logs its flows. It has a NAT gateway in each zone, so that no zone depends on another, or is private."""
    named = settings.zones or ([] if settings.zone is None else [settings.zone])
    count = len(named) or (ZONES if settings.is_fleet else 1)
    zones = {"availability_zones": named} if named else {"max_azs": count}
    isolated = ec2.SubnetConfiguration(name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    layout = {"nat_gateways": 0, "subnet_configuration": [isolated]} if settings.is_private else {"nat_gateways": count}
    vpc = ec2.Vpc(stack, "Vpc", ip_addresses=ec2.IpAddresses.cidr(str(VPC_NETWORK)), **layout, **zones)
    if named:
        for subnet in [*vpc.public_subnets, *vpc.private_subnets, *vpc.isolated_subnets]:
            accept(subnet, "The operator's settings name it: not each zone has the instance type", "W3010")
    # Stored where a compromised parent cannot change them.
    log = log_group(stack, "VpcLog")
    accept(
        log,
        "CloudWatch encrypts logs with its own key, and flow logs have addresses and ports, no content",
        "CKV_AWS_158",
    )
    vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(log))
    if settings.is_private:
        return Network(vpc, vpc.isolated_subnets, endpoints.add(stack, settings, vpc))
    subnets = vpc.private_subnets
    return Network(vpc, subnets, [subnet.internet_connectivity_established for subnet in subnets])


def log_group(stack: Stack, name: str) -> logs.LogGroup:
    """A log group that is deleted with the stack."""
    return logs.LogGroup(stack, name, retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY)
