"""The limits of an enclave on an instance, compared with EC2's instance types, of which moto has a copy."""

import json
import os
import subprocess
import unittest
from typing import Any

import instance_type
from failure import Failure

DESCRIBE = """
import gzip, importlib.util, pathlib, sys
moto = pathlib.Path(importlib.util.find_spec("moto").origin).parent
sys.stdout.buffer.write(gzip.decompress((moto / "ec2/resources/instance_types.json.gz").read_bytes()))
"""


def refusal(name: str, cpus: int = 2, memory_mib: int = 512) -> str:
    """The error, or nothing."""
    try:
        instance_type.check(name, cpus, memory_mib)
    except Failure as failure:
        return str(failure)
    return ""


def has_enclaves(kind: dict[str, Any]) -> bool:
    """Whether it is an x86_64 virtual machine with at least four vCPUs."""
    return (
        kind["NitroEnclavesSupport"] == "supported"
        and kind["Hypervisor"] == "nitro"
        and kind["VCpuInfo"]["DefaultVCpus"] >= 4
        and "x86_64" in kind["ProcessorInfo"]["SupportedArchitectures"]
    )


class Size(unittest.TestCase):
    def test_half_a_core_is_refused_where_cores_have_two_vcpus(self) -> None:
        said = "enclave.cpus: 1, expected an even number, such as 2: {} has two vCPUs a core, and the allocator takes whole cores"
        for name in ("c6i.xlarge", "m5.2xlarge", "r6a.xlarge", "c5n.xlarge", "m7i.xlarge", "c8i.xlarge", "x2idn.16xlarge"):
            with self.subTest(name):
                self.assertEqual(refusal(name, cpus=1), said.format(name))
        self.assertTrue(refusal("c6i.4xlarge", cpus=13).startswith("enclave.cpus: 13, expected an even number"))

    def test_one_vcpu_is_accepted_where_it_is_a_core(self) -> None:
        for name in ("c7a.xlarge", "m7a.xlarge", "r7a.xlarge", "c8a.xlarge", "m8azn.xlarge"):
            with self.subTest(name):
                self.assertEqual([refusal(name, cpus=1), refusal(name, cpus=3)], ["", ""])

    def test_the_parent_keeps_a_core(self) -> None:
        for name, most, vcpus in (
            ("c6i.xlarge", 2, 4),
            ("m5.2xlarge", 6, 8),
            ("c6a.24xlarge", 94, 96),
            ("c7a.xlarge", 3, 4),
            ("r8a.2xlarge", 7, 8),
        ):
            with self.subTest(name):
                self.assertEqual(refusal(name, cpus=most), "")
                said = f"enclave.cpus: {vcpus}, expected at most {most} of the {vcpus} that {name} has"
                self.assertEqual(refusal(name, cpus=vcpus), said)

    def test_the_parent_keeps_a_gibibyte(self) -> None:
        for name, total in (
            ("c6i.xlarge", 8192),
            ("c7a.2xlarge", 16384),
            ("m7i.xlarge", 16384),
            ("r5.xlarge", 32768),
            ("x2iedn.xlarge", 131072),
        ):
            with self.subTest(name):
                self.assertEqual(refusal(name, memory_mib=total - 1024), "")
                said = f"enclave.memory_mib: {total - 1023}, expected at most {total - 1024} of the {total} that {name} has"
                self.assertTrue(refusal(name, memory_mib=total - 1023).startswith(said))

    def test_an_unknown_family_is_accepted(self) -> None:
        self.assertEqual(refusal("c99x.xlarge", cpus=3, memory_mib=1 << 20), "")


class Ec2(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        done = subprocess.run([os.environ["MOTO_PYTHON"], "-c", DESCRIBE], check=True, capture_output=True)
        cls.kinds = {name: kind for name, kind in json.loads(done.stdout).items() if kind["BareMetal"] is False}

    def test_accepted_types_support_enclaves(self) -> None:
        taken = {name for name in self.kinds if refusal(name) == ""}
        right = {name for name, kind in self.kinds.items() if has_enclaves(kind)}
        self.assertEqual(taken - right, set())
        # By the user guide; EC2 differs.
        self.assertEqual({instance_type.family(name) for name in right - taken}, {"r7iz"})

    def test_accepted_types_have_the_expected_vcpus_cores_and_memory(self) -> None:
        for name, kind in self.kinds.items():
            if refusal(name) == "":
                vcpus = kind["VCpuInfo"]["DefaultVCpus"]
                with self.subTest(name):
                    self.assertTrue(refusal(name, cpus=vcpus).endswith(f" of the {vcpus} that {name} has"))
                    self.assertLessEqual(instance_type.vcpus_a_core(name), kind["VCpuInfo"]["DefaultThreadsPerCore"])
                    gib = instance_type.memory_gib_a_vcpu(name)
                    self.assertIn(gib, (None, kind["MemoryInfo"]["SizeInMiB"] / 1024 / vcpus))

    def test_few_families_are_unknown(self) -> None:
        families = {instance_type.family(name) for name in self.kinds if refusal(name) == ""}
        two = {instance_type.family(name) for name, kind in self.kinds.items() if kind["VCpuInfo"]["DefaultThreadsPerCore"] == 2}
        self.assertEqual({name for name in families & two if instance_type.vcpus_a_core(name) == 1}, {"g7e"})
        unknown = {name for name in families if instance_type.memory_gib_a_vcpu(name) is None}
        self.assertEqual({name for name in unknown if name[0] in "cmrx"}, {"c5n"})


if __name__ == "__main__":
    unittest.main()
