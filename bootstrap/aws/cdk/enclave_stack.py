"""The parent instances with their enclaves, and the Lambda function."""

import json
import zipfile
from pathlib import Path

from aws_cdk import ArnFormat, CfnCreationPolicy, CfnOutput, CfnResourceSignal, Duration, Fn, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

import network
from failure import Failure
from fleet import Fleet
from image import Image, measured
from key_stack import KeyStack
from lint import accept
from machine import BOOTS_WITHIN_SECONDS, DEVICE, DISK, METADATA_OPTIONS, Machine
from parent import PORT
from settings import Settings


class EnclaveStack(Stack):
    """The parent instance, which each new image replaces, and the function."""

    def __init__(self, scope: Construct, settings: Settings, image: Image, key: KeyStack) -> None:
        super().__init__(
            scope,
            settings.enclave_stack,
            description="The parent instance with the signer's enclave, and the Lambda function",
        )
        check_function(settings.lambda_path)
        place = network.make(self, settings)
        function_group = ec2.SecurityGroup(self, "FunctionGroup", vpc=place.vpc, description="Lambda function of the signer")
        parent_group = ec2.SecurityGroup(self, "ParentGroup", vpc=place.vpc, description="Parent of the enclave")
        machine = Machine(self, settings, image, key)
        fleet = Fleet(self, machine, place, parent_group) if settings.is_fleet else None
        entrance = parent_group if fleet is None else fleet.clients_group
        entrance.add_ingress_rule(function_group, ec2.Port.tcp(PORT), "the Lambda function")
        for client in settings.clients:
            entrance.add_ingress_rule(ec2.Peer.ipv4(client), ec2.Port.tcp(PORT), "clients")

        if fleet is None:
            instance = self.instance(machine, place, parent_group)
            # A new instance has a new address, which changes the function's variable.
            url = Fn.join("", ["https://", instance.attr_private_ip])
        else:
            url = fleet.url
        log = network.log_group(self, "WalletLog")
        accept(
            log,
            "CloudWatch encrypts logs with its own key; the function logs ids and errors, and no error shows a key",
            "CKV_AWS_158",
        )
        function = lambda_.Function(
            self,
            "Wallet",
            function_name=f"{settings.name}-wallet",
            runtime=lambda_.Runtime.PROVIDED_AL2023,
            architecture=lambda_.Architecture.X86_64,
            handler="bootstrap",
            code=lambda_.Code.from_asset(str(settings.lambda_path)),
            role=key.lambda_role.without_policy_updates(),
            vpc=place.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=place.subnets),
            security_groups=[function_group],
            # The image's kms.deadline, and time to report it.
            timeout=Duration.seconds(30),
            memory_size=256,
            log_group=log,
            environment={
                "SECRET_ID": settings.secret_id,
                # The image's key: the function must encrypt for the image, even if the stack's key differs.
                "KEY_ARN": image.key_arn,
                "ENCRYPTION_CONTEXT": json.dumps(image.encryption_context, sort_keys=True),
                "ENCLAVE_URL": url,
                "MEASUREMENTS": measurements(settings, image),
                # Without it, the function refuses to store keys, without a call to AWS.
                **({"SET_KEY": "true"} if settings.may_set_key else {}),
                **self.client_secret(settings.client_secret_id, key),
            },
        )
        accept(function, "A set_key event contains a private key, which a dead letter queue would keep", "CKV_AWS_116")
        accept(
            function,
            "The signer limits its load, and a new account has no concurrency to reserve: the deployment would fail",
            "CKV_AWS_115",
        )
        accept(
            function,
            "Names, an address and measurements are no secrets, and Lambda encrypts them with its own key",
            "CKV_AWS_173",
        )
        if fleet is None:
            CfnOutput(self, "InstanceId", value=instance.ref, description="aws ssm start-session --target")
            CfnOutput(self, "ParentAddress", value=instance.attr_private_ip, description="in the VPC")
        else:
            # The function accepts a new image before there is an instance with it.
            fleet.needs(*machine.needs, fleet.permission(key), function)
            fleet.outputs()
        CfnOutput(self, "EnclaveUrl", value=url, description="wallet --url")
        CfnOutput(self, "FunctionName", value=function.function_name, description="aws lambda invoke --function-name")

    def client_secret(self, secret_id: str | None, key: KeyStack) -> dict[str, str]:
        """Lets the function read the secret with its client certificate; returns the variable."""
        if secret_id is None:
            return {}
        arn = secret_id
        if not arn.startswith("arn:"):
            # Secrets Manager appends a hyphen and six random characters to a name.
            resource = {"service": "secretsmanager", "resource": "secret", "resource_name": f"{secret_id}-??????"}
            arn = self.format_arn(**resource, arn_format=ArnFormat.COLON_RESOURCE_NAME)
        statement = iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[arn])
        iam.Policy(self, "ReadClientSecret", roles=[key.lambda_role], statements=[statement])
        return {"CLIENT_SECRET_ID": secret_id}

    def instance(self, machine: Machine, place: network.Network, group: ec2.SecurityGroup) -> ec2.CfnInstance:
        """The parent instance."""
        settings = machine.settings
        logical_id = f"Parent{machine.digest}"
        reason, handle = machine.reason(logical_id, BOOTS_WITHIN_SECONDS)
        instance = ec2.CfnInstance(
            self,
            "Parent",
            image_id=machine.ami_id,
            instance_type=settings.instance_type,
            iam_instance_profile=machine.profile.ref,
            subnet_id=place.subnets[0].subnet_id,
            security_group_ids=[group.security_group_id],
            enclave_options=ec2.CfnInstance.EnclaveOptionsProperty(enabled=True),
            metadata_options=ec2.CfnInstance.MetadataOptionsProperty(**METADATA_OPTIONS),
            block_device_mappings=[
                ec2.CfnInstance.BlockDeviceMappingProperty(device_name=DEVICE, ebs=ec2.CfnInstance.EbsProperty(**DISK))
            ],
            user_data=Fn.base64(machine.script(logical_id, handle, {})),
        )
        # User data runs once, so changed files need a new instance.
        instance.override_logical_id(logical_id)
        instance.cfn_options.creation_policy = CfnCreationPolicy(
            resource_signal=CfnResourceSignal(count=1, timeout=f"PT{BOOTS_WITHIN_SECONDS}S")
        )
        for each in (instance, reason):
            each.node.add_dependency(*machine.needs, *place.way_out)
        if settings.ami_id is not None:
            accept(instance, "The operator's settings name it, for one region", "CloudFormation-Validate::W9010")
        accept(
            instance,
            "Nothing reads EC2's metrics: wg-server and /health say whether the enclave works",
            "AwsSolutions-EC28",
        )
        accept(
            instance,
            "A new image replaces the instance, and CloudFormation must terminate the old one, which signs until then",
            "AwsSolutions-EC29",
        )
        return instance


def measurements(settings: Settings, image: Image) -> str:
    """The images that the function trusts, including the running one during an upgrade."""
    images = [image.pcrs, *(measured(path)[1] for path in settings.former_measurements_paths)]
    return json.dumps([{f"PCR{index}": pcr for index, pcr in enumerate(pcrs)} for pcrs in images])


def check_function(path: Path) -> None:
    """Refuses another archive: Lambda would only report that the function has no runtime."""
    try:
        with zipfile.ZipFile(path) as archive:
            mode = archive.getinfo("bootstrap").external_attr >> 16
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise Failure(f"{path}: {error}; `bootstrap/aws/lambda.sh {path}` writes it") from error
    if not mode & 0o111:
        raise Failure(f"{path}: its bootstrap is not executable; `bootstrap/aws/lambda.sh {path}` writes it")
