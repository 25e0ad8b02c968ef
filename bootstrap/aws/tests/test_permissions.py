"""Which secrets, parameters, keys and files the roles can access, by the synthesized policies."""

import json
import re
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from aws_cdk.assertions import Template

from operator_files import ACCOUNT, REGION, ROOT, SAMPLE, Operator
from permissions import KEY_ARN, SECRET_ARN, SECRETS, granted, listed, may

READ = ["GetSecretValue", "BatchGetSecretValue"]
WRITE = ["PutSecretValue", "UpdateSecretVersionStage", "UpdateSecret", "CreateSecret", "DeleteSecret", "PutResourcePolicy"]
# Other secrets with similar names.
FOREIGN = [
    "prod/hot-wallet-2-AbCdEf",
    "prod/hot-wallet2-abcdef",
    "prod/hot-wallet-AbCdEf-123456",
    "prod/hot-wallet-AbCdEg",
    "prod/hot-wallet",
    "prod/hot-walle-AbCdEf",
    "prod/hot-wallet/more-AbCdEf",
    "prod/other-AbCdEf",
    "prod/-AbCdEf",
    "hot-wallet-AbCdEf",
    "*",
]
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prod/password"


class Permissions(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.operator = Operator(Path(cls.enterClassContext(tempfile.TemporaryDirectory())))
        cls.stacks = cls.operator.synthesize()
        before = cls.operator.settings
        cls.operator.settings = replace(before, may_set_key=True)
        roles = "arn:aws:iam::111122223333:role/"
        cls.operator.allow("--encryptor", roles + before.lambda_role, "--context", "purpose=ethereum-signer")
        cls.setting = cls.operator.synthesize()
        cls.operator.settings = before
        cls.operator.keep_ledger(instances=3)
        cls.fleet = cls.operator.synthesize()

    def reached(self, stacks: dict[str, Template], role: str, verbs: list[str], arns: list[str]) -> list[str]:
        statements = granted(stacks, role)
        return [verb for verb in verbs for arn in arns if may(statements, f"secretsmanager:{verb}", arn)]

    def test_each_role_reads_the_one_secret_and_no_other(self) -> None:
        for stacks in (self.stacks, self.setting):
            for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
                self.assertEqual(self.reached(stacks, role, READ, [SECRET_ARN]), ["GetSecretValue"], role)
                self.assertEqual(self.reached(stacks, role, READ, [SECRETS + name for name in FOREIGN]), [], role)

    def test_the_function_writes_the_one_secret_if_it_is_to_and_nobody_else_writes(self) -> None:
        everything = [SECRET_ARN, *(SECRETS + name for name in FOREIGN)]
        for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
            self.assertEqual(self.reached(self.stacks, role, WRITE, everything), [], role)
        self.assertEqual(self.reached(self.setting, SAMPLE.instance_role, WRITE, everything), [])
        written = ["PutSecretValue", "UpdateSecretVersionStage"]
        self.assertEqual(self.reached(self.setting, SAMPLE.lambda_role, WRITE, [SECRET_ARN]), written)
        self.assertEqual(self.reached(self.setting, SAMPLE.lambda_role, WRITE, everything[1:]), [])

    def test_nobody_reads_parameters_or_runs_commands(self) -> None:
        for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
            statements = granted(self.setting, role)
            for verb in ("GetParameter", "GetParameters", "GetParametersByPath", "SendCommand", "GetDocument", "PutInventory"):
                self.assertFalse(may(statements, f"ssm:{verb}", PARAMETER), f"{role}: {verb}")

    def test_operators_connect_through_session_manager(self) -> None:
        statements = granted(self.stacks, SAMPLE.instance_role)
        channels = [f"ssmmessages:{verb}{kind}Channel" for verb in ("Create", "Open") for kind in ("Control", "Data")]
        for action in ("ssm:UpdateInstanceInformation", *channels):
            self.assertTrue(may(statements, action, "*"), action)

    def test_the_function_encrypts_only_if_it_is_to_store_keys_and_nobody_decrypts_by_his_role(self) -> None:
        found = [may(granted(stacks, SAMPLE.lambda_role), "kms:Encrypt", KEY_ARN) for stacks in (self.stacks, self.setting)]
        self.assertEqual(found, [False, True])
        for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
            statements = granted(self.setting, role)
            for verb in ("Decrypt", "ReEncryptFrom", "CreateGrant", "PutKeyPolicy", "GenerateDataKey"):
                self.assertFalse(may(statements, f"kms:{verb}", KEY_ARN), f"{role}: {verb}")
            self.assertFalse(may(statements, "kms:Encrypt", KEY_ARN.replace("1234abcd", "ffffffff")), role)

    def test_no_action_is_a_pattern_and_only_actions_without_resources_are_for_all(self) -> None:
        for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
            for statement in granted(self.setting, role):
                self.assertNotRegex(json.dumps(statement["Action"]), r"[*?]")
                for resource in listed(statement["Resource"]):
                    if re.search(r"[*?]", resource):
                        services = {action.split(":")[0] for action in listed(statement["Action"])}
                        self.assertEqual(resource, "*")
                        self.assertLessEqual(services, {"ssm", "ssmmessages", "logs", "ec2"})

    def test_the_instance_reads_its_archive_and_no_other_file_of_the_bucket(self) -> None:
        statements = granted(self.stacks, SAMPLE.instance_role)
        bucket = f"arn:aws:s3:::cdk-hnb659fds-assets-{ACCOUNT}-{REGION}/"
        [files] = [listed(each["Resource"]) for each in statements if listed(each["Action"]) == ["s3:GetObject"]]
        self.assertEqual(len(files), 1)
        for file in files:
            self.assertRegex(file, rf"^{bucket}[0-9a-f]{{64}}([.][0-9a-z]+)?$")
        self.assertFalse(may(statements, "s3:GetObject", bucket + "0" * 64))

    def test_an_instance_reports_to_its_own_group_and_does_nothing_else_to_a_group(self) -> None:
        arn = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:0f1e2d3c:autoScalingGroupName/"
        statements = granted(self.fleet, SAMPLE.instance_role)
        for action in ("CompleteLifecycleAction", "SetInstanceHealth"):
            self.assertTrue(may(statements, f"autoscaling:{action}", arn + SAMPLE.group))
        for action, group in (
            ("SetInstanceHealth", "other"),
            ("CompleteLifecycleAction", "other"),
            ("CompleteLifecycleAction", SAMPLE.group + "-2"),
            ("SetDesiredCapacity", SAMPLE.group),
            ("UpdateAutoScalingGroup", SAMPLE.group),
            ("TerminateInstanceInAutoScalingGroup", SAMPLE.group),
        ):
            self.assertFalse(may(statements, f"autoscaling:{action}", arn + group), f"{action} {group}")
        for stacks, role in ((self.stacks, SAMPLE.instance_role), (self.fleet, SAMPLE.lambda_role)):
            self.assertFalse(may(granted(stacks, role), "autoscaling:CompleteLifecycleAction", arn + SAMPLE.group), role)

    def test_a_subnet_s_endpoints_are_listed_for_all_that_instance_and_function_ask(self) -> None:
        asked = {"kms", "cloudformation"}  # the enclave's Decrypt, and cfn-signal of the first boot
        for role in (SAMPLE.instance_role, SAMPLE.lambda_role):
            for stacks in (self.setting, self.fleet):
                asked |= {action.split(":")[0] for each in granted(stacks, role) for action in listed(each["Action"])}
        # By Lambda itself, outside of the VPC.
        asked -= {"logs", "ec2"}
        text = (ROOT / "config/aws.toml").read_text()
        [sentence] = re.findall(r"or endpoints for ([^.]*)[.]", text.replace("\n# ", " "))
        self.assertEqual(set(re.findall(r"[a-z0-9]+", sentence)) - {"and", "for", "a", "fleet"}, asked)
