"""The steps of docs/aws.md that need no lab; walk_through.sh runs the rest."""

import json
import shutil
import subprocess
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from aws_cdk import App

import operator_files
from app import build
from operator_files import ACCOUNT, REGION, ROLES, ROOT, SAMPLE
from settings import Settings
from walk_through_document import AGAIN, AGAIN_AFTER, EARLIER, NAMES, PLACES, SPECIAL, Place, Step, parse
from walk_through_edits import DOCUMENT, LAB, Edit, edit, placed, sample_ca

TEXT = (ROOT / "docs/aws.md").read_text()
# What a host without the lab can run in a moment.
LIGHT = ("openssl", "cat", "(umask", "mkdir", "target/release/wallet")


class Document(unittest.TestCase):
    def setUp(self) -> None:
        self.steps = parse(TEXT)

    def test_each_command_has_its_place(self) -> None:
        self.assertGreaterEqual(len(self.steps), 40)
        self.assertEqual({step.place for step in self.steps}, set(Place))

    def test_each_known_command_is_in_the_document(self) -> None:
        texts = [step.text for step in self.steps]
        for name in NAMES:
            self.assertIn(name, texts)
        for start in SPECIAL:
            self.assertTrue(any(text.startswith(start) for text in texts), start)
        self.assertLessEqual(set(PLACES), {text.split()[0] for text in texts})
        for start in AGAIN:
            self.assertTrue(any(text.startswith(start) for text in texts), start)
        self.assertIn(AGAIN_AFTER, texts)
        for text, before in EARLIER.items():
            self.assertIn(text, texts)
            self.assertIn(before, [step.command for step in self.steps])

    def test_an_unknown_command_is_refused(self) -> None:
        for code in ("```console\n$ frobnicate the key\n```\n", "Do `frobnicate the key`.\n"):
            with self.assertRaisesRegex(ValueError, "docs/aws.md:[12]: 'frobnicate the key': expected a command"):
                parse(code)
        with self.assertRaisesRegex(ValueError, "expected console"):
            parse("```sh\nmake eif\n```\n")
        with self.assertRaisesRegex(ValueError, "a line before the first"):
            parse("```console\nmake eif\n```\n")

    def test_each_edit_is_one_of_the_document_and_each_of_the_document_is_known(self) -> None:
        wanted = [step.edit for step in self.steps if step.place is Place.EDIT]
        self.assertEqual(sorted(wanted), sorted(DOCUMENT))
        self.assertLessEqual(set(LAB), {path for path, _ in wanted})

    def test_an_edit_of_what_is_not_there_and_one_that_nobody_knows_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "a.toml has 0 times 'b', expected it once"):
            Edit("b", "c").apply("a.toml", "a", {})
        with self.assertRaisesRegex(ValueError, "docs/aws.md:7: no edit of config/aws.toml is known for 'something else'"):
            edit(ROOT, Step(Place.EDIT, "$EDITOR config/aws.toml   # something else", 7, ""), {}, is_first=False)


class DryWalk(unittest.TestCase):
    """The stacks accept the files of an operator who follows the document, at each deployment."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        shutil.copytree(ROOT / "config", self.folder / "config")
        (self.folder / "target/eif").mkdir(parents=True)
        (self.folder / "target/release").symlink_to(ROOT / "target/release")
        self.names = {
            "ADMIN-1": ROLES + "KeyAdmin",
            "ADMIN-2": ROLES + f"cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}",
            "YOUR-ROLE-ARN": ROLES + "KeySetter",
            "InstanceRoleArn": ROLES + SAMPLE.instance_role,
            "SecretId": SAMPLE.secret_id,
            "KeyArn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "CLIENT-CA-OF-THE-SAMPLE": sample_ca(ROOT),
        }
        self.images = 0

    def run_light(self, text: str) -> None:
        done = subprocess.run(["bash", "-c", text], cwd=self.folder, check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}{done.stderr}")

    def make_eif(self) -> None:
        """Writes invented measurements."""
        self.images += 1
        operator = object.__new__(operator_files.Operator)
        operator.config_path = self.folder / "config/enclave/enclave.toml"
        operator.eif_path = self.folder / "target/eif/enclave.eif"
        operator.eif_path.write_bytes(b"an image")
        operator.measurements_path = self.folder / "target/eif/measurements.json"
        operator.measure([digit * 96 for digit in ("abc", "def")[self.images - 1]])

    def deploy(self, stage: str) -> None:
        settings = Settings.load(self.folder / "config/aws.toml")
        moved = {
            name: self.folder / getattr(settings, name).relative_to(ROOT)
            for name in ("image_dir", "config_dir", "key_policy_path", "parent_dir")
        }
        former = [self.folder / path.relative_to(ROOT) for path in settings.former_measurements_paths]
        cdk = App(analytics_reporting=False, outdir=str(self.folder / "cdk.out"))
        build(cdk, stage, replace(settings, former_measurements_paths=former, **moved))
        cdk.synth()

    def test_the_stacks_accept_the_document_s_files(self) -> None:
        edited: set[str] = set()
        deployed = []
        for step in parse(TEXT):
            text = placed(step.text, self.names)
            if step.place is Place.EDIT:
                path = step.edit[0]
                edit(self.folder, step, self.names, is_first=path not in edited)
                edited.add(path)
            elif step.place is Place.BUILD_HOST and text.startswith(LIGHT):
                self.run_light(text)
                if "-out ca.pem" in text:
                    self.names["CLIENT-CA"] = (self.folder / "ca.pem").read_text()
            elif text.startswith("make eif"):
                self.make_eif()
            elif step.place is Place.CDK and " deploy" in text:
                stage = text.split()[1]
                self.deploy(stage)
                deployed.append((stage, json.loads((self.folder / "cdk.out/manifest.json").read_text())["artifacts"].keys()))
        self.assertEqual([stage for stage, _ in deployed], ["key", "enclave", "enclave", "enclave", "key"])
