"""A fault for each alert, and when the alert fires for it, with which labels and which summary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fleet
from fleet import Fleet

# The minute in which each fault begins.
START = 20

PARENT = {"job": "wg-server", "instance": "parent:9586"}
SIGNER = {"job": "signer", "instance": "203.0.113.2:443", "enclave": "16"}
OF_PARENT = 'instance="parent:9586"'
OF_SIGNER = r'instance="203\.0\.113\.2:443"'
ENCLAVE = PARENT | {"enclave": "16"}
OTHER = PARENT | {"enclave": "17"}
WHO = "enclave 16 (203.0.113.2:443)"

Change = Callable[[Fleet], None]


def to(value: float | str, *patterns: str) -> Change:
    """Sets series to a value."""
    return each(lambda since, healthy: value, *patterns)


def ends(*patterns: str) -> Change:
    """Ends series."""
    return to(fleet.MISSING, *patterns)


def adds(steps: Callable[[int], float], *patterns: str) -> Change:
    """Adds to counters, by the minutes since the start."""
    return each(lambda since, healthy: healthy + steps(since), *patterns)


def once(*patterns: str) -> Change:
    """Adds 1 to counters."""
    return adds(lambda since: 1, *patterns)


def a_minute(count: float, *patterns: str) -> Change:
    """Adds to counters each minute, the first time at the start."""
    return adds(lambda since: count * (since + 1), *patterns)


def each(change: Callable[[int, float | str], Any], *patterns: str) -> Change:
    """Changes series."""

    def apply(it: Fleet) -> None:
        for pattern in patterns:
            it.change(START, pattern, change)

    return apply


def appears(name: str, steps: Callable[[int], float]) -> Change:
    """A series that has not been there."""

    def apply(it: Fleet) -> None:
        it.series[name] = fleet.after(START, lambda minute: fleet.MISSING, lambda since, healthy: steps(since))

    return apply


def outcome(name: str, labels: str, steps: Callable[[int], float]) -> Change:
    """A new outcome of requests to the first signer."""
    return appears(f"{name}{{{fleet.SIGNERS[16]},{labels}}}", steps)


def has(name: str, labels: str, value: float) -> Change:
    """The first signer has had this outcome from the start."""

    def apply(it: Fleet) -> None:
        it.series[f"{name}{{{fleet.SIGNERS[16]},{labels}}}"] = fleet.constant(value)

    return apply


@dataclass
class Fault:
    """What happens, and the alert that fires for it, so many minutes later."""

    alert: str
    after: int
    labels: dict[str, str]
    summary: str
    changes: tuple[Change, ...]


def fault(alert: str, after: int, labels: dict[str, str], summary: str, *changes: Change) -> Fault:
    """The same, in the order in which one reads it."""
    return Fault(alert, after, labels, summary, changes)


STATE = r'_enclave_state\{.*enclave="%s",state="%s"'
OF_ENCLAVE = r'enclave="%s"|enclave@%s"'
DROPPED = r'dropped_datagrams_total\{.*enclave="16",cause="%s"'

FAULTS = [
    fault(
        "WgServerDown",
        2,
        PARENT,
        "wg-server on parent:9586 does not answer.",
        ends(r"^(wg_server_(?!up\{)|wireguard_)"),
        to(0, r"^wg_server_up\{"),
    ),
    fault(
        "WgMetricsDown",
        5,
        PARENT,
        "Prometheus cannot read the metrics of wg-server on parent:9586.",
        ends(r"^(wg_server_|wireguard_)"),
        to(0, rf"^up\{{.*{OF_PARENT}"),
    ),
    fault(
        "WgMetricsMissing",
        10,
        {"job": "wg-server"},
        "Prometheus has no target of the job wg-server.",
        ends(OF_PARENT),
    ),
    fault(
        "NamedDown",
        3,
        PARENT,
        "named on parent:9586 does not answer, so its enclaves cannot look up names.",
        to(0, "named_up"),
        to(1, "problems"),
    ),
    fault(
        "WgServerProblem",
        5,
        PARENT,
        "wg-server on parent:9586 reports 2 problems that it cannot repair.",
        to(2, "problems"),
    ),
    fault(
        "HostRepaired",
        0,
        PARENT | {"kind": "firewall"},
        "Something on parent:9586 changed what wg-server manages (firewall), and wg-server repaired it.",
        once('repairs_total.*kind="firewall"'),
    ),
    fault(
        "DocumentsRefused",
        0,
        PARENT,
        "wg-server on parent:9586 refuses the attestation document or the key of an enclave.",
        once("refused_answers_total"),
    ),
    fault(
        "EgressRefused",
        0,
        PARENT,
        "Enclaves of parent:9586 send packets to destinations that are not on the list.",
        once("unlisted_packets_total"),
    ),
    fault(
        "DnsQuestionsDropped",
        0,
        PARENT,
        "Enclaves of parent:9586 ask name servers other than the gateway.",
        once("dns_dropped_packets_total"),
    ),
    fault(
        "ForwardTargetMissing",
        5,
        PARENT | {"port": "443", "to": "203.0.113.2:443"},
        "Port 443 of parent:9586 leads to 203.0.113.2:443, which is not a peer.",
        to(0, "forward_up"),
    ),
    fault(
        "HostDraining",
        60,
        PARENT,
        "parent:9586 has been drained for more than an hour and refuses new connections.",
        to(1, "draining"),
    ),
    fault(
        "NoEnclaveIsPeer",
        5,
        PARENT,
        "No enclave is a peer of wg-server on parent:9586.",
        ends(rf'{OF_PARENT}.*enclave[="@]+1[67]"'),
        to(0, "forward_up"),
    ),
    fault(
        "NoEnclaveIsPeer",
        5,
        PARENT,
        "No enclave is a peer of wg-server on parent:9586.",
        to(0, r"_enclave_state\{.*peer", "forward_up"),
        to(1, r"_enclave_state\{.*connecting"),
        ends("^wireguard_", "(proof|image)"),
    ),
    fault(
        "EnclaveNotPeer",
        5,
        OTHER | {"state": "connecting"},
        "Enclave 17 of parent:9586 is connecting, not a peer.",
        to(0, STATE % (17, "peer")),
        to(1, STATE % (17, "connecting")),
        ends('^wireguard_.*enclave@17"', "(proof|image).*17"),
    ),
    fault(
        "EnclaveGone",
        5,
        OTHER,
        "Enclave 17 of parent:9586 was a peer within the last hour and is gone.",
        ends('^wireguard_.*enclave@17"', '^wg_server_(enclave|relay)_.*enclave="17"'),
    ),
    # The last one was 2 minutes before. It is older than 3 minutes after 2 more, and 2 minutes later the alert fires.
    fault(
        "EnclaveNoHandshake",
        4,
        ENCLAVE | {"interface": "wg0", "friendly_name": "enclave@16"},
        "Enclave 16 of parent:9586 has had no WireGuard handshake for 3 minutes.",
        each(lambda since, healthy: 60 * (START - 2), 'handshake_seconds.*"16-0"'),
    ),
    fault(
        "EnclaveNoHandshake",
        2,
        OTHER | {"interface": "wg0", "friendly_name": "enclave@17"},
        "Enclave 17 of parent:9586 has had no WireGuard handshake for 3 minutes.",
        to(0, 'handshake_seconds.*"17-0"'),
    ),
    # Proved in minute 0, and the alert fires 5 minutes after it is older than 180 minutes.
    fault(
        "EnclaveProofOld",
        166,
        ENCLAVE,
        "Enclave 16 of parent:9586 proved its key 3h 6m 0s ago.",
        to(0, 'proof.*enclave="16"'),
    ),
    # The healthy fleet has one every 20 minutes.
    fault(
        "EnclaveReconnects",
        3,
        ENCLAVE,
        "Enclave 16 of parent:9586 opens its control stream again and again.",
        a_minute(1, 'enclave_connections_total.*"16"'),
    ),
    fault(
        "WatchdogRestarted",
        0,
        ENCLAVE,
        "The watchdog of enclave 16 on parent:9586 has restarted it 1 times.",
        to(1, 'watchdog_restarts.*"16"'),
    ),
    fault(
        "WatchdogGaveUp",
        1,
        ENCLAVE,
        "The watchdog of enclave 16 on parent:9586 gave up: restarts do not help.",
        to(5, 'watchdog_restarts.*"16"'),
        to(1, 'watchdog_gave_up.*"16"'),
    ),
    fault(
        "WatchdogDown",
        10,
        ENCLAVE,
        "The watchdog does not look at enclave 16 of parent:9586.",
        to(0, 'watchdog_up.*"16"'),
    ),
    # 100 a second besides the 12 healthy ones. The rate of 10 minutes is above 5 % of 1,000 from the 4th minute on.
    fault(
        "RelayDropsDatagrams",
        18,
        ENCLAVE,
        "The relay drops more than 5 % of the datagrams to enclave 16 of parent:9586.",
        a_minute(6000, DROPPED % "queue_full"),
    ),
    fault(
        "RelayReceivesStrayDatagrams",
        0,
        ENCLAVE | {"cause": "foreign"},
        "The relay of enclave 16 on parent:9586 dropped datagrams: foreign.",
        once(DROPPED % "foreign"),
    ),
    fault(
        "SignerDown",
        5,
        SIGNER,
        f"Prometheus cannot read the metrics of the signer of {WHO}.",
        ends(rf"^signer_.*{OF_SIGNER}"),
        to(0, rf"^up\{{.*{OF_SIGNER}"),
    ),
    fault(
        "SignerNotReady",
        10,
        SIGNER,
        f"The signer of {WHO} has not loaded all of its keys.",
        to(1, rf"^signer_keys_missing\{{.*{OF_SIGNER}"),
    ),
    fault(
        "SignerInternalError",
        0,
        SIGNER,
        f"A signature of {WHO} failed the signer's own check.",
        outcome("signer_requests_total", 'route="/",outcome="internal"', lambda since: 1),
    ),
    fault(
        "SignerInternalError",
        0,
        SIGNER,
        f"A signature of {WHO} failed the signer's own check.",
        outcome("signer_rpc_calls_total", 'method="eth_sign",outcome="internal"', lambda since: 1),
    ),
    # A second one, long after the first.
    fault(
        "SignerInternalError",
        0,
        SIGNER,
        f"A signature of {WHO} failed the signer's own check.",
        has("signer_requests_total", 'route="/",outcome="internal"', 1),
        once("requests_total.*internal"),
    ),
    fault(
        "SignerInternalError",
        0,
        SIGNER,
        f"A signature of {WHO} failed the signer's own check.",
        has("signer_rpc_calls_total", 'method="eth_sign",outcome="internal"', 1),
        once("rpc_calls_total.*internal"),
    ),
    fault(
        "SignerErrors",
        12,
        SIGNER,
        f"The signer of {WHO} answers 16.77% of the requests with errors.",
        a_minute(120, rf'^signer_requests_total\{{.*{OF_SIGNER}.*outcome="key_unavailable"'),
    ),
    fault(
        "SignerErrors",
        11,
        SIGNER,
        f"The signer of {WHO} answers 28.57% of the requests with errors.",
        has("signer_rpc_calls_total", 'method="eth_sendTransaction",outcome="busy"', 1),
        a_minute(120, "rpc_calls_total.*busy"),
    ),
    fault(
        "SignerKeyRefused",
        10,
        SIGNER,
        f"KMS or Secrets Manager refuses a key to the signer of {WHO}.",
        a_minute(1, rf'requests_total\{{.*{OF_SIGNER}.*outcome="key_refused"'),
    ),
    fault(
        "SignerKeyRefused",
        10,
        SIGNER,
        f"KMS or Secrets Manager refuses a key to the signer of {WHO}.",
        has("signer_rpc_calls_total", 'method="eth_sendTransaction",outcome="key_refused"', 1),
        a_minute(1, "rpc_calls_total.*key_refused"),
    ),
    fault(
        "SignerLedgerNotReady",
        5,
        SIGNER,
        f"The ledger of {WHO} is not usable, so it signs nothing with a nonce.",
        to(0, f"ledger_ready.*{OF_SIGNER}"),
        outcome("signer_requests_total", 'route="/ready",outcome="not_ready"', lambda since: 6 * since + 6),
    ),
    fault(
        "SignerLedgerUnavailable",
        5,
        SIGNER,
        f"S3 does not answer the signer of {WHO} in time, or refuses.",
        a_minute(1, f'ledger_requests_total.*{OF_SIGNER}.*"away"'),
        outcome("signer_requests_total", 'route="/",outcome="ledger_unavailable"', lambda since: since + 1),
    ),
    fault(
        "SignerLedgerForeign",
        0,
        SIGNER,
        f"The ledger of {WHO} has objects that no signer made.",
        once(f'ledger_requests_total.*{OF_SIGNER}.*"foreign"'),
    ),
    fault(
        "SignerHandshakesFailed",
        12,
        SIGNER,
        f"3.2 TLS handshakes a second fail at the signer of {WHO}.",
        a_minute(180, f"handshakes_failed_total.*{OF_SIGNER}"),
    ),
    fault(
        "SignerConnectionsClosed",
        1,
        SIGNER | {"reason": "source_limit"},
        f"The signer of {WHO} closes connections: source_limit.",
        a_minute(5, f'closed_total.*{OF_SIGNER}.*"source_limit"'),
    ),
    fault(
        "SignerRefusals",
        1,
        SIGNER | {"rule": "max_value"},
        f"The signer of {WHO} refuses many requests by the rule max_value.",
        a_minute(10, f'refusals_total.*{OF_SIGNER}.*"max_value"'),
    ),
    fault(
        "SignerWindowNearlyUsed",
        5,
        SIGNER | {"of": "each key", "limit": "max_value", "period": "1day"},
        f"95 % of a window's max_value for 1day (each key) is used on {WHO}.",
        to(95, f"window_used_percent.*{OF_SIGNER}"),
    ),
    fault(
        "SignerNonceMemoryNearlyFull",
        10,
        SIGNER,
        f"The signer of {WHO} has nearly filled its memory for spent nonces.",
        to(801, rf"nonce_runs_common\{{.*{OF_SIGNER}"),
    ),
    fault(
        "SignerHubDisconnected",
        5,
        SIGNER | {"client": "home hub.example:443"},
        "Enclave 16 (203.0.113.2:443) has no connection to its hub (home hub.example:443).",
        to(0, f"home_connections.*{OF_SIGNER}"),
    ),
    fault(
        "SignerUpstreamFails",
        1,
        SIGNER | {"chain": "1"},
        f"The node of chain 1 does not answer the signer of {WHO}.",
        a_minute(2, f"upstream_failures_total.*{OF_SIGNER}"),
    ),
]
