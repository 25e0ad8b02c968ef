"""Prints the flags of `wallet policy` for the settings, the image and the outputs of a deployment, one a line.

policy_flags.py CONFIG OUTPUTS    for generate_key_policy.sh
"""

import json
import sys
from pathlib import Path

from failure import Failure
from image import kms, read_text
from settings import Settings


def flags(settings: Settings, outputs: dict[str, str]) -> list[str]:
    """The flags and their values."""
    config_path = settings.config_dir / "enclave.toml"
    _, context, *_ = kms(config_path, read_text(config_path, "the image is built from it"))
    pairs = [
        ("--measurements", str(path)) for path in [settings.image_dir / "measurements.json", *settings.former_measurements_paths]
    ]
    pairs += [("--context", f"{name}={value}") for name, value in context.items()]
    pairs += [("--role", outputs["InstanceRoleArn"])]
    if settings.may_set_key:
        pairs += [("--encryptor", outputs["LambdaRoleArn"])]
    pairs += [("--admin", admin) for admin in settings.admins]
    return [word for pair in pairs for word in pair]


def outputs_of(path: Path, stack: str) -> dict[str, str]:
    """Those of a stack, in a file that the CDK has written."""
    try:
        return json.loads(read_text(path, "`cdk.sh key deploy --outputs-file` writes it"))[stack]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path}: {error!r}, expected the outputs of {stack}: `cdk.sh key deploy --outputs-file {path}`") from error


def main() -> None:
    """Exits with the reason in one line."""
    try:
        settings, path = Settings.load(Path(sys.argv[1])), Path(sys.argv[2])
        try:
            print("\n".join(flags(settings, outputs_of(path, settings.key_stack))))
        except KeyError as error:
            raise Failure(f"{path}: {error} is missing, expected the outputs of {settings.key_stack}") from error
    except Failure as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main()
