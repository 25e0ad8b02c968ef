"""The commands of docs/aws.md and docs/fleet.md, as far as they can be tried without AWS."""

import json
import re
import tempfile
import unittest
from pathlib import Path

from operator_files import ROOT, SAMPLE, Operator

TEXT = (ROOT / "docs/aws.md").read_text() + (ROOT / "docs/fleet.md").read_text()
# Verbs of the CDK's command line.
VERBS = {"bootstrap", "deploy", "destroy", "diff", "synth"}
# Verbs that deploy or destroy stacks: with several stacks, they need names or --all.
CHOOSING = {"deploy", "destroy"}


class Commands(unittest.TestCase):
    def names(self, stage: str) -> set[str]:
        """The names of a stage's stacks for the CDK's command line."""
        operator = Operator(Path(self.enterContext(tempfile.TemporaryDirectory())))
        operator.synthesize(stage)
        manifest = json.loads((operator.policy_path.parent / "cdk.out/manifest.json").read_text())
        artifacts = manifest["artifacts"].items()
        return {each.get("displayName", name) for name, each in artifacts if each["type"] == "aws:cloudformation:stack"}

    def test_each_cdk_command_has_a_stage_a_verb_and_the_name_of_a_stack(self) -> None:
        text = TEXT
        commands = re.findall(r"cdk[.]sh (\w+) (\w+)((?: [A-Za-z-]+)*)", text)
        self.assertGreaterEqual(len(commands), 5)
        stages = {stage: self.names(stage) for stage in ("key", "enclave")}
        self.assertEqual(stages["enclave"], {SAMPLE.key_stack, SAMPLE.enclave_stack})
        for stage, verb, rest in commands:
            with self.subTest(f"cdk.sh {stage} {verb}{rest}"):
                self.assertIn(verb, VERBS)
                words = rest.replace("NAME", SAMPLE.name).split()
                stacks = [word for word in words if not word.startswith("--") and word.startswith(SAMPLE.name)]
                self.assertLessEqual(set(stacks), stages[stage])
                if verb in CHOOSING and len(stages[stage]) > 1:
                    self.assertTrue(stacks or "--all" in words, "of which stack?")

    def test_each_setting_that_is_named_is_one(self) -> None:
        text = TEXT
        sample = (ROOT / "config/aws.toml").read_text()
        for table, key in re.findall(
            r"`(key|alarm|network|fleet|instance|enclave|function|files|ledger)[.](?!eif|toml|service)(\w+)", text
        ):
            [section] = re.findall(rf"^(?:# )?\[{table}\]\n(.*?)(?=^(?:# )?\[|\Z)", sample, re.MULTILINE | re.DOTALL)
            self.assertRegex(section, rf"(?m)^(# )?{key} = ", f"{table}.{key}")
