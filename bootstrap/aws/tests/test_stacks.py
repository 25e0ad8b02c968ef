"""The stacks as synthesized, and what they refuse."""

import json
import re
import tempfile
import unittest
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from failure import Failure
from operator_files import ACCOUNT, PCRS, ROLES, SAMPLE, SECRET_ARN, Operator, only, resolve

INSTANCE, GROUP, RULE = "AWS::EC2::Instance", "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress"


def statements(template: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All statements of a template's policies, except trust policies."""
    found = []
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        documents = [properties.get(key, {}) for key in ("PolicyDocument", "KeyPolicy")]
        documents += [inline["PolicyDocument"] for inline in properties.get("Policies", [])]
        found += [(name, statement) for document in documents for statement in document.get("Statement", [])]
    return found


class Stacks(unittest.TestCase):
    """One deployment for all of them."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.operator = Operator(Path(cls.folder))
        cls.stacks = cls.operator.synthesize()
        cls.key, cls.enclave = (cls.stacks[name] for name in ("Key", "Enclave"))

    def instance(self) -> dict[str, Any]:
        return only(self.enclave, INSTANCE)[1]["Properties"]

    def test_the_instance_may_have_enclaves_and_needs_tokens_within_two_hops(self) -> None:
        metadata = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 2}
        self.assertEqual(self.instance()["MetadataOptions"], metadata)
        self.assertEqual(self.instance()["EnclaveOptions"], {"Enabled": True})
        self.assertEqual(self.instance()["InstanceType"], "c6i.xlarge")

    def test_the_disk_is_encrypted(self) -> None:
        self.assertEqual([disk["Ebs"]["Encrypted"] for disk in self.instance()["BlockDeviceMappings"]], [True])

    def test_only_port_443_is_open_and_only_to_the_function_and_the_clients(self) -> None:
        self.operator.settings, before = replace(self.operator.settings, clients=["10.0.0.0/16"]), self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", before)
        template = self.operator.synthesize()["Enclave"]
        rules = [rule["Properties"] for rule in template.find_resources(RULE).values()]
        for group in template.find_resources(GROUP).values():
            rules += group["Properties"].get("SecurityGroupIngress", [])
        ports = [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in rules]
        self.assertEqual(ports, [("tcp", 443, 443)] * 2)
        sources = [rule.get("CidrIp") or rule["SourceSecurityGroupId"]["Fn::GetAtt"][0][:13] for rule in rules]
        self.assertEqual(sorted(sources), ["10.0.0.0/16", "FunctionGroup"])
        self.assertNotIn("KeyName", self.instance())

    def test_the_key_policy_is_what_wallet_policy_writes(self) -> None:
        _, key = only(self.key, "AWS::KMS::Key")
        self.assertEqual(key["Properties"]["KeyPolicy"], json.loads(self.operator.policy_path.read_text()))
        self.assertEqual(key["Properties"].get("KeySpec", "SYMMETRIC_DEFAULT"), "SYMMETRIC_DEFAULT")
        self.assertEqual((key["DeletionPolicy"], key["UpdateReplacePolicy"]), ("Retain", "Retain"))

    def test_decrypt_is_for_the_attested_image_alone(self) -> None:
        stacks = [template.to_json() for template in self.stacks.values()]
        opening = [
            (name, statement)
            for stack in stacks
            for name, statement in statements(stack)
            if any(word in json.dumps(statement["Action"]) for word in ("Decrypt", "ReEncrypt", "CreateGrant", "kms:*", '"*"'))
        ]
        [(name, statement)] = opening
        self.assertEqual(name, only(self.key, "AWS::KMS::Key")[0])
        self.assertEqual(statement["Principal"], {"AWS": ROLES + SAMPLE.instance_role})
        condition = {
            "StringEquals": {"kms:EncryptionContext:purpose": "ethereum-signer"},
            "StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": PCRS[0]},
        }
        self.assertEqual(statement["Condition"], condition)

    def test_without_an_image_nobody_may_decrypt(self) -> None:
        template = self.operator.synthesize("key")["Key"]
        _, key = only(template, "AWS::KMS::Key")
        written = json.loads(self.operator.policy_path.read_text())
        manage = {**written, "Statement": written["Statement"][:1]}
        self.assertEqual(key["Properties"]["KeyPolicy"], manage)
        # The stack is the same but for the policy, so that it is the same key.
        _, later = only(self.key, "AWS::KMS::Key")
        del key["Properties"]["KeyPolicy"], later["Properties"]["KeyPolicy"]
        self.assertEqual(key, later)

    def test_no_policy_has_a_wildcard_principal(self) -> None:
        for template in self.stacks.values():
            for name, resource in template.to_json()["Resources"].items():
                text = json.dumps(resource)
                for everybody in ('"Principal": "*"', '"AWS": "*"', '"AWS": ["*"', ':role/*"', ":root"):
                    self.assertNotIn(everybody, text, name)

    def test_the_function_reads_its_client_secret_and_no_other(self) -> None:
        before = self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", before)
        arn = f"{SECRET_ARN}clients/wallet"
        self.assertNotIn("CLIENT_SECRET_ID", json.dumps(self.enclave.to_json()))
        for secret_id, resource in [("clients/wallet", f"{arn}-??????"), (f"{arn}-AbCdEf", f"{arn}-AbCdEf")]:
            self.operator.settings = replace(before, client_secret_id=secret_id)
            template = self.operator.synthesize()["Enclave"]
            _, function = only(template, "AWS::Lambda::Function")
            self.assertEqual(function["Properties"]["Environment"]["Variables"]["CLIENT_SECRET_ID"], secret_id)
            policies = [policy["Properties"] for policy in template.find_resources("AWS::IAM::Policy").values()]
            [policy] = [policy for policy in policies if "secretsmanager:" in json.dumps(policy)]
            [role] = resolve(policy["Roles"], {})
            self.assertIn("RefLambdaRole", role)
            [statement] = policy["PolicyDocument"]["Statement"]
            granted = (statement["Effect"], statement["Action"], resolve(statement["Resource"], {}))
            self.assertEqual(granted, ("Allow", "secretsmanager:GetSecretValue", resource))

    def test_what_the_second_stack_imports_is_exported_at_each_stage(self) -> None:
        imported = set(re.findall(r'"Fn::ImportValue": "([^"]*)"', json.dumps(self.enclave.to_json())))
        self.assertTrue(imported)
        for stage in ("key", "enclave"):
            outputs = self.operator.synthesize(stage)["Key"].to_json()["Outputs"].values()
            self.assertLessEqual(imported, {output["Export"]["Name"] for output in outputs if "Export" in output}, stage)

    def test_the_function_stores_keys_only_where_the_settings_say_so(self) -> None:
        _, function = only(self.enclave, "AWS::Lambda::Function")
        self.assertNotIn("SET_KEY", function["Properties"]["Environment"]["Variables"])
        before = self.operator.settings
        self.addCleanup(self.operator.allow)
        self.addCleanup(setattr, self.operator, "settings", before)
        self.operator.settings = replace(before, may_set_key=True)
        self.operator.allow("--encryptor", ROLES + SAMPLE.lambda_role, "--context", "purpose=ethereum-signer")
        _, function = only(self.operator.synthesize()["Enclave"], "AWS::Lambda::Function")
        self.assertEqual(function["Properties"]["Environment"]["Variables"]["SET_KEY"], "true")

    def test_the_secret_has_no_value_yet_and_outlives_the_stack(self) -> None:
        _, secret = only(self.key, "AWS::SecretsManager::Secret")
        self.assertEqual(secret["DeletionPolicy"], "Retain")
        self.assertEqual(set(secret["Properties"]), {"Name", "Description"})

    def test_the_function_runs_on_al2023_in_the_vpc(self) -> None:
        _, function = only(self.enclave, "AWS::Lambda::Function")
        properties = function["Properties"]
        kind = (properties["Runtime"], properties["Architectures"], properties["Handler"])
        self.assertEqual(kind, ("provided.al2023", ["x86_64"], "bootstrap"))
        self.assertEqual(len(properties["VpcConfig"]["SubnetIds"]), 1)

    def test_changed_files_replace_the_instance(self) -> None:
        first, _ = only(self.enclave, INSTANCE)
        self.assertEqual(only(self.operator.synthesize()["Enclave"], INSTANCE)[0], first)
        text = self.operator.parent_path.read_text()
        self.addCleanup(self.operator.parent_path.write_text, text)
        self.operator.parent_path.write_text(text + "# one more line\n")
        self.assertNotEqual(only(self.operator.synthesize()["Enclave"], INSTANCE)[0], first)

    def test_another_type_replaces_the_instance_which_must_answer(self) -> None:
        first, _ = only(self.enclave, INSTANCE)
        self.addCleanup(setattr, self.operator, "settings", self.operator.settings)
        self.operator.settings = replace(self.operator.settings, instance_type="c6i.2xlarge")
        self.assertNotEqual(only(self.operator.synthesize()["Enclave"], INSTANCE)[0], first)

    def test_the_deployment_waits_for_the_first_boot(self) -> None:
        _, instance = only(self.enclave, INSTANCE)
        self.assertEqual(instance["CreationPolicy"], {"ResourceSignal": {"Count": 1, "Timeout": "PT1800S"}})
        reason_id, reason = only(self.enclave, "AWS::CloudFormation::WaitCondition")
        # It waits while the instance boots, and is another with another instance.
        logical_id, _ = only(self.enclave, INSTANCE)
        self.assertEqual(reason_id, f"{logical_id}Reason")
        self.assertEqual(reason["DependsOn"], instance["DependsOn"])
        self.assertEqual(reason["Properties"], {"Count": 1, "Timeout": "1800", "Handle": {"Ref": f"{logical_id}ReasonHandle"}})
        script = resolve(instance["Properties"]["UserData"], {f"{logical_id}ReasonHandle": "https://handle.example"})
        self.assertIn("export HANDLE='https://handle.example'", script)
        self.assertLess(len(script), 16384)
        self.assertIn(f"export RESOURCE='{only(self.enclave, INSTANCE)[0]}'", script)

    def test_operators_learn_what_they_need_next(self) -> None:
        outputs = {name: set(template.to_json()["Outputs"]) for name, template in self.stacks.items()}
        self.assertLessEqual({"KeyArn", "InstanceRoleArn", "LambdaRoleArn", "SecretId", "SecretArn"}, outputs["Key"])
        self.assertEqual(outputs["Enclave"], {"InstanceId", "ParentAddress", "EnclaveUrl", "FunctionName"})

    def test_a_new_vpc_is_in_the_named_zone(self) -> None:
        settings = replace(self.operator.settings, zone="eu-central-1c")
        self.operator.settings, before = settings, self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", before)
        subnets = self.operator.synthesize()["Enclave"].find_resources("AWS::EC2::Subnet").values()
        self.assertEqual({subnet["Properties"]["AvailabilityZone"] for subnet in subnets}, {"eu-central-1c"})

    def test_a_new_vpc_logs_all_its_flows(self) -> None:
        vpc, _ = only(self.enclave, "AWS::EC2::VPC")
        _, flow_log = only(self.enclave, "AWS::EC2::FlowLog")
        properties = flow_log["Properties"]
        self.assertEqual((properties["ResourceId"], properties["TrafficType"]), ({"Ref": vpc}, "ALL"))

    def test_the_instance_waits_for_its_route_to_the_internet(self) -> None:
        _, instance = only(self.enclave, INSTANCE)
        for kind in ("AWS::EC2::Route", "AWS::EC2::SubnetRouteTableAssociation"):
            private = [name for name in self.enclave.find_resources(kind) if "Private" in name]
            self.assertEqual(private, [name for name in instance["DependsOn"] if name in private], kind)
            self.assertTrue(private, kind)

    def test_an_existing_vpc_is_used(self) -> None:
        settings = replace(self.operator.settings, vpc_id="vpc-01234567", subnet_id="subnet-01234567", ami_id="ami-01234567")
        self.operator.settings, before = settings, self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", before)
        template = self.operator.synthesize()["Enclave"]
        template.resource_count_is("AWS::EC2::VPC", 0)
        template.resource_count_is("AWS::EC2::FlowLog", 0)
        _, instance = only(template, INSTANCE)
        self.assertEqual(instance["Properties"]["SubnetId"], "subnet-01234567")
        self.assertEqual(instance["Properties"]["ImageId"], "ami-01234567")
        _, function = only(template, "AWS::Lambda::Function")
        self.assertEqual(function["Properties"]["VpcConfig"]["SubnetIds"], ["subnet-01234567"])


class Refusals(unittest.TestCase):
    """Errors are reported before anything is deployed."""

    def setUp(self) -> None:
        warnings.simplefilter("ignore", ResourceWarning)
        self.operator = Operator(Path(self.enterContext(tempfile.TemporaryDirectory())))

    def refused(self, *words: str) -> None:
        with self.assertRaises(Failure) as caught:
            self.operator.synthesize()
        for word in words:
            self.assertIn(word, str(caught.exception))

    def edit(self, path: Path, before: str, after: str) -> None:
        text = path.read_text()
        self.assertIn(before, text)
        path.write_text(text.replace(before, after))

    def test_zero_registers(self) -> None:
        for index in range(3):
            self.operator.measure([*PCRS[:index], "0" * 96, *PCRS[index + 1 :]])
            self.refused(str(self.operator.measurements_path), f"PCR{index} is zero, as in debug mode")

    def test_an_image_that_is_missing_or_not_measured(self) -> None:
        self.operator.eif_path.write_bytes(b"another image")
        self.refused("enclave.eif is not the image that", "measurements.json measures")
        self.operator.eif_path.unlink()
        self.refused(f"{self.operator.eif_path}: No such file or directory; `make eif` writes it")
        self.operator.measurements_path.write_text("{}")
        self.refused(str(self.operator.measurements_path), "PCR0", "expected the output of `make eif`")
        self.operator.measurements_path.unlink()
        self.refused(f"{self.operator.measurements_path}: No such file or directory; `make eif` writes it")

    def test_a_configuration_that_is_not_in_the_image(self) -> None:
        self.edit(self.operator.config_path, "port = 443", "port = 444")
        self.refused(f"{self.operator.config_path} was changed after the image was built")

    def test_an_image_that_does_not_sign(self) -> None:
        self.operator.config_path.write_text("[tunnel]\n")
        self.operator.measure(PCRS)
        self.refused(f"{self.operator.config_path}: expected [signer] and [kms]")

    def test_a_policy_that_is_missing_or_of_another_image(self) -> None:
        self.operator.measure(["d" * 96, *PCRS[1:]])
        self.refused(str(self.operator.policy_path), "is for the image aaaaaaaaaaaaaaaa…", "PCR0 dddddddddddddddd…")
        self.operator.policy_path.unlink()
        self.refused(f"{self.operator.policy_path}: No such file or directory; `wallet policy` writes it")

    def test_an_upgrade_leaves_the_running_image_its_key(self) -> None:
        former = self.operator.policy_path.parent / "former.json"
        former.write_text(self.operator.measurements_path.read_text())
        new = ["d" * 96, *PCRS[1:]]
        self.operator.measure(new)
        both = ["--measurements", str(former), "--encryptor", ROLES + "KeySetter", "--context", "purpose=ethereum-signer"]
        self.operator.allow(*both)
        self.refused(str(self.operator.policy_path), "is also for the image aaaaaaaaaaaaaaaa…", "files.former_measurements_paths")
        self.operator.settings = replace(self.operator.settings, former_measurements_paths=[former])
        stacks = self.operator.synthesize()
        _, key = only(stacks["Key"], "AWS::KMS::Key")
        [decrypt] = [each for each in key["Properties"]["KeyPolicy"]["Statement"] if each["Action"] == "kms:Decrypt"]
        digests = decrypt["Condition"]["StringEqualsIgnoreCase"]["kms:RecipientAttestation:ImageSha384"]
        self.assertEqual(sorted(digests), sorted([new[0], PCRS[0]]))
        _, function = only(stacks["Enclave"], "AWS::Lambda::Function")
        believed = json.loads(function["Properties"]["Environment"]["Variables"]["MEASUREMENTS"])
        self.assertEqual([image["PCR0"] for image in believed], [new[0], PCRS[0]])
        # The new image's policy alone would take the key from the running one.
        self.operator.allow()
        self.refused(str(self.operator.policy_path), "is for the image dddddddddddddddd…", f"{former} has PCR0 aaaaaaaaaaaaaaaa…")

    def test_a_policy_that_opens_the_key_otherwise(self) -> None:
        right = self.operator.allow()
        setter = f"statement Encrypt: {ROLES}KeySetter"
        for index, key, value, word in [
            (2, "Condition", {"StringEquals": {}}, "requires no attestation"),
            (2, "Action", ["kms:Decrypt", "kms:DescribeKey"], "the enclave may kms:Decrypt, kms:DescribeKey"),
            (2, "Action", "kms:*", f"{ROLES}enclave-signer-instance opens the key: it writes a policy that lets it decrypt"),
            (2, "Action", "kms:GenerateDataKey", f"{ROLES}enclave-signer-instance uses the key (kms:GenerateDataKey)"),
            (2, "Action", "kms:DescribeKey", "expected one statement with kms:Decrypt"),
            (1, "Action", ["kms:Encrypt", "kms:re*"], f"{setter} opens the key: it has KMS encrypt anew, for another key"),
            (1, "Action", ["kms:Encrypt", "KMS:ReEncryptTo"], f"{setter} uses the key (kms:ReEncryptTo)"),
            (1, "Action", "kms:CreateGrant", f"{setter} opens the key: it grants itself or others to decrypt"),
            (
                1,
                "Action",
                ["kms:Encrypt", "kms:Put*"],
                f"{setter} opens the key: it writes a policy that lets it decrypt (kms:PutKeyPolicy)",
            ),
            (1, "Action", ["kms:Encrypt", "kms:?utKeyPolicy"], f"{setter} opens the key: it writes a policy"),
            (1, "Action", ["kms:Encrypt", "kms:ReplicateKey"], f"{setter} opens the key: it makes a copy of the key"),
            (1, "Action", ["kms:Encrypt", "kms:GenerateDataKey*"], f"{setter} uses the key (kms:GenerateDataKey)"),
            (1, "Action", ["kms:Encrypt", "kms:Schedule*"], f"{setter} ends the key (kms:ScheduleKeyDeletion)"),
            (1, "Action", ["kms:Encrypt", "kms:DisableKey"], f"{setter} ends the key (kms:DisableKey)"),
            (1, "Action", "*", f"{setter} opens the key: it decrypts (kms:Decrypt)"),
            (0, "Action", "kms:*", f"statement Manage: {SAMPLE.admins[0]} opens the key: it decrypts"),
            (0, "Action", ["kms:Put*", "kms:Create*"], f"statement Manage: {SAMPLE.admins[1]} opens the key: it grants"),
            (0, "Principal", "*", "'*', expected the ARNs of roles or users"),
            (1, "Principal", {"AWS": "*"}, "'*', expected the ARNs of roles or users"),
            (1, "Principal", {"AWS": [ROLES + "*"]}, "expected the ARNs of roles or users"),
            (1, "Principal", {"Federated": "a"}, "expected the ARNs of roles or users"),
            (1, "Principal", {"Service": "lambda.amazonaws.com"}, "expected the ARNs of roles or users"),
            (1, "NotAction", "kms:Decrypt", "statement Encrypt has NotAction"),
            (1, "NotPrincipal", {"AWS": ROLES + "a"}, "statement Encrypt has NotPrincipal"),
            (1, "Effect", "Deny", "has the effect Deny"),
        ]:
            wrong = json.loads(json.dumps(right))
            wrong["Statement"][index][key] = value
            self.operator.policy_path.write_text(json.dumps(wrong))
            with self.subTest(word, value=value):
                self.refused(f"{self.operator.policy_path}: ", word)

    def test_each_principal_of_an_added_statement_that_opens_the_key_is_named(self) -> None:
        right = self.operator.allow()
        who = [ROLES + "Auditor", f"arn:aws:iam::{ACCOUNT}:root"]
        more = {"Sid": "Audit", "Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:PutKeyPolicy", "Resource": "*"}
        self.operator.policy_path.write_text(json.dumps({**right, "Statement": [*right["Statement"], more]}))
        self.refused(*[f"statement Audit: {name} opens the key: it writes a policy that lets it decrypt" for name in who])
        more["Action"] = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:List*"]
        self.operator.policy_path.write_text(json.dumps({**right, "Statement": [*right["Statement"], more]}))
        self.operator.synthesize()

    def test_a_policy_with_other_principals_or_context(self) -> None:
        encryptor = ("--encryptor", ROLES + "KeySetter")
        context = ("--context", "purpose=ethereum-signer")
        self.operator.allow(role="Other")
        self.refused("the principal of kms:Decrypt is not the instance's role, enclave-signer-instance")
        self.operator.allow(admins=SAMPLE.admins[:1])
        self.refused("the principals of Manage differ from key.admins in the settings")
        for flags in [encryptor, (*encryptor, "--context", "purpose=other"), (*encryptor, *context, "--context", "more=1")]:
            self.operator.allow(*flags)
            self.refused("the encryption context differs, expected the image's kms.encryption_context")

    def test_the_function_encrypts_if_it_is_to_store_keys_and_only_then(self) -> None:
        context = ("--context", "purpose=ethereum-signer")
        self.operator.allow("--encryptor", ROLES + SAMPLE.lambda_role, *context)
        self.refused("enclave-signer-lambda, may encrypt, and function.may_set_key is not true")
        self.operator.settings = replace(self.operator.settings, may_set_key=True)
        self.operator.synthesize()
        self.operator.allow("--encryptor", ROLES + "KeySetter", *context)
        self.refused("the function's role, enclave-signer-lambda, may not encrypt, and function.may_set_key is true")

    def test_an_image_whose_clients_have_keys_of_other_secrets(self) -> None:
        self.edit(self.operator.config_path, 'secret_ids = ["prod/hot-wallet"]', 'secret_ids = ["prod/hot-wallet", "prod/other"]')
        self.operator.measure(PCRS)
        self.refused("secret_ids of [[signer.clients]] has 'prod/other'", "expected 'prod/hot-wallet' alone")
        arn = f"{SECRET_ARN}prod/hot-wallet-AbCdEf"
        self.edit(self.operator.config_path, '"prod/other"', f'"{arn}"')
        self.operator.measure(PCRS)
        self.operator.synthesize()

    def test_a_parent_configuration_that_cannot_work(self) -> None:
        path = self.operator.parent_path
        right = path.read_text()
        for before, after, word in [
            ("[[nat.forwards]]\nport = 443", "[[nat.forwards]]\nport = 444", "no [[nat.forwards]] with port = 443"),
            ("[nat]\n", '[nat]\nuplink = "eth0"\n', "nat.uplink: expected none"),
            ("/etc/wg-server/measurements.json", "/elsewhere", "measurements_paths and private_key_path are"),
            ("[attestation]\n", "[attest]\n", "expected the parent's configuration"),
        ]:
            self.edit(path, before, after)
            self.refused(str(path), word)
            path.write_text(right)

    def test_files_that_are_not_programs(self) -> None:
        for name, value, word in [
            ("wg_server_path", Path("/nowhere"), "/nowhere: no such file"),
            ("wg_server_path", self.operator.parent_path, "not a program for x86_64 Linux"),
            (
                "lambda_path",
                Path("/nowhere"),
                "/nowhere: [Errno 2] No such file or directory: '/nowhere'; `bootstrap/aws/lambda.sh",
            ),
            ("lambda_path", self.operator.parent_path, "File is not a zip file"),
        ]:
            self.operator.settings, before = replace(self.operator.settings, **{name: value}), self.operator.settings
            self.refused(word)
            self.operator.settings = before
