"""The stacks pass cdk-nag, cfn-lint, checkov and the CDK's own rules, in each shape that settings give them."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from aws_cdk import Annotations, App, CfnParameter

from lint import accept
from linters import add_cdk_nag, problems
from operator_files import ACCOUNT, REGION, ROLES, SAMPLE, Operator

MAIL = {"alarm_email": "security@example.com"}
EVERYTHING_GIVEN = {
    "alarm_topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:security",
    "vpc_id": "vpc-01234567",
    "subnet_id": "subnet-01234567",
    "clients": ["10.0.0.0/16"],
    "ami_id": "ami-01234567",
    "client_secret_id": "clients/wallet",
    "may_set_key": True,
}

FLEET_GIVEN = {
    "vpc_id": "vpc-01234567",
    "subnet_ids": ["subnet-01234567", "subnet-89abcdef"],
    "ami_id": "ami-01234567",
    "clients": ["10.0.0.0/16"],
    "instances": 2,
}


class Linters(unittest.TestCase):
    """They start once, for all that is looked at."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "operator").mkdir()
        cls.operator = Operator(cls.folder / "operator")
        cls.add("key", "key")
        cls.add("key-with-mail", "key", **MAIL)
        cls.add("enclave", "enclave")
        cls.add("enclave-with-zone-and-mail", "enclave", zone=f"{REGION}b", **MAIL)
        cls.operator.allow("--encryptor", ROLES + SAMPLE.lambda_role, "--context", "purpose=ethereum-signer")
        cls.add("enclave-with-everything-given", "enclave", **EVERYTHING_GIVEN)
        cls.operator.allow()
        cls.add("spoilt", "enclave", is_spoilt=True)
        cls.operator.keep_ledger()
        cls.add("key-with-ledger", "key")
        cls.add("key-with-ledger-and-mail", "key", **MAIL)
        cls.add("fleet", "enclave", instances=3)
        cls.operator.open_endpoints()
        cls.add("private", "enclave", is_private=True, zone=f"{REGION}b")
        cls.add("private-fleet", "enclave", is_private=True, instances=3)
        cls.add("fleet-with-everything-given", "enclave", **FLEET_GIVEN)
        cls.problems = problems(sorted(cls.folder.glob("*/*.template.json")))

    @classmethod
    def add(cls, name: str, stage: str, is_spoilt: bool = False, **settings: Any) -> None:
        """Synthesizes a stage into a folder of that name."""
        before = cls.operator.settings
        cls.operator.settings = replace(before, **settings)
        app = cls.operator.build(stage, cls.folder / name)
        if is_spoilt:
            spoil(app)
        add_cdk_nag(app)
        app.synth()
        cls.operator.settings = before

    def test_every_finding_is_accepted_with_a_reason(self) -> None:
        found = [line for line in self.problems if " in spoilt/" not in line]
        if found:
            self.fail("\n" + "\n".join(found))

    def test_a_new_finding_is_reported_with_linter_rule_resource_and_text(self) -> None:
        for start, text in [
            ("cdk-nag AwsSolutions-EC26 in spoilt/enclave-signer-enclave, Parent", "EBS volumes that have encryption disabled"),
            ("cdk W2001 in spoilt/enclave-signer-enclave, ", "Parameter 'Unused' is not referenced"),
            ("cdk spoilt in spoilt/enclave-signer-enclave, /enclave-signer-enclave", "this stack is spoilt"),
            ("cdk error in spoilt/enclave-signer-enclave, /enclave-signer-enclave/Wallet", "this function is spoilt"),
            ("cdk warning in spoilt/enclave-signer-enclave, Parent", "this instance is spoilt"),
            ("checkov CKV_AWS_7 in spoilt/enclave-signer-key, SignerKey", "Ensure rotation for customer created CMKs is enabled"),
            ("cfn-lint W3005 in spoilt/enclave-signer-enclave, Parent", "dependency already enforced"),
        ]:
            with self.subTest(start):
                [line] = [line for line in self.problems if line.startswith(start)]
                self.assertIn(text, line)

    def test_an_unused_acceptance_is_reported(self) -> None:
        for rule in ("cdk-nag AwsSolutions-EC23", "checkov CKV_AWS_24", "cfn-lint W2001"):
            start = f"{rule} in spoilt/enclave-signer-enclave, ParentGroup"
            with self.subTest(start):
                [line] = [line for line in self.problems if line.startswith(start)]
                self.assertTrue(line.endswith(": accepted in the stack, but not found: remove the acceptance"), line)

    def test_findings_of_cfn_lint_are_accepted(self) -> None:
        self.assertFalse([line for line in self.problems if " W3005 " in line and "Wallet" in line])


def spoil(app: App) -> None:
    """A disk that is not encrypted, a key that stays, dependencies twice, annotations, and acceptances of nothing."""
    key, enclave = (app.node.find_child(name) for name in (SAMPLE.key_stack, SAMPLE.enclave_stack))
    key.node.find_child("SignerKey").enable_key_rotation = False
    instance, group, profile = (enclave.node.find_child(name) for name in ("Parent", "ParentGroup", "Profile"))
    instance.block_device_mappings = [{"deviceName": "/dev/xvda", "ebs": {"encrypted": False}}]
    instance.node.add_dependency(profile)
    CfnParameter(enclave, "Unused")
    Annotations.of(enclave).add_warning_v2("spoilt", "this stack is spoilt")
    function = enclave.node.find_child("Wallet")
    function.node.add_dependency(enclave.node.find_child("WalletLog"))
    Annotations.of(function).add_error("this function is spoilt")
    Annotations.of(instance).add_warning("this instance is spoilt")
    accept(function, "A test of what is accepted", "W3005")
    accept(group, "A test of what is not found", "AwsSolutions-EC23", "CKV_AWS_24", "W2001")


if __name__ == "__main__":
    unittest.main()
