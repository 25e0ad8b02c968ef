"""Plays CloudFormation and Lambda for the synthesized stacks in the lab."""

import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from operator_files import ACCOUNT, REGION, ROLES, ROOT, resolve
from settings import Settings
from walk_through_machine import ADDRESS, SIGNAL, WEB_CA, Identity, Machine, WalkError

# The only key of the lab's KMS.
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BUCKET = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
FUNCTION = "/opt/function"
USER_DATA = "/var/lib/cloud/user-data"
# More than an emulated boot takes.
FIRST_BOOT_SECONDS = 400
USER_DATA_LOG = "/var/log/cloud-init-output.log"


class Account:
    """The deployed stacks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.settings = Settings.load(ROOT / "config/aws.toml")
        self.instance_id: str | None = None
        self.variables: dict[str, str] = {}
        self.operator = Identity("operator", ROLES + "KeyAdmin")
        self.client = Identity("client", ROLES + "KeySetter")
        self.function = Identity("function", ROLES + self.settings.lambda_role)

    def bootstrap(self) -> None:
        """What `cdk bootstrap` makes, as far as the stacks need it, and whom the account knows."""
        self.machine.wait()
        identities = (self.operator, self.client, self.function)
        self.machine.become_account(ROLES + self.settings.instance_role, identities)
        where = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        put = ["-X", "PUT", "-H", "Content-Type: application/xml", f"https://s3.{REGION}.amazonaws.com/{BUCKET}"]
        self.machine.ask_aws(self.operator, "s3", *put, data=where)

    def synthesize(self, stage: str) -> Path:
        """Where the assembly of a stage is: all that `cdk.sh STAGE deploy` does before it asks AWS."""
        self.settings = Settings.load(ROOT / "config/aws.toml")
        command = [ROOT / "bootstrap/aws/cdk.sh", stage, "synth", "--quiet"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise WalkError(f"cdk.sh {stage} synth: status {done.returncode}\n{done.stdout}{done.stderr}")
        return ROOT / "target/cdk.out"

    def deploy_key(self) -> dict[str, str]:
        """Deploys the key stack like `cdk.sh key deploy`; returns its outputs."""
        return self.make_key_stack(self.synthesize("key"))

    def make_key_stack(self, assembly: Path) -> dict[str, str]:
        template = Template(assembly, self.settings.key_stack)
        _, key = template.only("AWS::KMS::Key")
        _, secret = template.only("AWS::SecretsManager::Secret")
        name = secret["Properties"]["Name"]
        arns = {"SignerKey.Arn": KEY_ARN}
        for logical_id, role in template.all("AWS::IAM::Role"):
            arns[f"{logical_id}.Arn"] = ROLES + role["Properties"]["RoleName"]
        self.machine.set_key_policy(resolve(key["Properties"]["KeyPolicy"], arns))
        listed = self.machine.call_aws(self.operator, "secretsmanager.ListSecrets")["SecretList"]
        arn = next((each["ARN"] for each in listed if each["Name"] == name), None)
        if arn is None:
            arn = self.machine.call_aws(self.operator, "secretsmanager.CreateSecret", Name=name)["ARN"]
        [(secret_id, _)] = template.all("AWS::SecretsManager::Secret")
        return template.outputs({**arns, secret_id: arn})

    def deploy_enclave(self, before_the_end: Callable[[], None] | None) -> dict[str, str]:
        """Both stacks as `cdk.sh enclave deploy --all` makes them, and the outputs of the second.

        What is given is called when the keys are changed, before the old instance goes.
        """
        assembly = self.synthesize("enclave")
        self.make_key_stack(assembly)
        template = Template(assembly, self.settings.enclave_stack)
        instance_id, instance = template.only("AWS::EC2::Instance")
        if instance_id != self.instance_id:
            self.upload(assembly)
            if self.instance_id is not None:
                # CloudFormation starts the new instance before it ends the old one; here both are the same machine.
                if before_the_end is not None:
                    before_the_end()
                self.machine.clear()
            handle = f"https://s3.{REGION}.amazonaws.com/{BUCKET}/{instance_id}?X-Amz-Signature=0"
            script = resolve(instance["Properties"]["UserData"], {f"{instance_id}ReasonHandle": handle})
            if self.instance_id is None:
                self.boot_in_vain(instance_id, script, handle)
            self.boot(instance_id, script, handle)
            self.instance_id = instance_id
        _, function = template.only("AWS::Lambda::Function")
        names = {instance_id: "i-0123456789abcdef0", f"{instance_id}.PrivateIp": ADDRESS}
        self.variables = resolve(function["Properties"]["Environment"]["Variables"], names)
        with zipfile.ZipFile(self.settings.lambda_path) as archive:
            self.machine.put(f"{FUNCTION}/bootstrap", archive.read("bootstrap"), "0755")
        self.machine.put(f"{FUNCTION}/run.py", (ROOT / "bootstrap/aws/tests/walk_through_function.py").read_bytes())
        function_name = function["Properties"]["FunctionName"]
        [(logical_id, _)] = template.all("AWS::Lambda::Function")
        # The other stack's files are already there.
        return template.outputs({**names, logical_id: function_name}, skip="KeyArn")

    def upload(self, assembly: Path) -> None:
        """As the CDK does: the files of the stack to its bucket, but for the function, which Lambda has."""
        files = json.loads((assembly / f"{self.settings.enclave_stack}.assets.json").read_text())["files"]
        for file in files.values():
            [destination] = file["destinations"].values()
            path = assembly / file["source"]["path"]
            if path.suffix == ".tar":
                self.machine.put("/run/lab/upload", path.read_bytes())
                url = f"https://s3.{REGION}.amazonaws.com/{BUCKET}/{destination['objectKey']}"
                unsigned = ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
                self.machine.ask_aws(self.operator, "s3", *unsigned, "--upload-file", "/run/lab/upload", url)
                self.machine.run("rm", "/run/lab/upload")

    def boot(self, instance_id: str, script: str, handle: str) -> None:
        """The first boot by cloud-init, and CloudFormation's wait."""
        self.machine.put(USER_DATA, script, "0700")
        try:
            variables = f"CURL_CA_BUNDLE={WEB_CA} REASON_READ_WITHIN=0"
            self.machine.run("sh", "-c", f"{variables} {USER_DATA} >{USER_DATA_LOG} 2>&1", seconds=FIRST_BOOT_SECONDS)
        except WalkError as error:
            raise WalkError(f"user data: {self.machine.run('tail', '-n', '40', USER_DATA_LOG)}") from error
        self.expect_told(instance_id, handle, 0, "the enclave is a peer, answers, and can look up names")

    def boot_in_vain(self, instance_id: str, script: str, handle: str) -> None:
        """With changed files, the stack's events show the error."""
        spoilt = re.sub("(?<=export SHA256=')[0-9a-f]{64}", "0" * 64, script)
        try:
            self.boot(instance_id, spoilt, handle)
        except WalkError:
            self.expect_told(instance_id, handle, 1, "fetch files: sha256sum: WARNING: 1 computed checksum did NOT match")
        else:
            raise WalkError("user data took files with another hash")

    def expect_told(self, instance_id: str, handle: str, status: int, reason: str) -> None:
        """Compares the signal that CloudFormation received."""
        told = self.machine.run("cat", SIGNAL).splitlines()
        expected = [
            "--stack",
            self.settings.enclave_stack,
            "--resource",
            instance_id,
            "--region",
            REGION,
            "--exit-code",
            str(status),
        ]
        given = json.loads(self.machine.ask_aws(self.operator, "s3", handle.partition("?")[0]))
        word = "FAILURE" if status else "SUCCESS"
        if (told, given["Status"], given["Reason"]) != (expected, word, reason):
            raise WalkError(f"CloudFormation received {told} and {given}, expected {expected}, {word} and {reason!r}")

    def invoke(self, event: str) -> Any:
        """The function's answer or error."""
        variables = {
            **self.variables,
            **self.function.variables,
            "AWS_REGION": REGION,
            "AWS_CA_BUNDLE": WEB_CA,
            "ATTESTATION_ROOT": self.machine.run("cat", "/etc/wg-server/lab-root.pem"),
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        }
        words = ["env", *(f"{name}={value}" for name, value in variables.items())]
        run = ["python3", f"{FUNCTION}/run.py", f"{FUNCTION}/bootstrap", event]
        return json.loads(self.machine.run("ip", "netns", "exec", "internet", *words, *run))

    def destroy(self, stack: str) -> None:
        """Destroys the instance and its enclave, like `cdk.sh enclave destroy`."""
        if stack != self.settings.enclave_stack:
            raise WalkError(f"no stack is called {stack}, expected {self.settings.enclave_stack}")
        self.machine.clear()
        self.instance_id = None


class Template:
    """A synthesized stack."""

    def __init__(self, assembly: Path, stack: str) -> None:
        self.template = json.loads((assembly / f"{stack}.template.json").read_text())

    def all(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """The resources of a kind by logical id."""
        return [(name, each) for name, each in self.template["Resources"].items() if each["Type"] == kind]

    def only(self, kind: str) -> tuple[str, dict[str, Any]]:
        """The only resource of a kind."""
        [found] = self.all(kind)
        return found

    def outputs(self, names: dict[str, str], skip: str = "") -> dict[str, str]:
        """The outputs."""
        outputs = self.template["Outputs"].items()
        return {name: resolve(each["Value"], names) for name, each in outputs if "Export" not in each and name != skip}
