"""The settings file, and what is refused in it."""

import unittest
from pathlib import Path

from failure import Failure
from operator_files import SECRET_ARN
from settings import Settings

PARTIAL_ARN, SAMPLE_ARN = SECRET_ARN + "clients/wallet", SECRET_ARN + "prod/hot-wallet-AbCdEf"
SAME = "expected another secret than key.secret_id"
NO_ENCLAVES = [
    "c6i.large",
    "t3.micro",
    "t3.2xlarge",
    "t3a.xlarge",
    "m4.xlarge",
    "c4.8xlarge",
    "c6i.metal",
    "m7i-flex.xlarge",
    "u-6tb1.56xlarge",
]
SAMPLE_PATH = Path(__file__).resolve().parents[3] / "config/aws.toml"


class SettingsFile(unittest.TestCase):
    def refused(self, before: str, after: str, expected: str | None) -> None:
        text = SAMPLE_PATH.read_text()
        self.assertIn(before, text)
        if expected is None:
            Settings.parse(text.replace(before, after, 1))
            return
        with self.assertRaises(Failure) as caught:
            Settings.parse(text.replace(before, after, 1))
        self.assertIn(expected, str(caught.exception))

    def test_what_is_wrong_is_named(self) -> None:
        for before, after, expected in [
            ('name = "enclave-signer"', 'name = "Enclave"', "name: 'Enclave', expected 1 to 32 lower case letters"),
            ("cid = 16", "cid = 3", "enclave.cid: 3, expected 4 to 4294967294"),
            ("cid = 16", "cid = true", "enclave.cid: True, expected an integer"),
            ("cid = 16", "cid = 16\nsid = 1", "enclave.sid: unknown key"),
            ("cpus = 2\n", "", "enclave.cpus is missing"),
            ('"prod/hot-wallet"', '"*/hot-wallet"', "key.secret_id: '*/hot-wallet', expected a secret's name"),
            ("# email", "email", None),
            ("# topic_arn", "topic_arn", None),
            (
                '# email = "security@',
                'email = "',
                "alarm.email: 'example.com', expected an address, such as security@example.com",
            ),
            ('# topic_arn = "arn:aws:sns', 'topic_arn = "arn:aws:sqs', "alarm.topic_arn: "),
            (
                '# email = "security@example.com"\n# topic',
                'email = "security@example.com"\ntopic',
                "alarm: expected email or topic_arn, not both",
            ),
            ("may_set_key = false", 'may_set_key = "no"', "function.may_set_key: 'no', expected true or false"),
            ("role/KeyAdmin", "role/*", "key.admins: 'arn:aws:iam::111122223333:role/*', expected"),
            ('"c6i.xlarge"', '"c7g.xlarge"', "instance.type: c7g.xlarge is ARM"),
            *(
                (
                    '"c6i.xlarge"',
                    f'"{kind}"',
                    f"instance.type: '{kind}', expected a type with Nitro Enclaves and at least four vCPUs",
                )
                for kind in NO_ENCLAVES
            ),
            *(
                ('"c6i.xlarge"', f'"{kind}"', None)
                for kind in ("m5.2xlarge", "c6a.4xlarge", "r7i.xlarge", "i4i.xlarge", "x2idn.16xlarge")
            ),
            ("cpus = 2\n", "cpus = 3\n", "enclave.cpus: 3, expected at most 2 of the 4 that c6i.xlarge has"),
            ("cpus = 2\n", "cpus = 1\n", "enclave.cpus: 1, expected an even number, such as 2"),
            (
                "memory_mib = 512",
                "memory_mib = 8192",
                "enclave.memory_mib: 8192, expected at most 7168 of the 8192 that c6i.xlarge has",
            ),
            ("clients = []", 'clients = ["10.0.0.1/16"]', "network.clients: '10.0.0.1/16': 10.0.0.1/16 has host bits set"),
            ("# vpc_id", "vpc_id", "network: expected both vpc_id and subnet_id, or neither"),
            ("# zone = ", 'zone = "eu-central-1" # ', "network.zone: 'eu-central-1', expected an availability zone"),
            ("[files]", "[filez]", "files is missing"),
            ("# client_secret_id", "secret_id", "function.secret_id: unknown key"),
            (
                '# client_secret_id = "clients/wallet"',
                'client_secret_id = "clients/*"',
                "function.client_secret_id: 'clients/*', expected",
            ),
            ('# client_secret_id = "clients/wallet"', f'client_secret_id = "{PARTIAL_ARN}"', "a secret's name, or its whole ARN"),
            ('# client_secret_id = "clients/wallet"', 'client_secret_id = "prod/hot-wallet"', SAME),
            ('# client_secret_id = "clients/wallet"', f'client_secret_id = "{SAMPLE_ARN}"', SAME),
            ('# client_secret_id = "clients/wallet"', 'client_secret_id = "prod/hot-wallet-2"', None),
        ]:
            with self.subTest(expected):
                self.refused(before, after, expected)

    def test_the_places_of_a_fleet_are_several_and_that_of_a_single_instance_is_one(self) -> None:
        text = SAMPLE_PATH.read_text()
        zones, subnets = ['"eu-central-1a"', '"eu-central-1b"'], ['"subnet-0123456a"', '"subnet-0123456b"']
        vpc = 'vpc_id = "vpc-01234567"\n'
        for instances, network, expected in [
            (0, "", "fleet.instances: 0, expected 1 to 100"),
            (1, f"zone = {zones[0]}", None),
            (1, f"zones = [{', '.join(zones)}]", "network.zones: expected network.zone: fleet.instances is 1"),
            (
                1,
                f"{vpc}subnet_ids = [{', '.join(subnets)}]",
                "network.subnet_ids: expected network.subnet_id: fleet.instances is 1",
            ),
            (2, "", None),
            (2, f"zones = [{', '.join(zones)}]", None),
            (2, f"{vpc}subnet_ids = [{', '.join(subnets)}]", None),
            (2, f"zone = {zones[0]}", "network.zone: expected network.zones, with two or more: fleet.instances is 2"),
            (2, f"{vpc}subnet_id = {subnets[0]}", "network.subnet_id: expected network.subnet_ids, with two or more"),
            (2, f"zones = [{zones[0]}, {zones[0]}]", "expected two or more different ones: a fleet outlives a zone"),
            (2, f"{vpc}subnet_ids = [{subnets[0]}]", "network.subnet_ids: ['subnet-0123456a'], expected two or more different"),
            (2, f"subnet_ids = [{', '.join(subnets)}]", "network: expected both vpc_id and subnet_ids, or neither"),
            (2, vpc, "network: expected both vpc_id and subnet_ids, or neither"),
            (
                2,
                f"{vpc}subnet_ids = [{', '.join(subnets)}]\nzones = [{', '.join(zones)}]",
                "network: expected zones or subnet_ids, not both",
            ),
            (2, 'zones = ["eu"]', "network.zones: 'eu', expected availability zones, such as eu-central-1a"),
        ]:
            with self.subTest(network, instances=instances):
                edited = text.replace("# instances = 3", f"instances = {instances}").replace(
                    "[network]\n", f"[network]\n{network}\n"
                )
                if expected is None:
                    self.assertEqual(Settings.parse(edited).is_fleet, instances > 1)
                    continue
                with self.assertRaises(Failure) as caught:
                    Settings.parse(edited)
                self.assertIn(expected, str(caught.exception))

    def test_a_prefix_comes_before_the_name_of_everything(self) -> None:
        text = SAMPLE_PATH.read_text()
        settings = Settings.parse(text, "dev")
        names = (settings.key_stack, settings.enclave_stack, settings.instance_role, settings.group)
        self.assertEqual({name.partition("-signer")[0] for name in names}, {"devenclave"})
        for prefix in ("Dev", "a" * 32, "1"):
            with self.assertRaises(Failure) as caught:
                Settings.parse(text, prefix)
            self.assertIn(
                f"name: 'enclave-signer' after CDK_PREFIX, '{prefix}', expected together 1 to 32", str(caught.exception)
            )

    def test_at_most_two_images_have_the_key(self) -> None:
        before, after = '# former_measurements_paths = ["former/measurements.json"]', 'former_measurements_paths = ["a", "b"]'
        self.refused(before, after, "files.former_measurements_paths: 2 files, expected at most one: at most two images")

    def test_a_file_is_named(self) -> None:
        with self.assertRaises(Failure) as caught:
            Settings.load(Path("/nowhere"))
        self.assertIn("/nowhere", str(caught.exception))
