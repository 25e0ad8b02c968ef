"""The steps of docs/aws.md in order."""

import re
from dataclasses import dataclass
from enum import Enum, auto

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
EDIT = re.compile(r"\$EDITOR (?P<path>\S+)\s+# (?P<comment>\S.*)")
# Code that is not a command: settings, options, JSON, words of a report.
OTHER = re.compile(r"[\w.]+ = \S.*|--.*|\".*|NOT EXPECTED")


class Place(Enum):
    """Where a command runs, or what is done in its place."""

    # The build host: here, in a layer over the checkout.
    BUILD_HOST = auto()
    # The build host, but with an account to ask: in the lab's internet.
    OPERATOR = auto()
    # A host in the VPC, for people who use the signer: in the lab's internet, too.
    CLIENT = auto()
    # The parent itself.
    PARENT = auto()
    # The CDK: the stacks are synthesized here, and the walk makes what they describe.
    CDK = auto()
    # Session Manager: goes on until the next section.
    SESSION = auto()
    # Nowhere: a file is edited, as the comment says.
    EDIT = auto()
    # The function's runtime: an event.
    EVENT = auto()
    # Nowhere: a command mentioned without arguments.
    NAME = auto()


# By the first word. Of a pipeline, all of it runs where its first part does.
PLACES = {
    "(umask": Place.BUILD_HOST,
    "aws": Place.OPERATOR,
    "bootstrap/aws/cdk.sh": Place.CDK,
    "bootstrap/aws/lambda.sh": Place.BUILD_HOST,
    "cargo": Place.BUILD_HOST,
    "cat": Place.BUILD_HOST,
    "cdk.sh": Place.CDK,
    "export": Place.BUILD_HOST,
    "make": Place.BUILD_HOST,
    "mkdir": Place.BUILD_HOST,
    "openssl": Place.BUILD_HOST,
    "target/release/wallet": Place.BUILD_HOST,
    "wallet": Place.CLIENT,
    "wg-server": Place.PARENT,
    "$EDITOR": Place.EDIT,
    '{"operation":': Place.EVENT,
}
# By what the command begins with, where that says more.
SPECIAL = {"aws ssm start-session": Place.SESSION, "cat >request.json": Place.CLIENT}
# Commands mentioned in the text; only their existence is checked.
NAMES = {
    "aws secretsmanager put-secret-value",
    "make run",
    "nitro-cli console",
    "wallet generate-key",
    "wallet set-key",
    "wg-server relay",
}
# Commands that the document has at their place, and that only say something at another: after which command each runs.
EARLIER = {"wg-server check --config /etc/wg-server/parent.toml": "bootstrap/aws/cdk.sh enclave deploy --all"}
# What the key has at any time is asked where the document says how, and when the enclave may use it.
AGAIN = ("aws kms get-key-policy", "aws kms list-grants")
AGAIN_AFTER = "aws ssm start-session --target InstanceId"


@dataclass(frozen=True)
class Step:
    """One step."""

    place: Place
    text: str
    line: int
    # The heading of the second level.
    section: str

    @property
    def command(self) -> str:
        """Without the comment."""
        return re.sub(r"\s+# .*", "", self.text)

    @property
    def edit(self) -> tuple[str, str]:
        """The file, and what to change in it."""
        found = EDIT.fullmatch(self.text)
        if found is None:
            raise ValueError(f"docs/aws.md:{self.line}: {self.text!r}, expected $EDITOR FILE   # what to change")
        return found["path"], found["comment"]


def parse(text: str) -> list[Step]:
    """Every command of the console blocks and of the prose; a span of code with a space in it that is none is refused."""
    steps: list[Step] = []
    end = 0
    for fence in FENCE.finditer(text):
        steps += prose(text, end, fence.start())
        if fence[1] != "console":
            raise ValueError(f"docs/aws.md:{line_of(text, fence.start())}: a block of {fence[1]!r}, expected console")
        steps += block(text, fence.start(2), fence.end(2))
        end = fence.end()
    return steps + prose(text, end, len(text))


def block(text: str, start: int, end: int) -> list[Step]:
    """A command starts with `$ ` and ends before the next one."""
    steps = []
    for found in re.finditer(r"^\$ (.*?)\n(?=\$ |\Z)", text[start:end], re.MULTILINE | re.DOTALL):
        steps.append(step(found[1], text, start + found.start()))
    written = sum(len(each.text) + len("$ \n") for each in steps)
    if written != end - start:
        raise ValueError(f"docs/aws.md:{line_of(text, start)}: a line before the first `$ `")
    return steps


def prose(text: str, start: int, end: int) -> list[Step]:
    """The commands and events among the spans of code."""
    steps = []
    for found in SPAN.finditer(text, start, end):
        code = " ".join(found[1].split())
        if " " not in code or OTHER.fullmatch(code):
            continue
        steps.append(step(code, text, found.start()))
    return steps


def step(code: str, text: str, position: int) -> Step:
    """Finds where the command runs."""
    headings = re.findall(r"^## (.*)$", text[:position], re.MULTILINE)
    line = line_of(text, position)
    place = Place.NAME if code in NAMES else PLACES.get(code.split(maxsplit=1)[0])
    for start, special in SPECIAL.items():
        place = special if code.startswith(start) else place
    if place is None:
        raise ValueError(f"docs/aws.md:{line}: {code!r}: expected a command that begins with {', '.join(sorted(PLACES))}")
    return Step(place, code, line, headings[-1] if headings else "")


def line_of(text: str, position: int) -> int:
    """The first line is 1."""
    return text.count("\n", 0, position) + 1
