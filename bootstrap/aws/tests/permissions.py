"""A role's permissions by the stacks' policies: the subset of IAM's rules in use."""

import fnmatch
import json
from typing import Any

from aws_cdk.assertions import Template

from operator_files import ACCOUNT, LEDGER, REGION, SAMPLE, only, resolve

SECRETS = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
SECRET_ARN = f"{SECRETS}{SAMPLE.secret_id}-AbCdEf"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LEDGER_ARN = f"arn:aws:s3:::{LEDGER.bucket}"
# AWS's managed policies for the roles, as AWS publishes them. Others are refused.
MANAGED = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole": [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ],
}


def listed(value: Any) -> list[Any]:
    """IAM allows a single value in place of a list."""
    return value if isinstance(value, list) else [value]


def granted(stacks: dict[str, Template], role_name: str) -> list[dict[str, Any]]:
    """All statements that apply to a role."""
    key, _ = only(stacks["Key"], "AWS::KMS::Key")
    secret, _ = only(stacks["Key"], "AWS::SecretsManager::Secret")
    names = {f"{key}.Arn": KEY_ARN, secret: SECRET_ARN}
    names |= {f"{bucket}.Arn": LEDGER_ARN for bucket in stacks["Key"].find_resources("AWS::S3::Bucket")}
    roles = stacks["Key"].find_resources("AWS::IAM::Role", {"Properties": {"RoleName": role_name}})
    [(logical_id, role)] = roles.items()
    if unknown := {"Policies", "PermissionsBoundary"} & set(role["Properties"]):
        raise AssertionError(f"{role_name} has {unknown}, expected only policies that this test evaluates")
    found = []
    for arn in role["Properties"].get("ManagedPolicyArns", []):
        if isinstance(arn, dict) and "Ref" in arn:
            raise AssertionError(f"{role_name} names the policy {arn}, expected the policy to name the role")
        found.append({"Effect": "Allow", "Action": MANAGED[resolve(arn, names)], "Resource": "*"})
    for template in stacks.values():
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for policy in template.find_resources(kind).values():
                # A reference in its own stack, elsewhere an export with the logical id in its name.
                if any(logical_id in json.dumps(role) for role in policy["Properties"]["Roles"]):
                    found += resolve(policy["Properties"]["PolicyDocument"]["Statement"], names)
    return found


def may(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether these statements allow the action."""

    def matches(patterns: Any, text: str) -> bool:
        # IAM's patterns have `*` and `?`, but no brackets.
        return any(fnmatch.fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in listed(patterns))

    for statement in statements:
        if set(statement) - {"Sid", "Effect", "Action", "Resource"} or statement["Effect"] != "Allow":
            raise AssertionError(f"{statement} is not supported by this test")
    return any(
        matches([pattern.lower() for pattern in listed(statement["Action"])], action.lower())
        and matches(statement["Resource"], resource)
        for statement in statements
    )
