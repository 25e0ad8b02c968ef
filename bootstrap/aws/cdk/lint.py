"""Accepts findings of linters: in the template, at the resource, with the reason."""

from typing import Any

from aws_cdk import Acknowledgment, CfnResource, Validations
from constructs import IConstruct


def accept(construct: IConstruct, reason: str, *rules: str) -> None:
    """Makes cdk-nag, cfn-lint, checkov and the CDK accept the findings of these rules in this resource.

    `AwsSolutions-IAM5[Resource::*]` is one finding of a rule of cdk-nag; rules of the CDK have a colon. A test fails if
    a rule finds nothing, except for rules of the CDK.
    """
    resource = construct if CfnResource.is_cfn_resource(construct) else construct.node.default_child
    for rule in rules:
        if rule.startswith("AwsSolutions-"):
            name, _, finding = rule.removesuffix("]").partition("[")
            applies_to = {"applies_to": [finding]} if finding else {}
            append(resource, ["cdk_nag", "rules_to_suppress"], {"id": name, "reason": reason, **applies_to})
        elif rule.startswith("CKV"):
            append(resource, ["checkov", "skip"], {"id": rule, "comment": reason})
        elif ":" in rule:
            Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))
        else:
            # cfn-lint has no place for a reason.
            append(resource, ["cfn-lint", "config", "ignore_checks"], rule)


def append(resource: CfnResource, path: list[str], value: Any) -> None:
    """Adds to a list in the resource's metadata."""
    tool, *keys, last = path
    metadata = resource.get_metadata(tool) or {}
    table = metadata
    for key in keys:
        table = table.setdefault(key, {})
    table[last] = [*table.get(last, []), value]
    resource.add_metadata(tool, metadata)
