"""The stack of several instances, as synthesized. What the hooks call is in test_hooks.py."""

import json
import re
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from failure import Failure
from operator_files import PCRS, REGION, ROLES, Operator, only, resolve

TEMPLATE, GROUP, BALANCER = "AWS::EC2::LaunchTemplate", "AWS::AutoScaling::AutoScalingGroup", "AWS::ElasticLoadBalancingV2::"
RULE, SECURITY_GROUP = "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroup"


class Fleet(unittest.TestCase):
    """One deployment for all of them, and one with a single instance."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.operator = Operator(Path(cls.enterClassContext(tempfile.TemporaryDirectory())))
        cls.one = cls.operator.synthesize()["Enclave"]
        cls.operator.keep_ledger(instances=3)
        cls.enclave = cls.operator.synthesize()["Enclave"]

    def with_settings(self, **settings: Any) -> Any:
        before = self.operator.settings
        self.addCleanup(setattr, self.operator, "settings", before)
        self.operator.settings = replace(before, **settings)
        return self.operator.synthesize()["Enclave"]

    def launched(self) -> dict[str, Any]:
        return only(self.enclave, TEMPLATE)[1]["Properties"]["LaunchTemplateData"]

    def group(self) -> dict[str, Any]:
        return only(self.enclave, GROUP)[1]

    def script(self) -> str:
        handle, _ = only(self.enclave, "AWS::CloudFormation::WaitConditionHandle")
        return resolve(self.launched()["UserData"], {handle: "https://handle.example"})

    def test_each_instance_has_all_that_the_single_one_has(self) -> None:
        single = only(self.one, "AWS::EC2::Instance")[1]["Properties"]
        for name in ("EnclaveOptions", "MetadataOptions", "BlockDeviceMappings", "InstanceType", "ImageId", "SecurityGroupIds"):
            self.assertEqual(self.launched()[name], single[name], name)
        self.assertNotIn("KeyName", self.launched())
        self.assertEqual(self.launched()["MetadataOptions"]["HttpTokens"], "required")
        profile, _ = only(self.enclave, "AWS::IAM::InstanceProfile")
        self.assertEqual(self.launched()["IamInstanceProfile"], {"Arn": {"Fn::GetAtt": [profile, "Arn"]}})

    def test_the_first_boot_checks_the_same_hashes_and_image_as_a_single_one(self) -> None:
        lines = self.script().splitlines()
        for name in ("SHA256", "PCR0", "KEY", "BUCKET", "HOSTS"):
            self.assertTrue(any(line.startswith(f"export {name}='") for line in lines), name)
        self.assertIn(f"export PCR0='{PCRS[0]}'", lines)
        for line in (
            "export RESOURCE='Fleet'",
            "export GROUP='enclave-signer-fleet'",
            "export ENCLAVE_ADDRESS='203.0.113.2:443'",
        ):
            self.assertIn(line, lines)
        self.assertLess(len(self.script()), 16384)

    def test_a_single_instance_knows_nothing_of_a_fleet(self) -> None:
        kinds = {each["Type"] for each in self.one.to_json()["Resources"].values()}
        self.assertFalse([kind for kind in kinds if "AutoScaling" in kind or "LoadBalancing" in kind or "LaunchTemplate" in kind])
        user_data = json.dumps(only(self.one, "AWS::EC2::Instance")[1]["Properties"]["UserData"])
        self.assertNotIn("export GROUP=", user_data)

    def test_the_instances_are_in_two_zones_and_each_zone_has_its_own_way_out(self) -> None:
        subnets = self.group()["Properties"]["VPCZoneIdentifier"]
        self.assertEqual(len(subnets), 2)
        zones = [
            self.enclave.find_resources("AWS::EC2::Subnet")[each["Ref"]]["Properties"]["AvailabilityZone"] for each in subnets
        ]
        self.assertEqual([zone["Fn::Select"][0] for zone in zones], [0, 1])
        self.enclave.resource_count_is("AWS::EC2::NatGateway", 2)
        _, function = only(self.enclave, "AWS::Lambda::Function")
        self.assertEqual(function["Properties"]["VpcConfig"]["SubnetIds"], subnets)
        _, balancer = only(self.enclave, BALANCER + "LoadBalancer")
        self.assertEqual(balancer["Properties"]["Subnets"], subnets)

    def test_named_zones_and_existing_subnets_are_used(self) -> None:
        zones = [f"{REGION}{letter}" for letter in "abc"]
        template = self.with_settings(zones=zones)
        found = {each["Properties"]["AvailabilityZone"] for each in template.find_resources("AWS::EC2::Subnet").values()}
        self.assertEqual(found, set(zones))
        template.resource_count_is("AWS::EC2::NatGateway", 3)
        subnets = ["subnet-01234567", "subnet-89abcdef"]
        template = self.with_settings(zones=[], vpc_id="vpc-01234567", subnet_ids=subnets)
        self.assertEqual(only(template, GROUP)[1]["Properties"]["VPCZoneIdentifier"], subnets)
        template.resource_count_is("AWS::EC2::VPC", 0)

    def test_the_load_balancer_is_internal_passes_tcp_and_has_a_stable_name(self) -> None:
        name, balancer = only(self.enclave, BALANCER + "LoadBalancer")
        self.assertEqual((balancer["Properties"]["Type"], balancer["Properties"]["Scheme"]), ("network", "internal"))
        attributes = {each["Key"]: each["Value"] for each in balancer["Properties"]["LoadBalancerAttributes"]}
        self.assertEqual(attributes["load_balancing.cross_zone.enabled"], "true")
        _, listener = only(self.enclave, BALANCER + "Listener")
        self.assertEqual((listener["Properties"]["Protocol"], listener["Properties"]["Port"]), ("TCP", 443))
        url = {"Fn::Join": ["", ["https://", {"Fn::GetAtt": [name, "DNSName"]}]]}
        self.assertEqual(self.enclave.to_json()["Outputs"]["EnclaveUrl"]["Value"], url)
        _, function = only(self.enclave, "AWS::Lambda::Function")
        self.assertEqual(function["Properties"]["Environment"]["Variables"]["ENCLAVE_URL"], url)

    def test_a_target_is_used_while_its_enclave_is_ready_and_may_end_what_is_under_way(self) -> None:
        _, targets = only(self.enclave, BALANCER + "TargetGroup")
        properties = targets["Properties"]
        self.assertEqual((properties["Protocol"], properties["Port"]), ("TCP", 443))
        check = [properties[f"HealthCheck{name}"] for name in ("Protocol", "Port", "Path")]
        # Not HTTPS: a load balancer's health checks do not speak TLS 1.3.
        self.assertEqual(check, ["HTTP", "8080", "/ready"])
        attributes = {each["Key"]: each["Value"] for each in properties["TargetGroupAttributes"]}
        self.assertEqual(attributes["target_health_state.unhealthy.connection_termination.enabled"], "false")
        self.assertGreater(int(attributes["deregistration_delay.timeout_seconds"]), 60)

    def test_clients_reach_the_load_balancer_alone_and_it_alone_reaches_the_instances(self) -> None:
        template = self.with_settings(clients=["10.0.0.0/16"])
        rules = [
            {"GroupId": each["Properties"]["GroupId"], **each["Properties"]} for each in template.find_resources(RULE).values()
        ]
        for name, group in template.find_resources(SECURITY_GROUP).items():
            inner = group["Properties"].get("SecurityGroupIngress", [])
            rules += [{"GroupId": {"Fn::GetAtt": [name, "GroupId"]}, **rule} for rule in inner]
        found = set()
        for rule in rules:
            source = rule.get("CidrIp") or rule["SourceSecurityGroupId"]["Fn::GetAtt"][0]
            self.assertEqual((rule["IpProtocol"], rule["FromPort"]), ("tcp", rule["ToPort"]))
            # Without the CDK's suffixes.
            names = [re.sub("[0-9A-F]{8}$", "", name) for name in (source, rule["GroupId"]["Fn::GetAtt"][0])]
            found.add((*names, rule["ToPort"]))
        self.assertEqual(
            found,
            {
                ("FunctionGroup", "BalancerGroup", 443),
                ("10.0.0.0/16", "BalancerGroup", 443),
                ("BalancerGroup", "ParentGroup", 443),
                ("BalancerGroup", "ParentGroup", 8080),
            },
        )

    def test_an_instance_counts_when_it_has_signalled_and_the_old_ones_stay_until_then(self) -> None:
        group = self.group()
        signal = {"Count": 3, "Timeout": "PT2400S"}
        self.assertEqual(group["CreationPolicy"]["ResourceSignal"], signal)
        self.assertEqual(group["CreationPolicy"]["AutoScalingCreationPolicy"], {"MinSuccessfulInstancesPercent": 100})
        update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
        self.assertEqual((update["MinInstancesInService"], update["MaxBatchSize"]), (3, 1))
        self.assertEqual((update["WaitOnResourceSignals"], update["PauseTime"]), (True, "PT2400S"))
        self.assertEqual(update["MinSuccessfulInstancesPercent"], 100)
        self.assertNotIn("Launch", update["SuspendProcesses"])
        properties = group["Properties"]
        self.assertEqual([properties[name] for name in ("MinSize", "DesiredCapacity", "MaxSize")], ["3", "3", "4"])
        self.assertEqual(properties["InstanceMaintenancePolicy"]["MinHealthyPercentage"], 100)

    def test_the_hooks_exist_before_the_first_instance(self) -> None:
        hooks = {each["LifecycleHookName"]: each for each in self.group()["Properties"]["LifecycleHookSpecificationList"]}
        launching, terminating = hooks["launching"], hooks["terminating"]
        self.assertEqual(launching["LifecycleTransition"], "autoscaling:EC2_INSTANCE_LAUNCHING")
        self.assertEqual(launching["DefaultResult"], "ABANDON")
        self.assertEqual(terminating["LifecycleTransition"], "autoscaling:EC2_INSTANCE_TERMINATING")
        self.assertEqual((terminating["DefaultResult"], terminating["HeartbeatTimeout"]), ("CONTINUE", 300))
        self.enclave.resource_count_is("AWS::AutoScaling::LifecycleHook", 0)

    def test_during_an_upgrade_key_and_function_accept_both_images_and_each_instance_its_own(self) -> None:
        operator = Operator(Path(self.enterContext(tempfile.TemporaryDirectory())))
        former = operator.policy_path.parent / "former.json"
        former.write_text(operator.measurements_path.read_text().replace(PCRS[0], "d" * 96))
        operator.keep_ledger(instances=3, former_measurements_paths=[former])
        with self.assertRaisesRegex(Failure, "is for the image a+…, and .*former.json has PCR0 d+…: pass --measurements"):
            operator.synthesize()
        operator.allow("--measurements", str(former), "--encryptor", ROLES + "KeySetter", *operator.context())
        stacks = operator.synthesize()
        condition = '"kms:RecipientAttestation:ImageSha384": ["' + f'{PCRS[0]}", "{"d" * 96}"]'
        self.assertIn(condition, json.dumps(only(stacks["Key"], "AWS::KMS::Key")[1]))
        _, function = only(stacks["Enclave"], "AWS::Lambda::Function")
        accepted = json.loads(function["Properties"]["Environment"]["Variables"]["MEASUREMENTS"])
        self.assertEqual([image["PCR0"] for image in accepted], [PCRS[0], "d" * 96])
        user_data = json.dumps(only(stacks["Enclave"], TEMPLATE)[1])
        self.assertIn(f"export PCR0='{PCRS[0]}'", user_data)
        self.assertNotIn("d" * 96, user_data)

    def test_the_function_accepts_a_new_image_before_there_is_an_instance_with_it(self) -> None:
        function, _ = only(self.enclave, "AWS::Lambda::Function")
        self.assertIn(function, self.group()["DependsOn"])

    def test_an_instance_starts_after_all_that_its_first_boot_needs(self) -> None:
        reason = only(self.enclave, "AWS::CloudFormation::WaitCondition")[1]
        for each in (self.group(), reason):
            for start in ("ReadFiles", "ReportToGroup", "VpcPrivateSubnet1DefaultRoute", "VpcPrivateSubnet2DefaultRoute"):
                self.assertTrue([name for name in each["DependsOn"] if name.startswith(start)], start)

    def test_changed_files_replace_the_instances_and_not_the_group(self) -> None:
        text = self.operator.parent_path.read_text()
        self.addCleanup(self.operator.parent_path.write_text, text)
        self.operator.parent_path.write_text(text + "# one more line\n")
        changed = self.operator.synthesize()["Enclave"]
        for kind in (GROUP, TEMPLATE, BALANCER + "LoadBalancer", BALANCER + "TargetGroup"):
            self.assertEqual(only(changed, kind)[0], only(self.enclave, kind)[0])
        self.assertNotEqual(only(changed, TEMPLATE)[1], only(self.enclave, TEMPLATE)[1])
        version = {"Fn::GetAtt": [only(changed, TEMPLATE)[0], "LatestVersionNumber"]}
        self.assertEqual(only(changed, GROUP)[1]["Properties"]["LaunchTemplate"]["Version"], version)
        # CloudFormation cannot use a wait condition twice.
        waits = {only(each, "AWS::CloudFormation::WaitCondition")[0] for each in (changed, self.enclave)}
        self.assertEqual(len(waits), 2)

    def test_a_forward_of_the_health_checks_port_is_refused(self) -> None:
        text = self.operator.parent_path.read_text()
        self.addCleanup(self.operator.parent_path.write_text, text)
        forward = '[[nat.forwards]]\nport = 8080\nto = "203.0.113.2:8080"\n\n[egress]\n'
        self.operator.parent_path.write_text(text.replace("[egress]\n", forward, 1))
        self.with_settings(instances=1)
        with self.assertRaisesRegex(Failure, "nat.forwards.. with port = 8080, expected another port"):
            self.with_settings(instances=3)

    def test_another_number_of_instances_replaces_none(self) -> None:
        more = self.with_settings(instances=5)
        self.assertEqual(only(more, TEMPLATE), only(self.enclave, TEMPLATE))
        self.assertEqual(only(more, GROUP)[1]["Properties"]["DesiredCapacity"], "5")
        self.assertEqual(
            only(more, "AWS::CloudFormation::WaitCondition"), only(self.enclave, "AWS::CloudFormation::WaitCondition")
        )

    def test_operators_learn_what_they_need_next(self) -> None:
        self.assertEqual(set(self.enclave.to_json()["Outputs"]), {"ASGGroupName", "EnclaveUrl", "FunctionName"})
