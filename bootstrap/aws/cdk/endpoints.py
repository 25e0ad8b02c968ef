"""The endpoints of a VPC that has no way to the internet."""

from aws_cdk import DefaultStackSynthesizer, Fn, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import IDependable

from bucket import INSPECT, LEASES, NONCES, WRITE_AND_READ
from settings import VPC_NETWORK, Settings

INTERFACES = {
    "Autoscaling": ec2.InterfaceVpcEndpointAwsService.AUTOSCALING,
    "Cloudformation": ec2.InterfaceVpcEndpointAwsService.CLOUDFORMATION,
    "Ec2messages": ec2.InterfaceVpcEndpointAwsService.EC2_MESSAGES,
    "Kms": ec2.InterfaceVpcEndpointAwsService.KMS,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Monitoring": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_MONITORING,
    "Secretsmanager": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Ssm": ec2.InterfaceVpcEndpointAwsService.SSM,
    "Ssmmessages": ec2.InterfaceVpcEndpointAwsService.SSM_MESSAGES,
    "Sts": ec2.InterfaceVpcEndpointAwsService.STS,
}


def add(stack: Stack, settings: Settings, vpc: ec2.Vpc) -> list[IDependable]:
    """Adds them; returns what a first boot waits for."""
    group = ec2.SecurityGroup(stack, "EndpointsGroup", vpc=vpc, description="Endpoints of AWS services", allow_all_outbound=False)
    group.add_ingress_rule(ec2.Peer.ipv4(str(VPC_NETWORK)), ec2.Port.tcp(443), "instances, enclaves behind them, function")
    made: list[IDependable] = [
        ec2.InterfaceVpcEndpoint(
            stack, f"{name}Endpoint", vpc=vpc, service=service, private_dns_enabled=True, open=False, security_groups=[group]
        )
        for name, service in INTERFACES.items()
    ]
    s3 = ec2.GatewayVpcEndpoint(stack, "S3Endpoint", vpc=vpc, service=ec2.GatewayVpcEndpointAwsService.S3)
    for statement in allowed(stack, settings):
        s3.add_to_policy(statement)
    return [*made, s3]


def allowed(stack: Stack, settings: Settings) -> list[iam.PolicyStatement]:
    """What S3's endpoint lets through, whoever asks: no other bucket, to which a compromised parent could carry something."""
    name = DefaultStackSynthesizer.DEFAULT_FILE_ASSETS_BUCKET_NAME
    assets = Fn.sub(name.replace("${Qualifier}", DefaultStackSynthesizer.DEFAULT_QUALIFIER))
    found = [
        # Amazon Linux's packages (https://docs.aws.amazon.com/linux/al2023/ug/managing-repos-os-updates.html).
        ("AmazonLinux", ["s3:GetObject"], [f"al2023-repos-{stack.region}-de612dc2/*"]),
        ("FilesOfTheFirstBoot", ["s3:GetObject"], [f"{assets}/*"]),
        # The wait condition's handle is a URL of this bucket.
        ("ReasonOfAFailure", ["s3:PutObject"], [f"cloudformation-waitcondition-{stack.region}/*"]),
    ]
    if settings.ledger is not None:
        bucket = settings.ledger.bucket
        found += [("Ledger", WRITE_AND_READ, [f"{bucket}/{NONCES}", f"{bucket}/{LEASES}"]), ("LedgerItself", INSPECT, [bucket])]
    return [
        iam.PolicyStatement(
            sid=sid,
            principals=[iam.AnyPrincipal()],
            actions=actions,
            resources=[f"arn:{stack.partition}:s3:::{resource}" for resource in resources],
        )
        for sid, actions, resources in found
    ]
