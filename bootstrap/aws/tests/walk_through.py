"""Runs docs/aws.md in its order in the lab: from an empty account to a signature, an upgrade, a revocation, and the end.

walk_through.sh starts it, in a layer over the checkout: files are changed here.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from failure import Failure
from operator_files import ROOT, SAMPLE
from walk_through_account import Account
from walk_through_document import AGAIN, AGAIN_AFTER, EARLIER, Place, Step, parse
from walk_through_edits import edit, placed, sample_ca
from walk_through_machine import WALLET, Machine, WalkError

OPERATOR, CLIENT = "/root/operator", "/root/client"
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
# The sender of a signed transaction, by eth-account.
RECOVER = "import sys; from eth_account import Account; print(Account.recover_transaction(sys.argv[1]))"
# Time limit of `make eif`, when it compiles everything.
BUILD_SECONDS = 1200
# The enclave's key cache time, set by the walk's edit, and time to ask KMS.
KEY_CACHE_SECONDS = 8


class Walk:
    """An operator's walk, with its state."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.account = Account(machine)
        self.steps = parse((ROOT / "docs/aws.md").read_text())
        self.names = {
            "ADMIN-1": self.account.operator.role_arn,
            "ADMIN-2": SAMPLE.admins[1],
            "YOUR-ROLE-ARN": self.account.client.role_arn,
            "CLIENT-CA-OF-THE-SAMPLE": sample_ca(ROOT),
            "NAME-enclave": SAMPLE.enclave_stack,
            # Refused before it is evaluated.
            "64 hex digits": "11" * 32,
        }
        self.edited: set[str] = set()
        self.exported: dict[str, str] = {}
        self.session: subprocess.Popen[str] | None = None
        self.section = ""
        # The last signature, and the next unused nonce.
        self.signed = ""
        self.nonce = 1
        # Checks after a step, by the start of its command.
        self.checks: dict[str, Callable[[str], None]] = {
            "openssl req -x509 -CA ": lambda _: self.names.update({"CLIENT-CA": (ROOT / "ca.pem").read_text()}),
            "wallet keygen --out key": lambda said: self.names.update({"ADDRESS-OF-THE-OLD-KEY": address_in(said)}),
            "wallet keygen --out new-key": lambda said: self.names.update({"ADDRESS-OF-THE-NEW-KEY": address_in(said)}),
            "wallet sign": self.check_signature,
            "wallet set-key --secret-id prod/hot-wallet --key-arn KeyArn --context purpose=ethereum-signer --replace": (
                lambda _: self.expect_signer("ADDRESS-OF-THE-NEW-KEY", KEY_CACHE_SECONDS)
            ),
            "wallet restore-key": lambda _: self.expect_signer("ADDRESS-OF-THE-OLD-KEY", KEY_CACHE_SECONDS),
            "aws kms get-key-policy": self.check_policy,
            "aws kms list-grants": lambda said: expect(json.loads(said)["Grants"], [], "grants"),
            "aws secretsmanager list-secret-version-ids": self.name_version,
            "aws secretsmanager update-secret-version-stage": self.check_label,
        }

    def go(self) -> None:
        """Runs all steps."""
        waiting = [step for step in self.steps if step.text in EARLIER]
        for step in self.steps:
            if step.section != self.section:
                self.section = step.section
                self.end_session()
                print(f"\n## {self.section}", flush=True)
            if step.text not in EARLIER:
                self.do(step)
            for earlier in [each for each in waiting if EARLIER[each.text] == step.command]:
                self.do(earlier)
                waiting.remove(earlier)
            if step.command == AGAIN_AFTER:
                for again in [each for each in self.steps if each.text.startswith(AGAIN)]:
                    self.do(again)
        if waiting:
            raise WalkError(f"not done: {waiting}")

    def end_session(self) -> None:
        """Session Manager's, where there is one."""
        if self.session is not None:
            self.session.communicate()
            self.session = None

    def do(self, step: Step) -> None:
        """Runs one step; prints it and its time."""
        begin = time.monotonic()
        command = placed(step.command, self.names)
        try:
            said = self.perform(step, command)
            for start, check in self.checks.items():
                if step.command.startswith(start):
                    check(said)
        except (WalkError, Failure, ValueError, OSError, subprocess.CalledProcessError) as error:
            raise WalkError(f"docs/aws.md:{step.line}: {command}\n{error}") from error
        print(f"{time.monotonic() - begin:5.1f} s  {step.place.name.lower():<10}  {step.text.splitlines()[0]}", flush=True)

    def perform(self, step: Step, command: str) -> str:
        match step.place:
            case Place.BUILD_HOST:
                return self.build(command)
            case Place.EDIT:
                path, _ = step.edit
                edit(ROOT, step, self.names, is_first=path not in self.edited)
                self.edited.add(path)
            case Place.CDK:
                self.cdk(command.split()[1:])
            case Place.OPERATOR if command.startswith("aws lambda invoke"):
                words = words_of(command)
                self.check_signed_by_function(words[words.index("--payload") + 1])
            case Place.OPERATOR:
                self.bring(OPERATOR, [word.removeprefix("file://") for word in words_of(command)])
                return self.machine.shell(command, OPERATOR, self.account.operator, self.exported)
            case Place.CLIENT:
                return self.machine.shell(command, CLIENT, self.account.client, self.exported)
            case Place.PARENT:
                return self.machine.run("sh", "-c", command)
            case Place.SESSION:
                self.start_session(command)
            case Place.EVENT:
                self.check_event(json.loads(command))
            case Place.NAME:
                self.look_up(command)
        return ""

    def build(self, command: str) -> str:
        """Runs a command on the build host, which is this host."""
        if command.startswith("export "):
            self.exported.update(word.split("=", maxsplit=1) for word in shlex.split(command)[1:])
            return ""
        if command.startswith("make eif"):
            # The edit names it.
            shutil.copy(self.machine.web_ca_path, ROOT / "config/enclave/web-ca.pem")
        environment = {**os.environ, **self.exported}
        shell = ["timeout", str(BUILD_SECONDS), "bash", "-c", command]
        done = subprocess.run(shell, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise WalkError(f"status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def bring(self, folder: str, words: list[str]) -> None:
        """Copies the files of the build host that a command names."""
        for word in words:
            path = ROOT / word
            if word and path.is_file() and not word.startswith("target/release/"):
                self.machine.put(f"{folder}/{word}", path.read_bytes(), "0600")

    def cdk(self, words: list[str]) -> None:
        """`cdk.sh` without AWS."""
        match words:
            case ["key", "bootstrap"]:
                self.account.bootstrap()
                self.machine.put(f"{OPERATOR}/target/release/wallet", WALLET, "0755")
                self.machine.put(f"{CLIENT}/bin/wallet", WALLET, "0755")
            case ["key", "deploy"] if self.account.instance_id is None:
                self.names.update(self.account.deploy_key())
            case ["key", "deploy"]:
                self.account.deploy_key()
                time.sleep(KEY_CACHE_SECONDS)
                self.expect_no_signature("no resource-based policy allows the kms:Decrypt action")
            case ["enclave", "deploy", "--all"]:
                self.deploy_enclave()
            case ["enclave", "destroy", stack]:
                self.account.destroy(stack)
                self.expect_no_signature("Connection refused")
                self.expect_key_and_secret()
            case _:
                raise WalkError(f"the walk does not know cdk.sh {shlex.join(words)}")

    def deploy_enclave(self) -> None:
        """A deployment; gives its outputs to the client."""
        has_signed = "ADDRESS-OF-THE-OLD-KEY" in self.names
        # The running image keeps the key during the upgrade.
        still_signs = (lambda: self.expect_signer("ADDRESS-OF-THE-OLD-KEY", KEY_CACHE_SECONDS)) if has_signed else None
        self.names.update(self.account.deploy_enclave(still_signs))
        for name in ("client.pem", "client.key"):
            self.machine.put(f"{CLIENT}/{name}", (ROOT / name).read_bytes(), "0600")
        self.machine.put(f"{CLIENT}/measurements.json", (ROOT / "target/eif/measurements.json").read_bytes())
        if has_signed:
            self.expect_signer("ADDRESS-OF-THE-OLD-KEY", 0)

    def start_session(self, command: str) -> None:
        """Session Manager: the way in is the lab's own."""
        if "--document-name" in command and "--document-name AWS-StartPortForwardingSessionToRemoteHost " not in command:
            raise WalkError("Session Manager has AWS-StartPortForwardingSessionToRemoteHost for this")
        found = re.search(r"--parameters host=(\S+),portNumber=(\d+),localPortNumber=(\d+)", command)
        if found is None:
            self.machine.run("id")
        else:
            self.session = self.machine.start_forward(*found.groups())

    def check_event(self, event: dict[str, str]) -> None:
        """`get_key` shows what is stored, `set_key` is refused."""
        path, answer = self.account.invoke(json.dumps(event))
        if event["operation"] == "get_key":
            secret = self.machine.call_aws(self.account.client, "secretsmanager.GetSecretValue", SecretId=self.names["SecretId"])
            expect((path, answer), ("invocation/an-event/response", secret["SecretString"]), event)
        else:
            expect((path, answer.get("errorType")), ("invocation/an-event/error", "SetKeyOff"), event)

    def check_signed_by_function(self, event: str) -> None:
        """The function's signature of the transaction equals that of `wallet sign`."""
        path, answer = self.account.invoke(event)
        expect((path, answer), ("invocation/an-event/response", json.loads(self.signed)), "what the function answers")

    def check_policy(self, said: str) -> None:
        """`check-policy` has found nothing; once there is an enclave, its role is among those that it lists."""
        if self.account.instance_id is not None and self.names["InstanceRoleArn"] not in said:
            raise WalkError(f"nobody opens the key:\n{said}")

    def check_signature(self, said: str) -> None:
        self.signed = said
        expect(self.signer_of(said), self.names["ADDRESS-OF-THE-OLD-KEY"], "who signed")

    def signer_of(self, said: str) -> str:
        """By eth-account."""
        transaction = json.loads(said)["transaction_signed"]
        return self.machine.run("env", "PYTHONPATH=/opt/python/eth-account", "python3", "-c", RECOVER, transaction).strip()

    def sign(self) -> str:
        """Signs another transaction with the document's command."""
        [step] = [step for step in self.steps if step.text.startswith("wallet sign")]
        self.nonce += 1
        change = f'sed -i \'s/"nonce": [0-9]*/"nonce": {self.nonce}/\' request.json'
        return self.machine.shell(f"{change} && {placed(step.command, self.names)}", CLIENT, self.account.client, self.exported)

    def expect_signer(self, name: str, after_seconds: int) -> None:
        time.sleep(after_seconds)
        expect(self.signer_of(self.sign()), self.names[name], "who signed")

    def expect_no_signature(self, reason: str) -> None:
        try:
            signed = self.sign()
        except WalkError as error:
            if reason not in str(error):
                raise
            return
        raise WalkError(f"nobody has the key, and this was signed: {signed}")

    def expect_key_and_secret(self) -> None:
        """They outlive all stacks."""
        self.machine.call_aws(self.account.operator, "TrentService.GetKeyPolicy", KeyId=self.names["KeyArn"])
        self.machine.call_aws(self.account.operator, "secretsmanager.GetSecretValue", SecretId=self.names["SecretId"])

    def name_version(self, said: str) -> None:
        """Names the label and the version of the revoked key."""
        label = f"address-{self.names['ADDRESS-OF-THE-NEW-KEY']}"
        [version] = [each["VersionId"] for each in json.loads(said)["Versions"] if label in each["VersionStages"]]
        self.names.update(LABEL=label, VERSION=version)

    def check_label(self, _: str) -> None:
        secret = self.machine.call_aws(self.account.client, "secretsmanager.DescribeSecret", SecretId=self.names["SecretId"])
        if any(self.names["LABEL"] in labels for labels in secret["VersionIdsToStages"].values()):
            raise WalkError(f"{self.names['LABEL']} is still there: {secret}")

    def look_up(self, name: str) -> None:
        """Checks that a command mentioned in the text exists."""
        program, *verb = name.split()
        match program:
            case "make":
                self.build(f"make --dry-run {shlex.join(verb)}")
            case "wallet":
                self.build(f"target/release/wallet {shlex.join(verb)} --help")
            case "wg-server":
                self.build(f"target/release/wg-server {shlex.join(verb)} --help")
            case "nitro-cli":
                self.machine.run(program, *verb, "--help")
            case "aws":
                self.machine.shell(f"{name} --generate-cli-skeleton", OPERATOR, self.account.operator, self.exported)
            case _:
                raise WalkError(f"the walk does not know where {program} is")


def words_of(command: str) -> list[str]:
    """As the shell splits it, over several lines."""
    return shlex.split(command.replace("\\\n", " "))


def address_in(said: str) -> str:
    """Of a key."""
    [address] = set(ADDRESS.findall(said))
    return address


def expect(found: object, expected: object, what: object) -> None:
    """Or else a mistake that names both."""
    if found != expected:
        raise WalkError(f"{what}: {found!r}, expected {expected!r}")


def end(*_: object) -> None:
    """Once: timeout(1) and the script around this one both send the signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("ended by a signal")


def main() -> None:
    begin = time.monotonic()
    # The end of the walk ends the lab.
    signal.signal(signal.SIGTERM, end)
    machine = Machine()
    try:
        Walk(machine).go()
    except WalkError as error:
        print(machine.words(), file=sys.stderr)
        sys.exit(f"error: {error}")
    finally:
        machine.down()
    print(f"\ndocs/aws.md was walked through in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
