"""The scripts with the names of AWS's sample: with a stand-in for aws that answers as AWS CLI does."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from image import Image
from key_policy import check
from operator_files import ACCOUNT, PCRS, ROLES, ROOT, SAMPLE, Operator

AWS_DIR = ROOT / "bootstrap/aws"
OUTPUTS = {
    "KeyArn": f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "InstanceRoleArn": ROLES + SAMPLE.instance_role,
    "LambdaRoleArn": ROLES + SAMPLE.lambda_role,
}


class Scripts(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "bin").mkdir()

    def run_it(self, name: str, *words: str | Path, **more: str) -> tuple[int, str, str]:
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", **more}
        done = subprocess.run([AWS_DIR / name, *words], env=environment, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def aws(self, text: str) -> None:
        path = self.folder / "bin/aws"
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)


class Instances(Scripts):
    def test_the_instances_of_the_group_are_listed_one_a_line(self) -> None:
        # Text output has tabs in a line.
        self.aws('echo "$AWS_REGION $*" >&2; printf "i-01234567\\ti-89abcdef\\ni-0a1b2c3d\\n"')
        status, printed, said = self.run_it("get_asg_instances.sh", "a-fleet", CDK_DEPLOY_REGION="eu-west-1")
        self.assertEqual((status, printed), (0, "i-01234567\ni-89abcdef\ni-0a1b2c3d\n"))
        self.assertTrue(
            said.startswith("eu-west-1 autoscaling describe-auto-scaling-groups --auto-scaling-group-names a-fleet "), said
        )

    def test_a_group_that_is_not_there_is_an_error(self) -> None:
        self.aws("echo")
        status, printed, said = self.run_it("get_asg_instances.sh", "a-fleet")
        self.assertEqual((status, printed), (1, ""))
        self.assertIn("error: the group a-fleet has no instances in this region; expected ASGGroupName", said)
        self.aws("echo Unable to locate credentials >&2; exit 253")
        self.assertEqual(self.run_it("get_asg_instances.sh", "a-fleet")[0], 253)


class Pcr0(Scripts):
    def test_it_is_that_of_the_built_image_whatever_the_instance(self) -> None:
        operator = Operator(self.folder)
        self.aws("echo the instance is not asked >&2; exit 1")
        for words in ((operator.measurements_path,), ("i-0123456789abcdef0", operator.measurements_path)):
            self.assertEqual(self.run_it("get_pcr0.sh", *words), (0, PCRS[0] + "\n", ""))

    def test_zeros_are_no_measurement(self) -> None:
        path = self.folder / "measurements.json"
        for text, expected in (
            (json.dumps({"PCR0": "0" * 96}), "expected an image's measurement, 96 hex digits that are not all zero"),
            (json.dumps({"PCR0": "ab"}), "expected an image's measurement"),
            ("{}", "expected the output of `make eif`"),
        ):
            path.write_text(text)
            status, printed, said = self.run_it("get_pcr0.sh", path)
            self.assertEqual((status, printed), (1, ""))
            self.assertIn(f"error: {path}: ", said)
            self.assertIn(expected, said)


class Policy(Scripts):
    def setUp(self) -> None:
        super().setUp()
        self.operator = Operator(self.folder)
        self.outputs = self.folder / "output.json"
        self.outputs.write_text(json.dumps({SAMPLE.key_stack: OUTPUTS}))

    def toml(self, *more: tuple[str, str]) -> str:
        """The settings with the paths of this operator."""
        text = (ROOT / "config/aws.toml").read_text()
        for before, after in (
            ('"target/eif"', f'"{self.folder}/image"'),
            ('"config/enclave"', f'"{self.folder}/config"'),
            *more,
        ):
            self.assertIn(before, text)
            text = text.replace(before, after)
        (self.folder / "aws.toml").write_text(text)
        return str(self.folder / "aws.toml")

    def generate(self, toml: str, *words: str) -> dict:
        status, printed, said = self.run_it("generate_key_policy.sh", self.outputs, *words, AWS_TOML=toml)
        # It warns of the administrators.
        self.assertEqual(status, 0, said)
        return json.loads(printed)

    def accepted(self, policy: dict) -> None:
        """By the stacks."""
        settings = self.operator.settings
        check(policy, settings, Image.load(settings.image_dir, settings.config_dir))

    def test_the_stacks_accept_it(self) -> None:
        self.accepted(self.generate(self.toml(), "--encryptor", ROLES + "KeySetter"))

    def test_it_has_the_ledger_the_former_image_and_the_function_that_stores_keys(self) -> None:
        former = self.folder / "former.json"
        former.write_text(self.operator.measurements_path.read_text().replace(PCRS[0], "d" * 96))
        self.operator.keep_ledger(former_measurements_paths=[former], may_set_key=True)
        before = '# former_measurements_paths = ["former/measurements.json"]'
        toml = self.toml((before, f'former_measurements_paths = ["{former}"]'), ("may_set_key = false", "may_set_key = true"))
        policy = self.generate(toml)
        self.accepted(policy)
        self.assertIn(f"{ACCOUNT}/example-ledger", json.dumps(policy))

    def test_outputs_of_another_deployment_are_refused(self) -> None:
        for outputs, expected in (
            ({"devNitroWalletEth": OUTPUTS}, "expected the outputs of enclave-signer-key: `cdk.sh key deploy --outputs-file"),
            ({SAMPLE.key_stack: {}}, "'InstanceRoleArn' is missing, expected the outputs of enclave-signer-key"),
        ):
            self.outputs.write_text(json.dumps(outputs))
            status, printed, said = self.run_it("generate_key_policy.sh", self.outputs, AWS_TOML=self.toml())
            self.assertEqual((status, printed), (1, ""))
            self.assertIn(f"error: {self.outputs}: ", said)
            self.assertIn(expected, said)

    def test_the_prefix_is_part_of_the_stack_s_name(self) -> None:
        self.outputs.write_text(json.dumps({f"dev-{SAMPLE.key_stack}": OUTPUTS}))
        words = (self.outputs, "--encryptor", ROLES + "KeySetter")
        status, _, said = self.run_it("generate_key_policy.sh", *words, AWS_TOML=self.toml(), CDK_PREFIX="dev-")
        self.assertEqual(status, 0, said)


class Usage(Scripts):
    def test_each_shows_how_it_is_called(self) -> None:
        for name, words in (("get_asg_instances.sh", ()), ("get_pcr0.sh", ("--help",)), ("generate_key_policy.sh", ())):
            status, _, said = self.run_it(name, *words)
            self.assertEqual(status, 1)
            self.assertTrue(said.startswith(f"usage: {name} "), said)
