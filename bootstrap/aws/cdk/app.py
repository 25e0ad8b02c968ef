"""The stacks. `cdk.sh` starts it, and says with the context which stage and which settings."""

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
    """The key's ARN is measured, so the key is there before the image, and the image before whatever measures it."""
    if stage == "key":
        KeyStack(app, settings, key_policy.nobody_uses_it(settings))
    elif stage == "enclave":
        image = Image.load(settings.image_dir, settings.config_dir)
        image.check_secrets(settings.secret_id)
        key = KeyStack(app, settings, key_policy.load(settings, image))
        EnclaveStack(app, settings, image, key)
    else:
        raise Failure(f"--context stage={stage}: expected key or enclave")


CONTEXT = {
    # CloudFormation's own rules, as errors: else it would say so after minutes.
    "@aws-cdk/core:validateAgainstDefaultRules": True,
    # What the other stack imports stays, as CloudFormation has always had it; without a word here, each deployment warns.
    "@aws-cdk/core:defaultCrossStackReferences": "strong",
}


def main() -> None:
    """Writes the cloud assembly to where the CDK's command line expects it."""
    app = App(analytics_reporting=False, context=CONTEXT)
    try:
        config = app.node.try_get_context("config")
        if config is None:
            raise Failure("--context config=PATH is missing; `cdk.sh` gives it")
        build(app, app.node.try_get_context("stage"), Settings.load(Path(config)))
        app.synth()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except JSIIError as error:
        # The library's words, without the way to them: that is in two languages.
        sys.exit(f"error: {str(error).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
