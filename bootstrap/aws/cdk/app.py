"""The CDK app. `cdk.sh` starts it and passes the stage and the settings in the context."""

import sys
from pathlib import Path

from aws_cdk import App
from jsii.errors import JSIIError

import key_policy
from enclave_stack import EnclaveStack
from failure import Failure
from image import Image
from key_stack import KeyStack
from settings import Settings


def build(app: App, stage: str, settings: Settings) -> None:
    """The image measures the key's ARN: first the key, then the image, then the stack that needs its measurements."""
    if stage == "key":
        KeyStack(app, settings, key_policy.manage_only(settings))
    elif stage == "enclave":
        image = Image.load(settings.image_dir, settings.config_dir)
        image.check_secrets(settings.secret_id)
        image.check_ledger(settings)
        key = KeyStack(app, settings, key_policy.load(settings, image))
        EnclaveStack(app, settings, image, key)
    else:
        raise Failure(f"--context stage={stage}: expected key or enclave")


CONTEXT = {
    # CloudFormation's rules as errors: the deployment would fail after minutes.
    "@aws-cdk/core:validateAgainstDefaultRules": True,
    # CloudFormation's classic behaviour: exports in use stay. Without this setting, each deployment warns.
    "@aws-cdk/core:defaultCrossStackReferences": "strong",
}


def main() -> None:
    """Writes the cloud assembly for the CDK's command line."""
    app = App(analytics_reporting=False, context=CONTEXT)
    try:
        config = app.node.try_get_context("config")
        if config is None:
            raise Failure("--context config=PATH is missing, expected: run `cdk.sh`, which passes it")
        build(app, app.node.try_get_context("stage"), Settings.load(Path(config)))
        app.synth()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except JSIIError as error:
        # The library's message without its stack trace, which is in two languages.
        sys.exit(f"error: {str(error).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
