"""Which instance types can run the enclave, and how much of an instance it may use."""

import re

from failure import Failure

NAME = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
# Graviton's: the image is for x86_64.
ARM = re.compile(r"[a-z]+[0-9]+[a-z]*g[a-z]*[.].*|a1[.].*")
# Virtual machines with at least four vCPUs: `Nxlarge` has 4 N. `large` has two, `metal` is not a virtual machine.
XLARGE = re.compile(r"(?P<family>[a-z0-9-]+)[.](?P<times>[0-9]*)xlarge")
# Families on x86_64 without Nitro Enclaves
# (https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html#nitro-enclave-reqs, and NitroEnclavesSupport of EC2's
# DescribeInstanceTypes), and those before the Nitro system.
WITHOUT_ENCLAVES = re.compile(
    r"g4ad|hpc.*|p6-b200|[cmr]7i-flex|[cmr]8i-flex|r7iz|t[0-9]+a?|trn1n?|u[0-9-].*|u-.*|vt1|mac.*"
    r"|c[1-4]|cc2|cr1|d2|f1|g[23]|g3s|h1|hs1|i[23]|m[1-4]|p[23]|r[34]|x1e?"
)
# Families with two vCPUs per core (DefaultThreadsPerCore of DescribeInstanceTypes). AMD's have one since the seventh
# generation. Other families may have one, so an odd number is accepted.
TWO_VCPUS_A_CORE = re.compile(
    r"([cmr][56]|d3|dl2|f2|g[4-6]|gr6|i[34]|inf[12]|p[3-6]|trn2|x2|z1)[a-z0-9-]*|[cimrx][78]i[a-z0-9-]*"
)
# GiB per vCPU (MemoryInfo of DescribeInstanceTypes). Without c5n, whose sizes vary from 2.62 to 2.67.
MEMORY = [
    (re.compile(r"c(?!5n)[5-8][a-z-]*"), 2),
    (re.compile(r"m[5-8][a-z-]*"), 4),
    (re.compile(r"r[5-8][a-z-]*"), 8),
    (re.compile(r"x2idn|x8i"), 16),
    (re.compile(r"x2ie[a-z]*|x8aedz"), 32),
]
PARENT_MEMORY_MIB = 1024


def check(name: str, cpus: int, memory_mib: int) -> None:
    """Refuses a type without room for this enclave and a parent: EC2 and the allocator would fail after minutes."""
    if ARM.fullmatch(name):
        raise Failure(f"instance.type: {name} is ARM, expected an x86_64 type, such as c6i.xlarge")
    found = XLARGE.fullmatch(name)
    if found is None or WITHOUT_ENCLAVES.fullmatch(found["family"]):
        raise Failure(f"instance.type: {name!r}, expected a type with Nitro Enclaves and at least four vCPUs, such as c6i.xlarge")
    vcpus = 4 * int(found["times"] or 1)
    check_cpus(name, vcpus, cpus)
    check_memory(name, vcpus, memory_mib)


def check_cpus(name: str, vcpus: int, cpus: int) -> None:
    """The allocator takes whole cores, and leaves the first to the parent."""
    core = vcpus_a_core(name)
    if cpus > vcpus - core:
        raise Failure(f"enclave.cpus: {cpus}, expected at most {vcpus - core} of the {vcpus} that {name} has")
    if cpus % core != 0:
        raise Failure(
            f"enclave.cpus: {cpus}, expected an even number, such as 2: {name} has two vCPUs a core,"
            " and the allocator takes whole cores"
        )


def check_memory(name: str, vcpus: int, memory_mib: int) -> None:
    """The parent keeps some memory. Not checked for families of unknown memory."""
    gib = memory_gib_a_vcpu(name)
    if gib is None:
        return
    total = vcpus * gib * 1024
    most = total - PARENT_MEMORY_MIB
    if memory_mib > most:
        raise Failure(
            f"enclave.memory_mib: {memory_mib}, expected at most {most} of the {total} that {name} has:"
            f" the parent keeps {PARENT_MEMORY_MIB}"
        )


def vcpus_a_core(name: str) -> int:
    """Two for families known to have two, else one."""
    return 2 if TWO_VCPUS_A_CORE.fullmatch(family(name)) else 1


def memory_gib_a_vcpu(name: str) -> int | None:
    """`None` if the family is unknown."""
    return next((gib for pattern, gib in MEMORY if pattern.fullmatch(family(name))), None)


def family(name: str) -> str:
    """The type without its size."""
    return name.partition(".")[0]
