"""Which instance types take the image's enclave."""

import re

from failure import Failure

NAME = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
# Graviton's: the image is for x86_64.
ARM = re.compile(r"[a-z]+[0-9]+[a-z]*g[a-z]*[.].*|a1[.].*")
# Virtualized types of four vCPUs and more end so, and have four of them for each: `large` has two, `metal` is no virtual machine.
XLARGE = re.compile(r"(?P<family>[a-z0-9-]+)[.](?P<times>[0-9]*)xlarge")
# Families on x86_64 without Nitro Enclaves
# (https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html#nitro-enclave-reqs), and those before the Nitro system.
WITHOUT_ENCLAVES = re.compile(
    r"g4ad|[cmr]7i-flex|[cmr]8i-flex|r7iz|t[0-9]+a?|trn1n?|u[0-9-].*|u-.*|vt1|mac.*"
    r"|c[1-4]|cc2|cr1|d2|f1|g[23]|g3s|h1|hs1|i[23]|m[1-4]|p[23]|r[34]|x1e?"
)


def check(name: str, cpus: int) -> None:
    """Whether the type takes an enclave with these vCPUs: EC2 and the allocator would say so after minutes."""
    if ARM.fullmatch(name):
        raise Failure(f"instance.type: {name} is ARM, and the image is for x86_64: c6i.xlarge is right")
    found = XLARGE.fullmatch(name)
    if found is None or WITHOUT_ENCLAVES.fullmatch(found["family"]):
        raise Failure(f"instance.type: {name!r}, expected a type with Nitro Enclaves and at least four vCPUs, such as c6i.xlarge")
    vcpus = 4 * int(found["times"] or 1)
    # The parent keeps a core, which has two.
    if cpus > vcpus - 2:
        raise Failure(f"enclave.cpus: {cpus}, expected at most {vcpus - 2} of the {vcpus} that {name} has")
