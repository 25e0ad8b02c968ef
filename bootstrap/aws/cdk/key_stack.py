"""Resources needed before the image: the key, the roles that its policy names, the secret, and the ledger's bucket."""

from aws_cdk import CfnOutput, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

import alarm
import bucket
from lint import accept
from settings import Settings

# All that Session Manager needs (https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html).
# AWS's own policy, AmazonSSMManagedInstanceCore, also allows reading the account's parameters.
SESSION_MANAGER = [
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
]
NETWORK = "service-role/AWSLambdaVPCAccessExecutionRole"
# Calls of `wallet set-key` and its event to Secrets Manager, for an existing secret.
SET_KEY = ["secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"]


class KeyStack(Stack):
    """Outlives images and instances."""

    def __init__(self, scope: Construct, settings: Settings, policy: dict) -> None:
        super().__init__(
            scope,
            settings.key_stack,
            description="The signer's KMS key, the roles that its policy names, and the secret with the encrypted key",
            termination_protection=True,
        )
        # Fixed names: `wallet policy` needs them.
        self.instance_role = self.role(settings.instance_role, "ec2")
        network = iam.ManagedPolicy.from_aws_managed_policy_name(NETWORK)
        self.lambda_role = self.role(settings.lambda_role, "lambda", network)
        accept(
            self.lambda_role,
            "It lets Lambda attach the function to the VPC and write its log; AWS keeps it in step with what Lambda needs",
            f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{NETWORK}]",
        )
        session_manager = iam.ManagedPolicy(
            self,
            "SessionManager",
            description="People come to the instance through Session Manager",
            roles=[self.instance_role],
            statements=[iam.PolicyStatement(actions=SESSION_MANAGER, resources=["*"])],
        )
        accept(
            session_manager,
            "ssmmessages has no resources; ssm:UpdateInstanceInformation would take the instance, which is made after this role",
            "AwsSolutions-IAM5[Resource::*]",
            "CKV_AWS_111",
        )

        key = kms.CfnKey(
            self,
            "SignerKey",
            description="Encrypts the signer's keys; the measured enclave alone decrypts",
            enable_key_rotation=True,
            key_policy=policy,
            pending_window_in_days=30,
        )
        key.apply_removal_policy(RemovalPolicy.RETAIN)
        # KMS refuses a policy with principals that do not exist.
        key.node.add_dependency(self.instance_role, self.lambda_role)
        self.key_arn = key.attr_arn

        alarms = [] if settings.ledger is None else [bucket.add(self, settings.ledger, self.instance_role)]
        alarm.add(self, settings, self.key_arn, alarms)

        # Without a value: `wallet set-key` stores the first.
        secret = secretsmanager.CfnSecret(
            self, "Secret", name=settings.secret_id, description="An Ethereum key, encrypted by KMS for an enclave"
        )
        secret.apply_removal_policy(RemovalPolicy.RETAIN)
        accept(
            secret,
            "Another Ethereum key is another address, to which the funds have to be moved first: operators replace it",
            "AwsSolutions-SMG4",
        )
        accept(secret, "The value is a ciphertext of SignerKey: to read the secret is not to have the key", "CKV_AWS_149")

        # The secret's full ARN, with AWS's six random characters, so it matches no other secret.
        self.allow(self.instance_role, "ReadSecret", ["secretsmanager:GetSecretValue"], secret.ref)
        self.allow(self.lambda_role, "ReadCiphertext", ["secretsmanager:GetSecretValue"], secret.ref)
        if settings.may_set_key:
            self.allow(self.lambda_role, "WriteSecret", SET_KEY, secret.ref)
            self.allow(self.lambda_role, "Encrypt", ["kms:Encrypt"], self.key_arn)

        # Exports the other stack's imports at each stage, so that `cdk.sh key deploy` works while that stack exists. Only stacks
        # of earlier versions import the key's ARN; CloudFormation cannot remove an export in use.
        for value in (self.key_arn, self.instance_role.role_name, self.lambda_role.role_name, self.lambda_role.role_arn):
            self.export_value(value)
        CfnOutput(self, "KeyArn", value=self.key_arn, description="kms.key_arn in enclave.toml")
        CfnOutput(self, "InstanceRoleArn", value=self.instance_role.role_arn, description="wallet policy --role")
        CfnOutput(self, "LambdaRoleArn", value=self.lambda_role.role_arn, description="wallet policy --encryptor")
        CfnOutput(self, "SecretId", value=settings.secret_id, description="secret_ids in enclave.toml, --secret-id")
        CfnOutput(self, "SecretArn", value=secret.ref, description="what the roles reach, and who sets keys has to")

    def role(self, name: str, service: str, *managed_policies: iam.IManagedPolicy) -> iam.Role:
        """A role for a service."""
        return iam.Role(
            self,
            "InstanceRole" if service == "ec2" else "LambdaRole",
            role_name=name,
            assumed_by=iam.ServicePrincipal(f"{service}.amazonaws.com"),
            managed_policies=list(managed_policies),
        )

    def allow(self, role: iam.Role, name: str, actions: list[str], resource: str) -> None:
        """A permission of a role."""
        statement = iam.PolicyStatement(actions=actions, resources=[resource])
        iam.Policy(self, name, roles=[role], statements=[statement])
