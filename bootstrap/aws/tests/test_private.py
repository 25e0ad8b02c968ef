"""The VPC without a way to the internet, as synthesized, and the parent's configuration that it needs."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from failure import Failure
from operator_files import ACCOUNT, LEDGER, REGION, ROOT, Operator, only, resolve
from parent import opens
from permissions import may
from settings import VPC_NETWORK, Settings

SERVICES = {
    "autoscaling",
    "cloudformation",
    "ec2messages",
    "kms",
    "logs",
    "monitoring",
    "secretsmanager",
    "ssm",
    "ssmmessages",
    "sts",
}


class Private(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.operator = Operator(Path(cls.enterClassContext(tempfile.TemporaryDirectory())))
        cls.operator.open_endpoints()
        cls.operator.settings = replace(cls.operator.settings, is_private=True)
        cls.one = cls.operator.synthesize()["Enclave"]
        cls.operator.keep_ledger(instances=3)
        cls.fleet = cls.operator.synthesize()["Enclave"]

    def endpoints(self, template: Any) -> dict[str, dict[str, Any]]:
        """By the end of the service's name."""
        found = template.find_resources("AWS::EC2::VPCEndpoint").values()
        return {resolve(each["Properties"]["ServiceName"], {}).rsplit(".", maxsplit=1)[-1]: each["Properties"] for each in found}

    def test_nothing_leads_to_the_internet(self) -> None:
        for template, zones in ((self.one, 1), (self.fleet, 2)):
            for kind in ("InternetGateway", "NatGateway", "EIP", "Route", "EgressOnlyInternetGateway"):
                template.resource_count_is(f"AWS::EC2::{kind}", 0)
            template.resource_count_is("AWS::EC2::Subnet", zones)
            for subnet in template.find_resources("AWS::EC2::Subnet").values():
                self.assertIs(subnet["Properties"]["MapPublicIpOnLaunch"], False)

    def test_each_service_has_an_endpoint_by_its_usual_name(self) -> None:
        for template in (self.one, self.fleet):
            endpoints = self.endpoints(template)
            self.assertEqual(set(endpoints), SERVICES | {"s3"})
            for name in SERVICES:
                kind = (endpoints[name]["VpcEndpointType"], endpoints[name]["PrivateDnsEnabled"])
                self.assertEqual(kind, ("Interface", True), name)
            self.assertEqual(endpoints["s3"]["VpcEndpointType"], "Gateway")

    def test_they_answer_the_vpc_alone(self) -> None:
        _, found = only(self.one, "AWS::EC2::VPC")
        self.assertEqual(found["Properties"]["CidrBlock"], str(VPC_NETWORK))
        [group] = [
            each["Properties"] for name, each in self.one.find_resources("AWS::EC2::SecurityGroup").items() if "Endpoints" in name
        ]
        [rule] = group["SecurityGroupIngress"]
        self.assertEqual((rule["CidrIp"], rule["FromPort"], rule["ToPort"]), ("10.0.0.0/16", 443, 443))

    def test_s3_lets_through_packages_the_first_boot_s_files_its_reason_and_the_ledger(self) -> None:
        one, fleet = (resolve(self.endpoints(each)["s3"]["PolicyDocument"]["Statement"], {}) for each in (self.one, self.fleet))
        # The principal is everybody: the endpoint is in this VPC.
        one, fleet = (
            [{name: each[name] for name in ("Effect", "Action", "Resource")} for each in policy] for policy in (one, fleet)
        )
        ledger = f"arn:aws:s3:::{LEDGER.bucket}"
        for action, resource in (
            ("GetObject", f"al2023-repos-{REGION}-de612dc2/core/mirrors/latest/x86_64/mirror.list"),
            ("GetObject", f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}/0123.tar"),
            ("PutObject", f"cloudformation-waitcondition-{REGION}/arn"),
        ):
            self.assertTrue(may(one, f"s3:{action}", f"arn:aws:s3:::{resource}"), resource)
        for action in ("PutObject", "PutObjectRetention", "GetObjectVersion"):
            self.assertTrue(may(fleet, f"s3:{action}", f"{ledger}/nonce/00/11"), action)
            self.assertFalse(may(one, f"s3:{action}", f"{ledger}/nonce/00/11"), action)
        self.assertTrue(may(fleet, "s3:ListBucketVersions", ledger))
        for policy in (one, fleet):
            for action, resource in (
                ("PutObject", "attackers/loot"),
                ("GetObject", "attackers/tool"),
                ("PutObject", f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}/0123.tar"),
                ("DeleteObjectVersion", f"{LEDGER.bucket}/nonce/00/11"),
                ("GetObject", f"cdk-hnb659fds-assets-999999999999-{REGION}/0123.tar"),
            ):
                self.assertFalse(may(policy, f"s3:{action}", f"arn:aws:s3:::{resource}"), resource)

    def test_a_first_boot_waits_for_the_endpoints(self) -> None:
        names = set(self.one.find_resources("AWS::EC2::VPCEndpoint"))
        for template, kind in ((self.one, "AWS::EC2::Instance"), (self.fleet, "AWS::AutoScaling::AutoScalingGroup")):
            self.assertLessEqual(names, set(only(template, kind)[1]["DependsOn"]), kind)

    def test_a_parent_that_refuses_the_endpoints_addresses_is_refused(self) -> None:
        text = self.operator.parent_path.read_text()
        self.addCleanup(self.operator.parent_path.write_text, text)
        self.operator.parent_path.write_text(text.replace(', "10.0.0.0/16:443"', ""))
        with self.assertRaises(Failure) as caught:
            self.operator.synthesize()
        self.assertIn(f'{self.operator.parent_path}: egress.destinations: ["', str(caught.exception).replace("'", '"'))
        self.assertIn('expected also "10.0.0.0/16:443"', str(caught.exception))

    def test_a_destination_opens_the_endpoints_if_it_has_the_whole_network_and_the_port(self) -> None:
        for destination in ("10.0.0.0/16:443", "10.0.0.0/8:443", "10.0.0.0/16", "anywhere"):
            self.assertTrue(opens(destination), destination)
        for destination in (
            "10.0.0.0/24:443",
            "10.0.0.0/16:80",
            "10.0.0.7",
            "[2001:db8::7]:53/udp",
            "10.0.0.0/16:ping",
            "192.0.2.7:ping",
        ):
            self.assertFalse(opens(destination), destination)

    def test_an_existing_vpc_has_its_own_ways_out(self) -> None:
        text = (ROOT / "config/aws.toml").read_text()
        self.assertIn("# private = true\n", text)
        text = text.replace("# private = true", "private = true")
        self.assertTrue(Settings.parse(text).is_private)
        given = 'vpc_id = "vpc-01234567"\nsubnet_id = "subnet-01234567"\n'
        with self.assertRaises(Failure) as caught:
            Settings.parse(text.replace("[network]\n", f"[network]\n{given}"))
        self.assertIn("network: expected private = true or subnet_id, not both", str(caught.exception))
