"""The ledger: its bucket and the role's permissions as synthesized, and what of an image is refused."""

import fnmatch
import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from aws_cdk.assertions import Annotations, Match

from failure import Failure
from operator_files import ACCOUNT, LEDGER, LEDGER_TABLE, PCRS, REGION, ROLES, ROOT, SAMPLE, Operator, only, resolve
from permissions import LEDGER_ARN as ARN
from permissions import granted, may
from settings import Settings

NONCE, LEASE = f"{ARN}/nonce/00ff/1122", f"{ARN}/lease/00ff/7"
TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:security"
# Writes an enclave's object, as bootstrap/aws/cdk/bucket.py says.
GOOD = {"s3:object-lock-mode": "COMPLIANCE", "s3:object-lock-remaining-retention-days": 3650, "aws:SecureTransport": "true"}


def denied(statements: list[dict[str, Any]], principal: str, action: str, resource: str, keys: dict[str, Any]) -> list[str]:
    """The statements of the bucket's policy that deny this."""

    def holds(condition: dict[str, Any]) -> bool:
        for operator, wanted in condition.items():
            for key, value in wanted.items():
                found = keys.get(key)
                match operator:
                    case "NumericGreaterThan":
                        is_true = found is not None and found > value
                    case "StringNotEquals":
                        # IAM: true as well if the key is missing.
                        is_true = found != value
                    case "Bool":
                        is_true = found == value
                if not is_true:
                    return False
        return True

    found = []
    for each in statements:
        who = each["Principal"] if each["Principal"] == "*" else each["Principal"]["AWS"]
        lists = [[value] if isinstance(value, str) else value for value in (each["Action"], each["Resource"])]
        actions, resources = (
            any(fnmatch.fnmatchcase(text, one) for one in ones) for ones, text in zip(lists, (action, resource), strict=True)
        )
        if each["Effect"] == "Deny" and who in ("*", principal) and actions and resources and holds(each.get("Condition", {})):
            found.append(each.get("Sid", "TLS"))
    return found


class Bucket(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.operator = Operator(Path(cls.enterClassContext(tempfile.TemporaryDirectory())))
        cls.without = cls.operator.synthesize()
        cls.operator.settings = replace(cls.operator.settings, ledger=LEDGER, alarm_topic_arn=TOPIC_ARN)
        cls.stacks = cls.operator.synthesize()
        cls.key = cls.stacks["Key"]

    def bucket(self) -> dict[str, Any]:
        return only(self.key, "AWS::S3::Bucket")[1]

    def policy(self) -> list[dict[str, Any]]:
        bucket, _ = only(self.key, "AWS::S3::Bucket")
        roles = self.key.find_resources("AWS::IAM::Role")
        arns = {f"{name}.Arn": ROLES + role["Properties"]["RoleName"] for name, role in roles.items()}
        document = only(self.key, "AWS::S3::BucketPolicy")[1]["Properties"]["PolicyDocument"]
        return resolve(document["Statement"], {f"{bucket}.Arn": ARN, **arns})

    def denied(self, action: str, resource: str = NONCE, role: str = SAMPLE.instance_role, **keys: Any) -> list[str]:
        return denied(
            self.policy(), ROLES + role, action, resource, {**GOOD, **{f"s3:object-lock-{k}": v for k, v in keys.items()}}
        )

    def test_it_keeps_versions_and_locks_and_outlives_the_stack(self) -> None:
        bucket = self.bucket()
        properties = bucket["Properties"]
        self.assertEqual(properties["BucketName"], "example-ledger")
        self.assertEqual(properties["VersioningConfiguration"], {"Status": "Enabled"})
        self.assertIs(properties["ObjectLockEnabled"], True)
        self.assertNotIn("ObjectLockConfiguration", properties)
        self.assertEqual((bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]), ("Retain", "Retain"))
        self.assertEqual(set(properties["PublicAccessBlockConfiguration"].values()), {True})
        [rule] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        self.assertEqual(rule["ServerSideEncryptionByDefault"], {"SSEAlgorithm": "AES256"})

    def test_the_stack_with_the_image_leaves_it_alone(self) -> None:
        self.assertFalse(self.stacks["Enclave"].find_resources("AWS::S3::Bucket"))
        for template in self.without.values():
            self.assertNotIn("AWS::S3::Bucket", {each["Type"] for each in template.to_json()["Resources"].values()})

    def test_only_leases_expire_and_after_every_window(self) -> None:
        rules = self.bucket()["Properties"]["LifecycleConfiguration"]["Rules"]
        self.assertEqual({rule["Prefix"] for rule in rules}, {"lease/"})
        days = [rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule]
        self.assertEqual(days, [62])

    def test_the_role_writes_and_reads_the_ledger_s_objects(self) -> None:
        statements = granted(self.stacks, SAMPLE.instance_role)
        for action in ("PutObject", "PutObjectRetention", "GetObject", "GetObjectVersion"):
            for object_arn in (NONCE, LEASE):
                self.assertTrue(may(statements, f"s3:{action}", object_arn), action)
                self.assertEqual(self.denied(f"s3:{action}", object_arn), [], action)
            self.assertFalse(may(statements, f"s3:{action}", f"{ARN}/other"), action)
            self.assertFalse(may(statements, f"s3:{action}", "arn:aws:s3:::other/nonce/1/2"), action)
            self.assertFalse(may(granted(self.without, SAMPLE.instance_role), f"s3:{action}", NONCE), action)
        for action in ("ListBucketVersions", "GetBucketVersioning", "GetBucketObjectLockConfiguration"):
            self.assertTrue(may(statements, f"s3:{action}", ARN), action)
            self.assertFalse(may(statements, f"s3:{action}", "arn:aws:s3:::other"), action)

    def test_the_role_ends_nothing_and_the_function_reaches_nothing(self) -> None:
        statements = granted(self.stacks, SAMPLE.instance_role)
        for action in ("DeleteObject", "DeleteObjectVersion", "BypassGovernanceRetention", "PutObjectLegalHold", "PutObjectAcl"):
            self.assertFalse(may(statements, f"s3:{action}", NONCE), action)
            # Even if somebody gives it more.
            self.assertEqual(self.denied(f"s3:{action}"), ["NothingEndsByTheInstance"], action)
        for action in (
            "PutLifecycleConfiguration",
            "PutBucketVersioning",
            "PutBucketObjectLockConfiguration",
            "PutBucketPolicy",
            "DeleteBucketPolicy",
            "DeleteBucket",
            "PutReplicationConfiguration",
        ):
            self.assertFalse(may(statements, f"s3:{action}", ARN), action)
            self.assertEqual(self.denied(f"s3:{action}", ARN), ["NothingEndsByTheInstance"], action)
        for action in ("PutObject", "GetObject", "DeleteObject"):
            self.assertFalse(may(granted(self.stacks, SAMPLE.lambda_role), f"s3:{action}", NONCE), action)

    def test_objects_come_in_compliance_mode_within_the_cap_and_over_tls(self) -> None:
        for role in (SAMPLE.instance_role, "Administrator"):
            for action in ("s3:PutObject", "s3:PutObjectRetention"):
                days = "remaining-retention-days"
                # 366 days a year, and one more for a clock that is ahead.
                self.assertEqual(self.denied(action, role=role, **{days: 3661}), [])
                self.assertEqual(self.denied(action, role=role, **{days: 3662}), ["NoLongerThanTheCap"])
                for mode in ("GOVERNANCE", None):
                    self.assertEqual(self.denied(action, role=role, mode=mode), ["ComplianceAlone"])
            plain = denied(self.policy(), ROLES + role, "s3:GetObject", NONCE, {"aws:SecureTransport": "false"})
            self.assertEqual(plain, ["TLS"])

    def test_everybody_is_in_statements_that_deny_and_in_no_other(self) -> None:
        for statement in self.policy():
            self.assertEqual(statement["Effect"], "Deny")

    def test_its_size_raises_the_alarm(self) -> None:
        alarm, found = only(self.key, "AWS::CloudWatch::Alarm")
        properties = found["Properties"]
        self.assertEqual((properties["Namespace"], properties["MetricName"]), ("AWS/S3", "BucketSizeBytes"))
        self.assertEqual((properties["Threshold"], properties["AlarmActions"]), (10 << 30, [TOPIC_ARN]))
        settings = self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", settings)
        self.operator.settings = replace(settings, alarm_topic_arn=None)
        _, silent = only(self.operator.synthesize("key")["Key"], "AWS::CloudWatch::Alarm")
        self.assertNotIn("AlarmActions", silent["Properties"])
        self.operator.settings = replace(settings, alarm_topic_arn=None, alarm_email="security@example.com")
        mailing = self.operator.synthesize("key")["Key"]
        publishing = only(mailing, "AWS::SNS::TopicPolicy")[1]["Properties"]["PolicyDocument"]["Statement"]
        [rule] = [each for each in publishing if each["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
        self.assertEqual(rule["Condition"], {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [alarm, "Arn"]}}})

    def test_operators_learn_its_name(self) -> None:
        self.assertIn("LedgerBucket", self.key.to_json()["Outputs"])
        self.assertNotIn("LedgerBucket", self.without["Key"].to_json()["Outputs"])


class Image(unittest.TestCase):
    """What an image says of the ledger."""

    def setUp(self) -> None:
        self.operator = Operator(Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.text = self.operator.config_path.read_text()

    def build(self, more: str, text: str | None = None) -> None:
        """Builds an image with more in its configuration, and a policy for it."""
        self.operator.config_path.write_text((text or self.text) + more)
        self.operator.measure(PCRS)
        context = ["--context", "purpose=ethereum-signer"]
        if "[signer.ledger]" in more:
            context += ["--context", f"ledger={ACCOUNT}/example-ledger"]
        self.operator.allow("--encryptor", ROLES + "KeySetter", *context)

    def set(self, **settings: Any) -> None:
        self.operator.settings = replace(self.operator.settings, **settings)

    def refused(self, *words: str) -> None:
        with self.assertRaises(Failure) as caught:
            self.operator.synthesize()
        for word in (str(self.operator.config_path), *words):
            self.assertIn(word, str(caught.exception))

    def test_the_ledger_is_part_of_the_encryption_context_and_of_the_hosts(self) -> None:
        self.build(LEDGER_TABLE)
        self.set(ledger=LEDGER)
        stacks = self.operator.synthesize()
        _, function = only(stacks["Enclave"], "AWS::Lambda::Function")
        context = json.loads(function["Properties"]["Environment"]["Variables"]["ENCRYPTION_CONTEXT"])
        self.assertEqual(context, {"purpose": "ethereum-signer", "ledger": f"{ACCOUNT}/example-ledger"})
        logical_id, instance = only(stacks["Enclave"], "AWS::EC2::Instance")
        script = resolve(instance["Properties"]["UserData"], {f"{logical_id}ReasonHandle": "https://handle.example"})
        [hosts] = [line for line in script.splitlines() if line.startswith("export HOSTS=")]
        self.assertTrue(hosts.endswith(" example-ledger.s3.eu-central-1.amazonaws.com'"), hosts)

    def test_a_policy_for_a_key_beside_no_ledger_is_refused(self) -> None:
        self.build(LEDGER_TABLE)
        self.set(ledger=LEDGER)
        self.operator.allow("--encryptor", ROLES + "KeySetter", "--context", "purpose=ethereum-signer")
        with self.assertRaisesRegex(
            Failure, "the encryption context differs, expected the image's .*'ledger': '111122223333/example"
        ):
            self.operator.synthesize()

    def test_a_policy_that_lets_a_key_adopt_the_ledger(self) -> None:
        self.build(LEDGER_TABLE)
        self.set(ledger=LEDGER)
        ledger = f"ledger={ACCOUNT}/example-ledger"
        context = ("--context", "purpose=ethereum-signer", "--context", ledger)
        right = self.operator.allow("--encryptor", ROLES + "KeySetter", *context, "--adopter", ROLES + "KeyAdopter")
        self.operator.synthesize()
        for index, operator, key, word in [
            (3, "Bool", "kms:ReEncryptOnSameKey", "statement AdoptLedgerFrom has another condition than"),
            (3, "Null", "kms:EncryptionContext:ledger", "statement AdoptLedgerFrom has another condition than"),
            (4, "Bool", "kms:ReEncryptOnSameKey", "statement AdoptLedgerTo has another condition than"),
            (4, "StringEquals", "kms:EncryptionContext:ledger", "statement AdoptLedgerTo has another condition than"),
        ]:
            wrong = json.loads(json.dumps(right))
            del wrong["Statement"][index]["Condition"][operator][key]
            self.operator.policy_path.write_text(json.dumps(wrong))
            with self.subTest(word, key=key), self.assertRaisesRegex(Failure, word):
                self.operator.synthesize()

    def test_an_endpoint_of_the_image_is_looked_up_in_its_place(self) -> None:
        self.build(LEDGER_TABLE + 'endpoint = "https://bucket.vpce-1.s3.eu-central-1.vpce.amazonaws.com"\n')
        self.set(ledger=LEDGER)
        self.operator.synthesize()
        listed = (self.operator.policy_path.parent / "cdk.out/dns-allow-list.txt").read_text().splitlines()
        self.assertEqual(listed[-1], "bucket.vpce-1.s3.eu-central-1.vpce.amazonaws.com")

    def test_another_ledger_than_the_stack_s_is_refused(self) -> None:
        for more, ledger, words in [
            (
                LEDGER_TABLE,
                None,
                ["signer.ledger.bucket is 'example-ledger'", 'expected [ledger] with bucket = "example-ledger"'],
            ),
            (
                LEDGER_TABLE.replace('"example-ledger"', '"other"'),
                LEDGER,
                ["signer.ledger.bucket: 'other', expected 'example-ledger', which is ledger.bucket in the settings"],
            ),
            (
                LEDGER_TABLE.replace(ACCOUNT, "999999999999"),
                LEDGER,
                ["signer.ledger.owner: '999999999999', expected '111122223333'"],
            ),
            (LEDGER_TABLE.replace("= 10", "= 11"), LEDGER, ["signer.ledger.retention_years: 11, expected at most 10"]),
            (LEDGER_TABLE.replace("owner", "owners"), LEDGER, ["signer.ledger.owner: None, expected"]),
            (LEDGER_TABLE.replace("= 10", '= "10"'), LEDGER, ["signer.ledger.retention_years: '10', expected"]),
        ]:
            with self.subTest(words):
                self.build(more)
                self.set(ledger=ledger)
                self.refused(*words)

    def test_a_bucket_without_an_image_that_uses_it_is_accepted(self) -> None:
        self.build("")
        self.set(ledger=LEDGER)
        self.operator.synthesize()

    def test_a_fleet_that_promises_to_sign_a_nonce_once_needs_a_ledger(self) -> None:
        base = "nonce_reuse = false"
        reusing = self.text.replace(base, "nonce_reuse = true")
        self.assertIn(base, self.text)
        key = f"[signer.policy.keys.0x{'11' * 20}]\n"
        client = '[[signer.clients]]\nname = "b.example"\n[signer.clients.policy]\nnonce_reuse = false\n'
        for text, more, name in [
            (self.text, "", "signer.policy.nonce_reuse"),
            (self.text.replace(base, ""), "", "signer.policy.nonce_reuse"),
            (reusing, f"{key}nonce_reuse = false\n", f"signer.policy.keys.0x{'11' * 20}.nonce_reuse: not true"),
            (reusing, client, "signer.clients.policy.nonce_reuse"),
            (reusing, '[[home]]\nurl = "https://hub.example"\n[home.policy]\nnonce_reuse = false\n', "home.policy.nonce_reuse"),
        ]:
            with self.subTest(name):
                self.build(more, text)
                self.set(instances=1, ledger=None)
                self.operator.synthesize()
                self.set(instances=3)
                self.refused(name, "and fleet.instances is 3", "expected [signer.ledger]", "or nonce_reuse = true")
        for text, more, ledger in [
            (self.text, LEDGER_TABLE, LEDGER),
            (reusing, "", None),
            (reusing, f'{key}max_value = "2 ether"\n', None),
            (self.text.replace(base, "nonce_reuse = true"), f"{key}nonce_reuse = true\n", None),
        ]:
            self.build(more, text)
            self.set(instances=3, ledger=ledger)
            self.operator.synthesize()

    def test_a_fleet_whose_windows_count_for_each_enclave_warns(self) -> None:
        window = '[[signer.policy.windows]]\nperiod = "1h"\nmax_count = 10\n'
        reusing = self.text.replace("nonce_reuse = false", "nonce_reuse = true")
        for more, instances, ledger, is_warned in [
            (window, 3, None, True),
            ('[[signer.clients]]\nname = "b"\n[[signer.clients.policy.windows]]\nperiod = "1h"\nmax_count = 10\n', 3, None, True),
            (window, 1, None, False),
            (window + LEDGER_TABLE, 3, LEDGER, False),
            ("", 3, None, False),
        ]:
            self.build(more, reusing)
            self.set(instances=instances, ledger=ledger)
            cdk = self.operator.build("enclave", Path(self.enterContext(tempfile.TemporaryDirectory())))
            cdk.synth()
            found = Annotations.from_stack(cdk.node.find_child(SAMPLE.enclave_stack))
            check = found.has_warning if is_warned else found.has_no_warning
            check("*", Match.string_like_regexp("counts its windows by itself"))


class Table(unittest.TestCase):
    def test_the_settings_name_what_is_wrong(self) -> None:
        text = (ROOT / "config/aws.toml").read_text()
        for key in ("[ledger]", 'bucket = "example-ledger"', "max_retention_years = 10"):
            self.assertEqual(text.count(f"# {key}\n"), 1)
            text = text.replace(f"# {key}\n", f"{key}\n")
        self.assertEqual(Settings.parse(text).ledger, LEDGER)
        self.assertIsNone(SAMPLE.ledger)
        for before, after, expected in [
            ('bucket = "example-ledger"\n', "", "ledger.bucket is missing"),
            ('"example-ledger"', '"example.ledger"', "ledger.bucket: 'example.ledger', expected 3 to 63 lower-case letters"),
            ("max_retention_years = 10\n", "", "ledger.max_retention_years is missing"),
            ("max_retention_years = 10", "max_retention_years = 101", "ledger.max_retention_years: 101, expected 1 to 100"),
            ("# alarm_gib = 10", "alarm_gib = 0", "ledger.alarm_gib: 0, expected 1 to"),
            ("max_retention_years", "retention_years", "ledger.max_retention_years is missing"),
        ]:
            with self.assertRaises(Failure) as caught:
                Settings.parse(
                    text.replace(before, after, 1) if "max_ret" not in before else text.replace(f"\n{before}", f"\n{after}", 1)
                )
            self.assertIn(expected, str(caught.exception))
