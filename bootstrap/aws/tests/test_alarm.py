"""The alarm for changes of the key: the synthesized rule and topic against events of CloudTrail."""

import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from aws_cdk import App
from aws_cdk.assertions import Annotations, Match

import app
from operator_files import ACCOUNT, REGION, SAMPLE, Operator, only, resolve
from permissions import KEY_ARN

TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:security"


def event(call: str, key_arn: str = KEY_ARN) -> dict[str, Any]:
    """A call's event in EventBridge."""
    return {
        "source": "aws.kms",
        "detail-type": "AWS API Call via CloudTrail",
        "detail": {
            "eventSource": "kms.amazonaws.com",
            "eventName": call,
            "requestParameters": {"keyId": key_arn.rsplit("/", maxsplit=1)[-1]},
            "resources": [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": key_arn}],
        },
    }


def matches(pattern: dict[str, Any], value: Any) -> bool:
    """EventBridge's matching of exact values: each key must match, of an array one element."""
    if isinstance(value, list):
        return any(matches(pattern, each) for each in value)
    for key, wanted in pattern.items():
        found = value.get(key)
        if not (matches(wanted, found) if isinstance(wanted, dict) else found in wanted):
            return False
    return True


class Alarm(unittest.TestCase):
    def setUp(self) -> None:
        self.operator = Operator(Path(self.enterContext(tempfile.TemporaryDirectory())))

    def key_stack(self, stage: str = "key", **settings: str) -> Any:
        self.operator.settings = replace(self.operator.settings, **settings)
        return self.operator.synthesize(stage)["Key"]

    def rule(self, template: Any) -> dict[str, Any]:
        key, _ = only(template, "AWS::KMS::Key")
        topics = dict.fromkeys(template.find_resources("AWS::SNS::Topic"), TOPIC_ARN)
        return resolve(only(template, "AWS::Events::Rule")[1]["Properties"], {f"{key}.Arn": KEY_ARN, **topics})

    def test_each_call_that_opens_or_ends_the_key_raises_an_alarm(self) -> None:
        for stage in ("key", "enclave"):
            pattern = self.rule(self.key_stack(stage, alarm_topic_arn=TOPIC_ARN))["EventPattern"]
            for call in ("PutKeyPolicy", "CreateGrant", "DisableKey", "ScheduleKeyDeletion", "ReplicateKey"):
                self.assertTrue(matches(pattern, event(call)), call)
            for call in ("Decrypt", "Encrypt", "DescribeKey"):
                self.assertFalse(matches(pattern, event(call)), call)
            self.assertFalse(matches(pattern, event("PutKeyPolicy", KEY_ARN.replace("1234abcd", "ffffffff"))))

    def test_an_existing_topic_is_notified(self) -> None:
        template = self.key_stack(alarm_topic_arn=TOPIC_ARN)
        [target] = self.rule(template)["Targets"]
        self.assertEqual(target["Arn"], TOPIC_ARN)
        template.resource_count_is("AWS::SNS::Topic", 0)

    def test_an_address_gets_a_topic_to_which_this_rule_alone_publishes(self) -> None:
        template = self.key_stack(alarm_email="security@example.com")
        topic, properties = only(template, "AWS::SNS::Topic")
        subscription = {"Endpoint": "security@example.com", "Protocol": "email"}
        self.assertEqual(properties["Properties"]["Subscription"], [subscription])
        [target] = self.rule(template)["Targets"]
        self.assertEqual(target["Arn"], TOPIC_ARN)
        rule, _ = only(template, "AWS::Events::Rule")
        statement, tls = only(template, "AWS::SNS::TopicPolicy")[1]["Properties"]["PolicyDocument"]["Statement"]
        self.assertEqual(
            (statement["Effect"], statement["Action"], statement["Resource"]), ("Allow", "sns:Publish", {"Ref": topic})
        )
        self.assertEqual(statement["Principal"], {"Service": "events.amazonaws.com"})
        self.assertEqual(statement["Condition"], {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}})
        self.assertEqual((tls["Effect"], tls["Action"], tls["Resource"]), ("Deny", "sns:Publish", {"Ref": topic}))
        self.assertEqual((tls["Principal"], tls["Condition"]), ("*", {"Bool": {"aws:SecureTransport": "false"}}))

    def test_the_message_says_who_did_what(self) -> None:
        [target] = self.rule(self.key_stack(alarm_topic_arn=TOPIC_ARN))["Targets"]
        transformer = target["InputTransformer"]
        text = transformer["InputTemplate"]
        for name in transformer["InputPathsMap"]:
            self.assertIn(f"<{name}>", text)
        # Each line must be a JSON string, or EventBridge refuses the template.
        lines = [json.loads(line) for line in text.split("\n")]
        self.assertEqual(lines[0], f"<call> on the signer's key {KEY_ARN}, by <who> from <address> at <time>.")

    def test_without_an_alarm_the_deployment_warns(self) -> None:
        template = self.key_stack()
        template.resource_count_is("AWS::Events::Rule", 0)
        for settings, is_warned in [({}, True), ({"alarm_topic_arn": TOPIC_ARN}, False)]:
            self.operator.settings = replace(self.operator.settings, **settings)
            cdk = App(
                analytics_reporting=False, outdir=tempfile.mkdtemp(dir=self.operator.policy_path.parent), context=app.CONTEXT
            )
            app.build(cdk, "key", self.operator.settings)
            stack = cdk.node.find_child(SAMPLE.key_stack)
            found = Annotations.from_stack(stack)
            (found.has_warning if is_warned else found.has_no_warning)("*", Match.string_like_regexp("raise no alarm"))
