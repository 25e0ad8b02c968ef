"""The key's policy: before there is an image nobody uses the key, then it is what `wallet policy` wrote, looked at."""

import fnmatch
import json

from failure import Failure
from image import Image, read
from settings import PRINCIPAL, Settings

# As in bootstrap/wallet/src/key_policy.rs; a test compares.
MANAGE = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:Delete*",
    "kms:Describe*",
    "kms:Disable*",
    "kms:Enable*",
    "kms:Get*",
    "kms:List*",
    "kms:Put*",
    "kms:Revoke*",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:Update*",
]
# Ways to what the key protects, or to let others go one.
OPENING = ["kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant", "kms:DeriveSharedSecret"]


def nobody_uses_it(settings: Settings) -> dict:
    """For the time before there is an image: the key's ARN is measured, so the key is first."""
    manage = {"Sid": "Manage", "Effect": "Allow", "Principal": {"AWS": settings.admins}, "Action": MANAGE, "Resource": "*"}
    return {"Version": "2012-10-17", "Id": "enclave-wireguard-signer", "Statement": [manage]}


def load(settings: Settings, image: Image) -> dict:
    """Reads what `wallet policy` wrote, and refuses what is not about this image and these roles."""
    path = settings.key_policy_path
    text = read(path, "`wallet policy` writes it")
    try:
        policy = json.loads(text)
        check(policy, settings, image)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: {error!r}, expected what `wallet policy` writes") from error
    except Failure as error:
        raise Failure(f"{path}: {error}") from error
    return policy


def check(policy: dict, settings: Settings, image: Image) -> None:
    """A policy that opens the key to another enclave, or to people, is refused."""
    statements = policy["Statement"]
    for statement in statements:
        if statement["Effect"] != "Allow":
            raise Failure(f"statement {statement['Sid']} has the effect {statement['Effect']}, expected Allow")
        if unknown := set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}:
            raise Failure(f"statement {statement['Sid']} has {', '.join(sorted(unknown))}")
        for principal in principals(statement):
            if not PRINCIPAL.fullmatch(principal):
                raise Failure(f"statement {statement['Sid']}: {principal!r} is nobody, expected roles or users by their ARN")
    manage = [statement for statement in statements if statement["Sid"] == "Manage"]
    if [sorted(principals(statement)) for statement in manage] != [sorted(settings.admins)]:
        raise Failure("who manages the key is not who key.admins in the settings says: --admin")
    opening = [statement for statement in statements if any(opens(action) for action in actions(statement))]
    if [statement["Sid"] for statement in opening] != ["DecryptInTheEnclaveOnly"]:
        raise Failure("expected one statement that opens what the key encrypts, DecryptInTheEnclaveOnly")
    check_decrypt(opening[0], settings, image)
    encryptors = [principal for statement in statements if may_encrypt(statement) for principal in principals(statement)]
    if not any(principal.endswith(f":role/{settings.lambda_role}") for principal in encryptors):
        raise Failure(f"the function's role, {settings.lambda_role}, may not encrypt: --encryptor")


def check_decrypt(statement: dict, settings: Settings, image: Image) -> None:
    """Only the instance's role, only with a document of this image, and only what is bound to its context."""
    if actions(statement) != ["kms:Decrypt"]:
        raise Failure(f"the enclave may {', '.join(actions(statement))}, expected kms:Decrypt alone")
    if [name.split(":role/")[-1] for name in principals(statement)] != [settings.instance_role]:
        raise Failure(f"who decrypts is not the instance's role, {settings.instance_role}: --role")
    condition = statement["Condition"]
    digest = condition.get("StringEqualsIgnoreCase", {}).get("kms:RecipientAttestation:ImageSha384")
    if digest is None:
        raise Failure("asks for no attestation: kms:RecipientAttestation:ImageSha384 is missing")
    if digest.lower() != image.pcrs[0]:
        raise Failure(f"is for the image {digest[:16]}…, and {image.measurements_path} has PCR0 {image.pcrs[0][:16]}…")
    context = {f"kms:EncryptionContext:{name}": value for name, value in image.encryption_context.items()}
    if condition.get("StringEquals") != context:
        raise Failure(f"asks for another encryption context than the image's kms.encryption_context, {image.encryption_context}")


def principals(statement: dict) -> list[str]:
    """Who is meant. `"*"` in place of a table is everybody, and a name of nobody here."""
    principal = statement["Principal"]
    if not isinstance(principal, dict) or set(principal) != {"AWS"}:
        raise Failure(f"statement {statement['Sid']}: {principal!r} is nobody, expected roles or users by their ARN")
    return listed(principal["AWS"])


def actions(statement: dict) -> list[str]:
    """What is allowed."""
    return listed(statement["Action"])


def listed(value: str | list[str]) -> list[str]:
    """IAM's lists of one may be without brackets."""
    return [value] if isinstance(value, str) else value


def opens(action: str) -> bool:
    """Whether this action, which may have wildcards, leads to plaintexts."""
    return any(fnmatch.fnmatchcase(each.lower(), action.lower()) for each in OPENING)


def may_encrypt(statement: dict) -> bool:
    """Whether it lets somebody encrypt."""
    return any(fnmatch.fnmatchcase("kms:encrypt", action.lower()) for action in actions(statement))
