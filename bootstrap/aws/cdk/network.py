"""The network of instance and function: the operator's own, or a new VPC."""

from aws_cdk import Fn, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs

from lint import accept
from settings import Settings


def make(stack: Stack, settings: Settings) -> tuple[ec2.IVpc, ec2.ISubnet]:
    """The given VPC and subnet, or a new VPC with one private subnet behind a NAT gateway."""
    if settings.vpc_id is None:
        return new(stack, settings)
    # The zone is not used.
    vpc = ec2.Vpc.from_vpc_attributes(stack, "Vpc", vpc_id=settings.vpc_id, availability_zones=[Fn.select(0, Fn.get_azs())])
    subnet = ec2.Subnet.from_subnet_id(stack, "Subnet", settings.subnet_id)
    accept(subnet, "Nothing asks for its route table", "@aws-cdk/aws-ec2:noSubnetRouteTableId")
    return vpc, subnet


def new(stack: Stack, settings: Settings) -> tuple[ec2.IVpc, ec2.ISubnet]:
    """A VPC that logs its flows."""
    zones = {"max_azs": 1} if settings.zone is None else {"availability_zones": [settings.zone]}
    vpc = ec2.Vpc(stack, "Vpc", nat_gateways=1, **zones)
    if settings.zone is not None:
        for subnet in [*vpc.public_subnets, *vpc.private_subnets]:
            accept(subnet, "The operator's settings name it: not each zone has the instance type", "W3010")
    # Stored where a compromised parent cannot change them.
    log = log_group(stack, "VpcLog")
    accept(
        log,
        "CloudWatch encrypts logs with its own key, and flow logs have addresses and ports, no content",
        "CKV_AWS_158",
    )
    vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(log))
    return vpc, vpc.private_subnets[0]


def log_group(stack: Stack, name: str) -> logs.LogGroup:
    """A log group that is deleted with the stack."""
    return logs.LogGroup(stack, name, retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY)
