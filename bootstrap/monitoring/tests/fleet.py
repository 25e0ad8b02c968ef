"""A fleet as Prometheus sees it, minute by minute: a parent with two enclaves, each with a signer.

It is healthy, and it lives: keys are renewed, wg-server is restarted, counters grow. No alert may fire for that.
"""

import re
from collections.abc import Callable
from itertools import groupby

HOST = 'job="wg-server",instance="parent:9586"'
SIGNERS = {cid: f'job="signer",instance="203.0.113.{cid - 14}:443",enclave="{cid}"' for cid in (16, 17)}
KINDS = ("firewall", "interface", "link", "address", "route", "forwarding", "peer", "named")
CAUSES = ("queue_full", "unfit", "foreign", "refused_by_kernel", "udp_error")
MISSING = "_"
# The minute in which wg-server is restarted, and those of each life of a WireGuard key.
RESTART = 200
KEY_LIFETIME = 60

Values = Callable[[int], float | str]


def constant(value: float) -> Values:
    """The same all the time."""
    return lambda minute: value


def grows(each: float, start: float = 0) -> Values:
    """A counter."""
    return lambda minute: start + each * minute


def handshake(minute: int) -> int:
    """Every two minutes. Time starts in 1970."""
    return minute // 2 * 120


def during(life: int) -> Values:
    """The handshakes with one of an enclave's keys. With a new key, there has been none yet."""

    def value(minute: int) -> float | str:
        if minute // KEY_LIFETIME != life:
            return MISSING
        return 0 if life and minute % KEY_LIFETIME == 0 else handshake(minute)

    return value


def only(life: int, values: Values) -> Values:
    """Values while an enclave has one of its keys."""
    return lambda minute: values(minute) if minute // KEY_LIFETIME == life else MISSING


def restarted(values: Values) -> Values:
    """Nothing while wg-server is restarted."""
    return lambda minute: MISSING if minute == RESTART else values(minute)


def of_host() -> dict[str, Values]:
    """What is there once for a parent."""
    series: dict[str, Values] = {
        "wg_server_uptime_seconds{%s}": grows(60),
        "wg_server_named_up{%s}": constant(1),
        "wg_server_problems{%s}": constant(0),
        "wg_server_refused_answers_total{%s}": constant(1),
        "wg_server_dns_dropped_packets_total{%s}": constant(4),
        "wg_server_dns_questions_total{%s}": grows(60),
        "wg_server_dns_denied_total{%s}": grows(2),
        "wg_server_dns_failed_total{%s}": constant(0),
        "wg_server_egress_unlisted_packets_total{%s}": constant(5),
        "wg_server_egress_enforced{%s}": constant(1),
        'wg_server_forward_up{%s,port="443",to="203.0.113.2:443"}': constant(1),
        "wg_server_draining{%s}": constant(0),
    }
    for kind in KINDS:
        series[f'wg_server_repairs_total{{%s,kind="{kind}"}}'] = constant(2)
    return series


def of_enclave(cid: int) -> dict[str, Values]:
    """What the parent has for an enclave. The first is busy and drops 1 % of many datagrams, the second drops 10 % of a few."""
    datagrams, drops = {16: (60_000, 720), 17: (60, 6)}[cid]
    series: dict[str, Values] = {
        f'wg_server_watchdog_up{{%s,enclave="{cid}"}}': constant(1),
        f'wg_server_watchdog_restarts{{%s,enclave="{cid}"}}': constant(0),
        f'wg_server_watchdog_gave_up{{%s,enclave="{cid}"}}': constant(0),
        f'wg_server_enclave_connections_total{{%s,enclave="{cid}"}}': grows(0.05, 1),
        f'wg_server_enclave_proof_timestamp_seconds{{%s,enclave="{cid}"}}': lambda minute: minute // KEY_LIFETIME * 3600,
        f'wg_server_enclave_image_info{{%s,enclave="{cid}",image="a.json",pcr0="aa",config_sha256="cc"}}': constant(1),
    }
    for state in ("connecting", "peer", "away"):
        series[f'wg_server_enclave_state{{%s,enclave="{cid}",state="{state}"}}'] = constant(int(state == "peer"))
    for direction in ("to_enclave", "from_enclave"):
        series[f'wg_server_relay_datagrams_total{{%s,enclave="{cid}",direction="{direction}"}}'] = grows(datagrams)
        series[f'wg_server_relay_bytes_total{{%s,enclave="{cid}",direction="{direction}"}}'] = grows(100 * datagrams)
    for cause in CAUSES:
        dropped = grows(drops) if cause == "queue_full" else constant(0)
        series[f'wg_server_relay_dropped_datagrams_total{{%s,enclave="{cid}",cause="{cause}"}}'] = dropped
    for life in range(7):
        peer = f'%s,interface="wg0",public_key="{cid}-{life}",allowed_ips="203.0.113.2/32",friendly_name="enclave@{cid}"'
        series[f"wireguard_latest_handshake_seconds{{{peer}}}"] = during(life)
        series[f"wireguard_received_bytes_total{{{peer}}}"] = only(life, grows(600_000))
        series[f"wireguard_sent_bytes_total{{{peer}}}"] = only(life, grows(600_000))
    return series


def of_signer() -> dict[str, Values]:
    """The page of a signer. Time and again a client is refused, S3 is late, and somebody scans the port."""
    series: dict[str, Values] = {
        "up{%s}": constant(1),
        "signer_signatures_total{%s}": grows(600),
        'signer_client_requests_total{%s,client="pay.example",outcome="ok"}': grows(600),
        "signer_handshakes_failed_total{%s}": grows(12),
        "signer_key_cache_hits_total{%s}": grows(600),
        "signer_key_cache_misses_total{%s}": grows(1),
        "signer_keys_cached{%s}": constant(3),
        "signer_keys_missing{%s}": constant(0),
        "signer_nonce_runs_common{%s}": constant(500),
        "signer_nonce_runs_common_limit{%s}": constant(1000),
        "signer_ledger_ready{%s}": constant(1),
        'signer_window_used_percent{%s,of="each key",limit="max_value",period="1day"}': constant(80),
        'signer_connections{%s,state="proven"}': constant(4),
        'signer_connections{%s,state="unproven"}': constant(1),
        'signer_home_connections{%s,client="home hub.example:443"}': constant(2),
        'signer_upstream_failures_total{%s,chain="1"}': grows(0.2),
        'signer_requests_total{%s,route="/ready",outcome="ok"}': grows(6),
        'signer_requests_total{%s,route="/health",outcome="ok"}': grows(3000),
        'signer_requests_total{%s,route="/",outcome="ok"}': grows(600),
        'signer_requests_total{%s,route="/",outcome="policy_refused"}': grows(0.5),
        'signer_requests_total{%s,route="/",outcome="key_unavailable"}': grows(1),
        'signer_requests_total{%s,route="/",outcome="key_refused"}': constant(1),
        'signer_rpc_calls_total{%s,method="eth_signTransaction",outcome="ok"}': grows(300),
    }
    for bound, share in (("0.001", 0.5), ("0.01", 0.9), ("+Inf", 1)):
        series[f'signer_request_duration_seconds_bucket{{%s,route="/",le="{bound}"}}'] = grows(600 * share)
    for rule in ("max_gas", "max_value"):
        series[f'signer_refusals_total{{%s,rule="{rule}"}}'] = grows(0.5)
    for reason in ("handshake_timeout", "source_limit", "unproven_limit", "connection_limit"):
        series[f'signer_connections_closed_total{{%s,reason="{reason}"}}'] = grows(0.2)
    for outcome in ("ok", "spent", "window", "foreign", "away"):
        late = {"ok": grows(600), "away": lambda minute: minute // 50}
        series[f'signer_ledger_requests_total{{%s,outcome="{outcome}"}}'] = late.get(outcome, constant(0))
    return series


class Fleet:
    """Series by name. A fault changes them from a minute on."""

    def __init__(self) -> None:
        """A healthy fleet."""
        parent = of_host() | of_enclave(16) | of_enclave(17)
        self.series = {name % HOST: restarted(values) for name, values in parent.items()}
        self.series[f"up{{{HOST}}}"] = constant(1)
        self.series[f"wg_server_up{{{HOST}}}"] = lambda minute: int(minute != RESTART)
        for labels in SIGNERS.values():
            self.series |= {name % labels: values for name, values in of_signer().items()}

    def names(self, pattern: str) -> list[str]:
        """The series that a regular expression finds: at least one."""
        found = [name for name in self.series if re.search(pattern, name)]
        if not found:
            message = f"no series matches {pattern}; expected one of {', '.join(self.series)}"
            raise SystemExit(message)
        return found

    def change(self, start: int, pattern: str, change: Callable[[int, float | str], float | str]) -> None:
        """From `start` on, each value of these series is what `change` makes of the minutes since then and the healthy value."""
        for name in self.names(pattern):
            self.series[name] = after(start, self.series[name], change)

    def input(self, minutes: int) -> list[dict[str, str]]:
        """The series up to this minute, as promtool reads them."""
        return [
            {"series": name, "values": short([str(values(minute)) for minute in range(minutes + 1)])}
            for name, values in self.series.items()
        ]


def after(start: int, values: Values, change: Callable[[int, float | str], float | str]) -> Values:
    """Values that change from `start` on."""
    return lambda minute: values(minute) if minute < start else change(minute - start, values(minute))


def short(values: list[str]) -> str:
    """`1 1 1 _ _` is `1x2 stale _x0`: a series that is missing after a value has ended."""
    parts = []
    ended = True
    for value, group in groupby(values):
        times = len(list(group))
        if value == MISSING and not ended:
            parts.append("stale")
            times -= 1
        ended = value == MISSING
        if times:
            parts.append(f"{value}x{times - 1}" if value != MISSING else f"_x{times}")
    return " ".join(parts)
