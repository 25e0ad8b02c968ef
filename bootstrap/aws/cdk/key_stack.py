"""What is there before an image is: the key, the roles that its policy names, and the secret."""

from aws_cdk import ArnFormat, CfnOutput, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from settings import Settings


class KeyStack(Stack):
    """Outlives images and instances."""

    def __init__(self, scope: Construct, settings: Settings, policy: dict) -> None:
        super().__init__(
            scope,
            "Key",
            stack_name=f"{settings.name}-key",
            description="The signer's KMS key, the roles that its policy names, and the secret with the encrypted key",
            termination_protection=True,
        )
        # By name, since `wallet policy` has to know them.
        self.instance_role = self.role(settings.instance_role, "ec2", "AmazonSSMManagedInstanceCore")
        self.lambda_role = self.role(settings.lambda_role, "lambda", "service-role/AWSLambdaVPCAccessExecutionRole")

        key = kms.CfnKey(
            self,
            "SignerKey",
            description="Encrypts the signer's keys; the measured enclave alone decrypts",
            enable_key_rotation=True,
            key_policy=policy,
            pending_window_in_days=30,
        )
        key.apply_removal_policy(RemovalPolicy.RETAIN)
        # KMS takes no policy that names who is not there.
        key.node.add_dependency(self.instance_role, self.lambda_role)
        self.key_arn = key.attr_arn

        # Without a value: `wallet set-key` puts the first.
        secret = secretsmanager.CfnSecret(
            self, "Secret", name=settings.secret_id, description="An Ethereum key, encrypted by KMS for an enclave"
        )
        secret.apply_removal_policy(RemovalPolicy.RETAIN)

        secrets = self.format_arn(
            service="secretsmanager",
            resource="secret",
            resource_name=settings.secret_prefix + "*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        self.allow(self.instance_role, "ReadSecrets", ["secretsmanager:GetSecretValue"], secrets)
        actions = ["CreateSecret", "GetSecretValue", "PutSecretValue"]
        self.allow(self.lambda_role, "WriteSecrets", [f"secretsmanager:{action}" for action in actions], secrets)
        self.allow(self.lambda_role, "Encrypt", ["kms:Encrypt"], self.key_arn)

        CfnOutput(self, "KeyArn", value=self.key_arn, description="kms.key_arn in enclave.toml")
        CfnOutput(self, "InstanceRoleArn", value=self.instance_role.role_arn, description="wallet policy --role")
        CfnOutput(self, "LambdaRoleArn", value=self.lambda_role.role_arn, description="wallet policy --encryptor")
        CfnOutput(self, "SecretId", value=settings.secret_id, description="secret_ids in enclave.toml, --secret-id")
        CfnOutput(self, "SecretPrefix", value=settings.secret_prefix, description="what the roles reach")

    def role(self, name: str, service: str, managed_policy: str) -> iam.Role:
        """A role of a service, with what AWS's agents need."""
        return iam.Role(
            self,
            "InstanceRole" if service == "ec2" else "LambdaRole",
            role_name=name,
            assumed_by=iam.ServicePrincipal(f"{service}.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(managed_policy)],
        )

    def allow(self, role: iam.Role, name: str, actions: list[str], resource: str) -> None:
        """One thing that a role may do."""
        statement = iam.PolicyStatement(actions=actions, resources=[resource])
        iam.Policy(self, name, roles=[role], statements=[statement])
