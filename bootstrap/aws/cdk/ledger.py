"""What the image says about its ledger, and whether the settings agree."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from failure import Failure
from settings import Settings

KINDS = {"bucket": str, "owner": str, "retention_years": int}


@dataclass(frozen=True)
class Ledger:
    """[signer.ledger] of the image."""

    bucket: str
    owner: str
    retention_years: int
    # It resolves this name.
    host: str

    @classmethod
    def parse(cls, table: dict, region: str, suffix: str) -> "Ledger":
        """Parses the table. `orchestrator --check` has checked the rest."""
        for key, kind in KINDS.items():
            if type(table.get(key)) is not kind:
                raise Failure(f"signer.ledger.{key}: {table.get(key)!r}, expected such as in docs/ledger.md")
        endpoint = table.get("endpoint")
        host = f"{table['bucket']}.s3.{region}.{suffix}" if endpoint is None else urlsplit(endpoint).hostname
        return cls(table["bucket"], table["owner"], table["retention_years"], host)

    @property
    def context(self) -> dict[str, str]:
        """The enclave adds it to the encryption context, so that the key does not open beside another ledger."""
        return {"ledger": f"{self.owner}/{self.bucket}"}

    def check(self, settings: Settings, account: str) -> None:
        """Refuses a ledger that the instance's role may not write, or whose objects the bucket would refuse."""
        if settings.ledger is None:
            raise Failure(
                f"signer.ledger.bucket is {self.bucket!r}, and the settings have no [ledger]: the instance's role may not write"
                f' to it; expected [ledger] with bucket = "{self.bucket}"'
            )
        if self.bucket != settings.ledger.bucket:
            raise Failure(
                f"signer.ledger.bucket: {self.bucket!r}, expected {settings.ledger.bucket!r}, which is ledger.bucket in the"
                " settings"
            )
        if self.owner != account:
            raise Failure(
                f"signer.ledger.owner: {self.owner!r}, expected {account!r}, the account of kms.key_arn, which makes the bucket"
            )
        if self.retention_years > settings.ledger.max_retention_years:
            raise Failure(
                f"signer.ledger.retention_years: {self.retention_years}, expected at most {settings.ledger.max_retention_years},"
                " which is ledger.max_retention_years in the settings: the bucket refuses objects that stay longer"
            )


def check_fleet(single_use: list[str], has_ledger: bool, settings: Settings) -> None:
    """Refuses a fleet whose enclaves could each sign the same nonce."""
    if settings.is_fleet and single_use and not has_ledger:
        raise Failure(
            f"{' and '.join(single_use)}: not true, and fleet.instances is {settings.instances}: each enclave knows only its own"
            " signatures, so that two of them can sign two transactions with one nonce; expected [signer.ledger], in which all"
            " of them record each nonce, or nonce_reuse = true, which permits it"
        )


def has_windows(signer: dict, homes: list[dict]) -> bool:
    """Whether a policy limits what is signed in a time."""
    policy = signer.get("policy", {})
    callers = [caller.get("policy", {}) for caller in [*signer.get("clients", []), *homes]]
    return any(each.get("windows") for each in [policy, *policy.get("keys", {}).values(), *callers])


def single_use(signer: dict, homes: list[dict]) -> list[str]:
    """The keys of the policies that promise to sign a nonce once."""
    policy = signer.get("policy", {})
    base = policy.get("nonce_reuse", False)
    found = [("signer.policy.nonce_reuse", base)]
    found += [
        (f"signer.policy.keys.{key}.nonce_reuse", table.get("nonce_reuse", base)) for key, table in policy.get("keys", {}).items()
    ]
    for name, callers in (("signer.clients", signer.get("clients", [])), ("home", homes)):
        # They only limit further.
        found += [(f"{name}.policy.nonce_reuse", caller.get("policy", {}).get("nonce_reuse", True)) for caller in callers]
    return sorted({key for key, value in found if value is not True})
