"""The last line of cdk.sh, with stand-ins for npx and aws that print the real messages."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

AWS_DIR = Path(__file__).resolve().parents[1]
# The CDK's last message, and whether its app wrote the stacks.
NO_CREDENTIALS = "Unable to resolve AWS account to use. It must be either configured when you define your CDK Stack"
NO_BOOTSTRAP = "SSM parameter /cdk-bootstrap/hnb659fds/version not found. Has the environment been bootstrapped?"
NOT_FOUND = "An error occurred (ParameterNotFound) when calling the GetParameter operation:"
ROLLBACK = "the stack failed: ROLLBACK_COMPLETE"
CALLER = "when calling the GetCallerIdentity operation"
ABOUT_CREDENTIALS = [
    "Unable to locate credentials. You can configure credentials by running aws configure.",
    "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY",
    "The config profile (deployer) could not be found",
    "The SSO session associated with this profile has expired or is otherwise invalid.",
    "Error loading SSO Token: Token for https://example.awsapps.com/start does not exist",
    "Error when retrieving token from sso: Token has expired and refresh failed",
    "Your session has expired or credentials have changed. Please reauthenticate using 'aws login'.",
    "Credentials were refreshed, but the refreshed credentials are still expired.",
    f"An error occurred (ExpiredToken) {CALLER}: The security token included in the request is expired",
    f"An error occurred (InvalidClientTokenId) {CALLER}: The security token included in the request is invalid.",
    f"An error occurred (SignatureDoesNotMatch) {CALLER}: The request signature we calculated does not match",
]
NOT_ABOUT_CREDENTIALS = [
    "Could not connect to the endpoint URL: https://sts.eu-central-1.amazonaws.com/",
    "Connect timeout on endpoint URL: https://sts.eu-central-1.amazonaws.com/",
    "Read timeout on endpoint URL: http://169.254.170.2/v2/credentials/0123",
    "Error when retrieving credentials from container-role: Error retrieving metadata: Connect timeout on endpoint URL",
    "SSL validation failed for https://sts.eu-central-1.amazonaws.com/ [SSL: CERTIFICATE_VERIFY_FAILED]",
    f"An error occurred (Throttling) {CALLER} (reached max retries: 4): Rate exceeded",
]


class Cdk(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.bin = folder / "venv/bin"
        scripts = folder / "bootstrap/aws"
        for each in (self.bin, scripts, folder / "config", folder / "target/cdk.out"):
            each.mkdir(parents=True)
        (folder / "config/aws.toml").touch()
        self.manifest = folder / "target/cdk.out/manifest.json"
        self.script = Path(shutil.copy(AWS_DIR / "cdk.sh", scripts))
        self.program(scripts / "venv.sh", f"echo {self.bin.parent}")
        self.stand_in("aws", "exit 0")

    def program(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def stand_in(self, name: str, text: str) -> None:
        self.program(self.bin / name, text)

    def cdk(self, words: str, writes_stacks: bool = True, status: int = 1) -> None:
        """Makes the CDK fail like this."""
        touch = f"touch {self.manifest}\n" if writes_stacks else ""
        self.stand_in("npx", f'[ "$3" != --version ] || exit 0\n{touch}echo "{words}" >&2\nexit {status}')

    def run_it(self, *words: str, **variables: str) -> tuple[int, list[str]]:
        others = {name: value for name, value in os.environ.items() if name not in ("AWS_REGION", "AWS_DEFAULT_REGION")}
        environment = {**others, **variables}
        done = subprocess.run([self.script, "key", *words], env=environment, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr.splitlines()

    def fails(self, first: str, *last: str, command: str = "deploy") -> None:
        """Expects the CDK's message, and these words in the last line."""
        status, lines = self.run_it(command)
        self.assertEqual(status, 1)
        self.assertIn(first, lines)
        for word in last:
            self.assertIn(word, lines[-1])

    def test_missing_credentials(self) -> None:
        self.cdk(NO_CREDENTIALS)
        self.stand_in("aws", "printf '\\nUnable to locate credentials.\\n' >&2; exit 253")
        self.fails(NO_CREDENTIALS, "error: cdk deploy: aws sts get-caller-identity: Unable to locate", "AWS_PROFILE")

    def test_each_message_of_aws_about_credentials_is_recognised(self) -> None:
        self.cdk(ROLLBACK)
        for words in ABOUT_CREDENTIALS:
            with self.subTest(words):
                self.stand_in("aws", f'echo "{words}" >&2; exit 253')
                self.fails(ROLLBACK, f"error: cdk deploy: aws sts get-caller-identity: {words.rstrip('.')};", "AWS_PROFILE")

    def test_an_sts_that_does_not_answer_is_not_a_credentials_error(self) -> None:
        self.cdk(ROLLBACK)
        for words in NOT_ABOUT_CREDENTIALS:
            with self.subTest(words):
                self.stand_in("aws", f"printf '\\n%s\\n' '{words}' >&2; exit 255")
                self.assertEqual(self.run_it("deploy"), (1, [ROLLBACK]))

    def test_a_missing_region(self) -> None:
        self.cdk(NO_CREDENTIALS)
        self.stand_in("aws", "echo 'You must specify a region.' >&2; exit 253")
        self.fails(NO_CREDENTIALS, "error: cdk deploy: no region is set", "AWS_REGION=eu-central-1")

    def test_an_account_without_bootstrap(self) -> None:
        self.cdk(NO_BOOTSTRAP)
        self.stand_in("aws", f'[ "$1" = sts ] || {{ echo "{NOT_FOUND}" >&2; exit 254; }}')
        self.fails(NO_BOOTSTRAP, "error: cdk deploy: this account and region", "bootstrap/aws/cdk.sh key bootstrap")
        # `bootstrap` itself does not ask for a bootstrap.
        self.fails(NO_BOOTSTRAP, NO_BOOTSTRAP, command="bootstrap")

    def test_npm_without_a_registry(self) -> None:
        self.stand_in("npx", "echo 'npm error   errno: ECONNREFUSED' >&2; exit 1")
        self.fails("npm error   errno: ECONNREFUSED", "error: fetch aws-cdk@", "npm config set registry URL")

    def test_wrong_settings_are_not_a_credentials_error(self) -> None:
        self.cdk("error: config/aws.toml: key.admins is missing", writes_stacks=False)
        # From an earlier deployment.
        self.manifest.touch()
        self.stand_in("aws", "exit 253")
        self.fails("error: config/aws.toml: key.admins is missing", "key.admins is missing")

    def test_other_failures_are_the_cdks_alone_with_its_status(self) -> None:
        self.cdk(ROLLBACK, status=3)
        self.assertEqual(self.run_it("deploy"), (3, [ROLLBACK]))

    def test_the_region_of_aws_s_sample_is_that_of_the_cdk_and_of_aws(self) -> None:
        self.cdk("$AWS_REGION $AWS_DEFAULT_REGION", status=0)
        self.assertEqual(self.run_it("deploy", CDK_DEPLOY_REGION="eu-west-1"), (0, ["eu-west-1 eu-west-1"]))
        both = {"CDK_DEPLOY_REGION": "eu-west-1", "AWS_REGION": "eu-west-1"}
        self.assertEqual(self.run_it("deploy", **both), (0, ["eu-west-1 eu-west-1"]))
        status, lines = self.run_it("deploy", **{**both, "AWS_REGION": "eu-central-1"})
        self.assertEqual(status, 1)
        self.assertIn("error: CDK_DEPLOY_REGION is eu-west-1, and AWS_REGION is eu-central-1; expected", lines[-1])

    def test_credentials_of_another_account_than_the_named_one_make_nothing(self) -> None:
        self.cdk("deployed", status=0)
        self.stand_in("aws", '[ "$*" = "sts get-caller-identity --query Account --output text" ] && echo 999999999999')
        for verb in ("deploy", "destroy", "bootstrap"):
            status, lines = self.run_it(verb, CDK_DEPLOY_ACCOUNT="111122223333")
            said = "error: CDK_DEPLOY_ACCOUNT is 111122223333, and the credentials are of 999999999999; expected credentials of"
            self.assertEqual(status, 1, verb)
            self.assertTrue(lines[-1].startswith(said), lines)
        self.assertEqual(self.run_it("deploy", CDK_DEPLOY_ACCOUNT="999999999999"), (0, ["deployed"]))
        self.assertEqual(self.run_it("synth", CDK_DEPLOY_ACCOUNT="111122223333"), (0, ["deployed"]))
        self.stand_in("aws", "echo Unable to locate credentials >&2; exit 253")
        status, lines = self.run_it("deploy", CDK_DEPLOY_ACCOUNT="111122223333")
        self.assertEqual((status, lines[0]), (1, "Unable to locate credentials"))

    def test_success_adds_no_line(self) -> None:
        self.cdk("deployed", status=0)
        self.assertEqual(self.run_it("deploy"), (0, ["deployed"]))


if __name__ == "__main__":
    unittest.main()
