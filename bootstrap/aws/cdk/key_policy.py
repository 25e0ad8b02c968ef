"""The key's policy: management only before there is an image, then the checked output of `wallet policy`."""

import fnmatch
import json

from failure import Failure
from image import Image, measured, read
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
# Actions of a key policy (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html),
# by their effect. Ways to reach the secrets without the condition on the enclave:
OPENING = {
    "kms:Decrypt": "decrypts",
    "kms:ReEncryptFrom": "has KMS encrypt anew, for another key or context, what was encrypted for this one",
    "kms:CreateGrant": "grants itself or others to decrypt, which asks for no attestation",
    "kms:PutKeyPolicy": "writes a policy that lets it decrypt",
    "kms:ReplicateKey": "makes a copy of the key with a policy of its own",
    "kms:DeriveSharedSecret": "derives secrets of the key",
}
# Ways to encrypt a key that the enclave accepts, or to use the KMS key otherwise. Only kms:Encrypt is needed.
USING = [
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:ReEncryptTo",
    "kms:Sign",
]
# Ways to end the key.
ENDING = ["kms:DeleteImportedKeyMaterial", "kms:DisableKey", "kms:ScheduleKeyDeletion"]
# The statements of `wallet policy`, and the actions above that each may allow.
ALLOWED = {
    "Manage": {"kms:PutKeyPolicy", *ENDING},
    "Encrypt": {"kms:Encrypt"},
    "DecryptInTheEnclaveOnly": {"kms:Decrypt"},
    # With --adopter.
    "AdoptLedgerFrom": {"kms:ReEncryptFrom"},
    "AdoptLedgerTo": {"kms:ReEncryptTo"},
}
# The entry of the encryption context that binds a key to its ledger.
LEDGER = "kms:EncryptionContext:ledger"


def manage_only(settings: Settings) -> dict:
    """The policy until there is an image: the image measures the key's ARN, so the key comes first."""
    manage = {"Sid": "Manage", "Effect": "Allow", "Principal": {"AWS": settings.admins}, "Action": MANAGE, "Resource": "*"}
    return {"Version": "2012-10-17", "Id": "enclave-wireguard-signer", "Statement": [manage]}


def load(settings: Settings, image: Image) -> dict:
    """Reads the output of `wallet policy`, and refuses other images and roles."""
    path = settings.key_policy_path
    text = read(path, "`wallet policy` writes it")
    try:
        policy = json.loads(text)
        check(policy, settings, image)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path}: {error!r}, expected the output of `wallet policy`") from error
    except Failure as error:
        raise Failure(f"{path}: {error}") from error
    return policy


def check(policy: dict, settings: Settings, image: Image) -> None:
    """Refuses a policy that opens the key to another enclave, or to people."""
    statements = policy["Statement"]
    for statement in statements:
        if statement["Effect"] != "Allow":
            raise Failure(f"statement {statement['Sid']} has the effect {statement['Effect']}, expected Allow")
        if unknown := set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}:
            raise Failure(f"statement {statement['Sid']} has {', '.join(sorted(unknown))}, expected none")
        for principal in principals(statement):
            if not PRINCIPAL.fullmatch(principal):
                raise Failure(f"statement {statement['Sid']}: {principal!r}, expected the ARNs of roles or users")
    manage = [statement for statement in statements if statement["Sid"] == "Manage"]
    if [sorted(principals(statement)) for statement in manage] != [sorted(settings.admins)]:
        raise Failure("the principals of Manage differ from key.admins in the settings: pass --admin")
    if foreign := [found for statement in statements for found in foreign_ways(statement)]:
        raise Failure("; ".join(foreign) + "; expected the statements of `wallet policy`")
    opening = [statement for statement in statements if "kms:Decrypt" in reached(statement)]
    if [statement["Sid"] for statement in opening] != ["DecryptInTheEnclaveOnly"]:
        raise Failure("expected one statement with kms:Decrypt, DecryptInTheEnclaveOnly")
    check_decrypt(opening[0], settings, image)
    check_adoption(statements, image)
    check_encrypt(statements, settings)


def foreign_ways(statement: dict) -> list[str]:
    """Principals that may open, use or end the key beyond the statements of `wallet policy`, and how."""
    found = []
    for action in sorted(reached(statement) - ALLOWED.get(statement["Sid"], set())):
        way = (
            f"opens the key: it {OPENING[action]}"
            if action in OPENING
            else "ends the key"
            if action in ENDING
            else "uses the key"
        )
        found += [f"statement {statement['Sid']}: {principal} {way} ({action})" for principal in principals(statement)]
    return found


def reached(statement: dict) -> set[str]:
    """The actions of the tables that the statement's patterns match."""
    patterns = [action.lower() for action in actions(statement)]
    return {each for each in (*OPENING, *USING, *ENDING) if any(fnmatch.fnmatchcase(each.lower(), one) for one in patterns)}


def check_encrypt(statements: list[dict], settings: Settings) -> None:
    """The function may encrypt if and only if it stores keys."""
    encryptors = [name for statement in statements if "kms:Encrypt" in reached(statement) for name in principals(statement)]
    may_encrypt = any(name.endswith(f":role/{settings.lambda_role}") for name in encryptors)
    if settings.may_set_key and not may_encrypt:
        raise Failure(
            f"the function's role, {settings.lambda_role}, may not encrypt, and function.may_set_key is true: pass --encryptor"
        )
    if may_encrypt and not settings.may_set_key:
        raise Failure(
            f"the function's role, {settings.lambda_role}, may encrypt, and function.may_set_key is not true:"
            " leave out its --encryptor"
        )


def check_decrypt(statement: dict, settings: Settings, image: Image) -> None:
    """Only the instance's role may decrypt, with a document of this image and its encryption context."""
    if actions(statement) != ["kms:Decrypt"]:
        raise Failure(f"the enclave may {', '.join(actions(statement))}, expected kms:Decrypt alone")
    if [name.split(":role/")[-1] for name in principals(statement)] != [settings.instance_role]:
        raise Failure(f"the principal of kms:Decrypt is not the instance's role, {settings.instance_role}: pass --role")
    condition = statement["Condition"]
    digest = condition.get("StringEqualsIgnoreCase", {}).get("kms:RecipientAttestation:ImageSha384")
    if digest is None:
        raise Failure("requires no attestation, expected kms:RecipientAttestation:ImageSha384")
    check_images({each.lower() for each in listed(digest)}, settings, image)
    if condition.get("StringEquals") != bound_to(image):
        raise Failure(f"the encryption context differs, expected the image's kms.encryption_context, {image.encryption_context}")


def check_adoption(statements: list[dict], image: Image) -> None:
    """What is bound to no ledger may be bound to that of the image, for the same key, and nothing else."""
    bound = bound_to(image)
    unbound = {name: value for name, value in bound.items() if name != LEDGER}
    same_key = {"kms:ReEncryptOnSameKey": "true"}
    conditions = {
        "AdoptLedgerFrom": {"Bool": same_key, "Null": {LEDGER: "true"}} | ({"StringEquals": unbound} if unbound else {}),
        "AdoptLedgerTo": {"Bool": same_key, "StringEquals": bound},
    }
    for statement in statements:
        expected = conditions.get(statement["Sid"])
        if expected is None:
            continue
        if LEDGER not in bound:
            raise Failure("the image has no [signer.ledger] to adopt: leave out --adopter")
        if statement.get("Condition") != expected:
            raise Failure(f"statement {statement['Sid']} has another condition than {expected}, that of `wallet policy`")


def bound_to(image: Image) -> dict[str, str]:
    """The condition on the encryption context."""
    return {f"kms:EncryptionContext:{name}": value for name, value in image.encryption_context.items()}


def check_images(digests: set[str], settings: Settings, image: Image) -> None:
    """Exactly this image and, during an upgrade, the running one."""
    expected = {measured(path)[1][0]: path for path in settings.former_measurements_paths}
    expected[image.pcrs[0]] = image.measurements_path
    short = lambda digests: " and ".join(f"{digest[:16]}…" for digest in sorted(digests))  # noqa: E731
    if missing := [f"{path} has PCR0 {pcr0[:16]}…" for pcr0, path in expected.items() if pcr0 not in digests]:
        raise Failure(f"is for the image {short(digests)}, and {' and '.join(missing)}: pass --measurements")
    if foreign := digests - set(expected):
        raise Failure(
            f"is also for the image {short(foreign)}, which is neither that of files.image_dir nor of"
            " files.former_measurements_paths"
        )


def principals(statement: dict) -> list[str]:
    """The principals' ARNs. Refuses `"*"` in place of a table."""
    principal = statement["Principal"]
    if not isinstance(principal, dict) or set(principal) != {"AWS"}:
        raise Failure(f"statement {statement['Sid']}: {principal!r}, expected the ARNs of roles or users")
    return listed(principal["AWS"])


def actions(statement: dict) -> list[str]:
    """The statement's actions."""
    return listed(statement["Action"])


def listed(value: str | list[str]) -> list[str]:
    """IAM allows a single value in place of a list."""
    return [value] if isinstance(value, str) else value
