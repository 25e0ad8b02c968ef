"""The findings of cdk-nag, cfn-lint, checkov and the CDK in synthesized stacks, compared with the accepted ones."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import App, Aspects
from cdk_nag import AwsSolutionsChecks

# The states of cdk-nag in the assembly. A rule that it cannot apply to a resource counts as found.
FOUND = re.compile(r"(?P<rule>(AwsSolutions-\w+|CdkNagValidationFailure)(\[.*?\])?): (?P<text>.*)", re.DOTALL)
ACCEPTED = re.compile(r"CdkNagSuppression(?P<finding>\[.*?\])?: (?P<rule>\S+) (?P<text>was triggered but .*)", re.DOTALL)
# The CDK's warnings. Errors, and warnings without a name, consist of their text alone.
NAMED = re.compile(r"(?P<text>.*) \[ack: (?P<rule>.*)\]", re.DOTALL)
# Our own warnings are about settings.
OURS = "enclave-wireguard:"


@dataclass(frozen=True)
class Check:
    """A rule of a linter, on a resource of a template."""

    linter: str
    rule: str
    path: Path
    resource: str

    def __str__(self) -> str:
        """The start of a line that reports it."""
        template = self.path.name.removesuffix(".template.json")
        return f"{self.linter} {self.rule} in {self.path.parent.name}/{template}, {self.resource}"


@dataclass(frozen=True)
class Finding:
    """The linter's text, and whether the template accepts it."""

    check: Check
    text: str
    accepted: bool


def add_cdk_nag(app: App) -> None:
    """Adds cdk-nag to the synthesis: it finds some things only in constructs."""
    Aspects.of(app).add(AwsSolutionsChecks(reports=False, log_ignores=True))


def problems(paths: list[Path]) -> list[str]:
    """Findings that are not accepted, and accepted ones that are not found, one a line."""
    found = template_findings(paths)
    for path in paths:
        found += annotation_findings(path)
        found += validation_findings(path)
    used = {each.check for each in found if each.accepted}
    unused = [check for path in paths for check in acceptances(path) if check not in used]
    lines = [f"{each.check}: {each.text}" for each in found if not each.accepted]
    return lines + [f"{check}: accepted in the stack, but not found: remove the acceptance" for check in unused]


def template_findings(paths: list[Path]) -> list[Finding]:
    """Findings of cfn-lint and checkov, which run in parallel in a separate environment."""
    program = Path(__file__).with_name("template_linter.py")
    running = {}
    for linter in ("cfn-lint", "checkov"):
        command = [os.environ["LINTERS_PYTHON"], "-B", program, linter, *paths]
        running[linter] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = []
    for linter, process in running.items():
        output, errors = process.communicate()
        if process.returncode != 0:
            raise AssertionError(f"{linter}: {errors}")
        for each in json.loads(output):
            check = Check(linter, each["rule"], Path(each["path"]), each["resource"])
            found.append(Finding(check, each["text"], each["accepted"]))
    return found


def annotation_findings(path: Path) -> Iterator[Finding]:
    """Findings of cdk-nag and the CDK, from the file beside the template: Python has no other access to them."""
    metadata = json.loads(path.with_name(path.name.replace(".template.", ".metadata.")).read_text())
    for construct, entries in metadata.items():
        names = [entry["data"] for entry in entries if entry["type"] == "aws:cdk:logicalId"]
        for entry in entries:
            kind = entry["type"].removeprefix("aws:cdk:")
            if kind in ("error", "warning", "info"):
                linter, rule, text, accepted = annotation(kind, entry["data"])
                if kind != "info" or linter == "cdk-nag":
                    yield Finding(Check(linter, rule, path, names[0] if names else construct), text.strip(), accepted)


def annotation(kind: str, data: str) -> tuple[str, str, str, bool]:
    """The linter, the rule, the text, and whether it is accepted. Without a rule, the kind takes its place."""
    if match := FOUND.fullmatch(data) or ACCEPTED.fullmatch(data):
        rule = match["rule"] + (match.groupdict().get("finding") or "")
        return "cdk-nag", rule, match["text"], match.re is ACCEPTED
    if match := NAMED.fullmatch(data):
        return "cdk", match["rule"], match["text"], match["rule"].startswith(OURS)
    return "cdk", kind, data, False


def validation_findings(path: Path) -> Iterator[Finding]:
    """Findings of the CDK that are not errors, from the assembly's report."""
    for report in json.loads(path.with_name("validation-report.json").read_text())["pluginReports"]:
        for violation in report["violations"]:
            for construct in violation["violatingConstructs"]:
                # Without a name, it is about the stack.
                name = construct.get("cloudFormationResource", {}).get("logicalId", construct["constructPath"])
                if construct["constructPath"].split("/")[0] == path.name.removesuffix(".template.json"):
                    yield Finding(Check("cdk", violation["ruleName"], path, name), violation["description"], accepted=False)


def acceptances(path: Path) -> Iterator[Check]:
    """The findings that a template's metadata accept."""
    for name, resource in json.loads(path.read_text())["Resources"].items():
        for linter, rule in accepted_rules(resource.get("Metadata", {})):
            yield Check(linter, rule, path, name)


def accepted_rules(metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The accepted rules by linter, in each linter's format."""
    for each in metadata.get("cdk_nag", {}).get("rules_to_suppress", []):
        for finding in each.get("applies_to", [None]):
            yield "cdk-nag", each["id"] + (f"[{finding}]" if finding else "")
    for each in metadata.get("checkov", {}).get("skip", []):
        yield "checkov", each["id"]
    for rule in metadata.get("cfn-lint", {}).get("config", {}).get("ignore_checks", []):
        yield "cfn-lint", rule
