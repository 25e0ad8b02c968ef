"""The alarm for changes of the key's policy, grants and state."""

from aws_cdk import Annotations, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_sns as sns

from lint import accept
from settings import Settings

# Calls that open the key without an attestation document, or end the key. All are write management events.
CALLS = ["CreateGrant", "DeleteImportedKeyMaterial", "DisableKey", "PutKeyPolicy", "ReplicateKey", "ScheduleKeyDeletion"]


def add(stack: Stack, settings: Settings, key_arn: str, alarms: list[cloudwatch.CfnAlarm]) -> None:
    """Adds a rule on CloudTrail's events about this key, and its target, which these alarms notify as well."""
    if settings.alarm_email is None and settings.alarm_topic_arn is None:
        text = "no [alarm] in the settings: changes of the key's policy and new grants raise no alarm"
        Annotations.of(stack).add_warning_v2("enclave-wireguard:no-alarm", text)
        return
    topic_arn = settings.alarm_topic_arn
    if topic_arn is None:
        topic = sns.CfnTopic(
            stack,
            "Alarm",
            display_name="The signer's KMS key",
            subscription=[sns.CfnTopic.SubscriptionProperty(endpoint=settings.alarm_email, protocol="email")],
        )
        accept(
            topic,
            "SNS mails alarms in clear text, and CloudTrail has the same. EventBridge cannot publish with SNS's own key",
            "CKV_AWS_26",
        )
        topic_arn = topic.ref
    for each in alarms:
        each.alarm_actions = [topic_arn]
    pattern = {
        "source": ["aws.kms"],
        "detail-type": ["AWS API Call via CloudTrail"],
        # The event has the key's ARN, whatever name the caller used.
        "detail": {"eventSource": ["kms.amazonaws.com"], "eventName": CALLS, "resources": {"ARN": [key_arn]}},
    }
    fields = {"call": "eventName", "who": "userIdentity.arn", "address": "sourceIPAddress", "time": "eventTime", "id": "eventID"}
    text = (
        f'"<call> on the signer\'s key {key_arn}, by <who> from <address> at <time>."\n'
        '"A deployment with cdk.sh puts the key policy. If this was none: compare `aws kms get-key-policy` and'
        ' `aws kms list-grants` with the key policy that you deployed."\n'
        '"CloudTrail has the call as event <id>."'
    )
    transformer = events.CfnRule.InputTransformerProperty(
        input_paths_map={name: f"$.detail.{path}" for name, path in fields.items()}, input_template=text
    )
    rule = events.CfnRule(
        stack,
        "KeyChanged",
        description="A change of the policy, the grants or the state of the signer's key",
        event_pattern=pattern,
        targets=[events.CfnRule.TargetProperty(arn=topic_arn, id="Alarm", input_transformer=transformer)],
    )
    if settings.alarm_topic_arn is None:
        publish = {"Action": "sns:Publish", "Resource": topic_arn}
        rule_alone = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            **publish,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
        }
        alarms_alone = [
            {
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                **publish,
                "Condition": {"ArnEquals": {"aws:SourceArn": each.attr_arn}},
            }
            for each in alarms
        ]
        # Other principals of the account may publish by their own policies.
        tls_alone = {
            "Effect": "Deny",
            "Principal": "*",
            **publish,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        document = {"Version": "2012-10-17", "Statement": [rule_alone, *alarms_alone, tls_alone]}
        sns.CfnTopicPolicy(stack, "AlarmPolicy", topics=[topic_arn], policy_document=document)
