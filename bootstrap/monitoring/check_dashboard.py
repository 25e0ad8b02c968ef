#!/usr/bin/env python3
"""Checks config/monitoring/ against the sources of wg-server and the signer, and against docs/monitoring.md.

The dashboard and the alerts name only metrics that the programs have. Each alert has a severity, a summary, a description and a
row in the documentation. Panels have ids of their own and do not overlap.

usage: check_dashboard.py    prints each problem, and exits with 1 if there is one
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import expressions
import rules

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/monitoring.md"
SOURCES = [ROOT / "bootstrap/wg-server/src/status/page.rs", *sorted((ROOT / "orchestrator/signer/src").rglob("*.rs"))]

SEVERITIES = ("page", "ticket")
# Prometheus's own.
OWN = {"up"}
DEFINED = re.compile(r'"((?:wg_server|wireguard|signer)_[a-z0-9_]+)"')
HISTOGRAM = re.compile(r'HistogramOpts::new\(\s*"(\w+)"')
SUFFIXES = ("_bucket", "_sum", "_count")

# What is in an expression beside metrics, functions and numbers.
NOT_METRICS = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)')
NAME = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()")
# Also those that stand before the list of labels.
WORDS = {"and", "or", "unless", "offset", "bool", "sum", "max", "min", "avg", "count"}
DURATION = re.compile(r"\b\d+(?:ms|[smhdwy])\b")


def defined(sources: Iterable[Path] = SOURCES) -> set[str]:
    """The names of all series that the programs can have."""
    names: set[str] = set()
    for source in sources:
        text = source.read_text()
        histograms = set(HISTOGRAM.findall(text))
        names |= set(DEFINED.findall(text)) - histograms
        names |= {name + suffix for name in histograms for suffix in SUFFIXES}
    return names


def metrics(expression: str) -> set[str]:
    """The metrics that an expression of PromQL names."""
    rest = DURATION.sub("", NOT_METRICS.sub("", expression))
    return set(NAME.findall(rest)) - WORDS


def unknown(where: str, expression: str, known: set[str]) -> Iterator[str]:
    """A problem for each metric that nobody has."""
    found = metrics(expression)
    if not found:
        yield f"{where}: no metric in `{expression}`; expected at least one"
    for name in sorted(found - known):
        yield f"{where}: no source defines {name}; expected a metric of page.rs or of orchestrator/signer/src"


def of_panels(dashboard: dict[str, Any]) -> Iterator[str]:
    """Problems of the panels as such."""
    panels = list(expressions.panels(dashboard))
    for one, other in combinations(panels, 2):
        if one["id"] == other["id"]:
            yield f"dashboard: {one['title']} and {other['title']} have the id {one['id']}; expected two ids"
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"dashboard: {one['title']} overlaps {other['title']}; expected gridPos with other places"
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] < 0 or place["y"] < 0 or place["x"] + place["w"] > 24:
            yield f"dashboard: {panel['title']} is at {place}; expected a place within 24 columns"
        if panel["type"] != "row" and not panel.get("targets"):
            yield f"dashboard: {panel['title']} has no targets; expected at least one query"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two panels have a place in common."""

    def meet(start: str, length: str) -> bool:
        return one[start] < other[start] + other[length] and other[start] < one[start] + one[length]

    return meet("x", "w") and meet("y", "h")


def of_dashboard(dashboard: dict[str, Any], known: set[str]) -> Iterator[str]:
    """Problems of the dashboard."""
    yield from of_panels(dashboard)
    for title, expression in expressions.expressions(dashboard):
        yield from unknown(f"dashboard: {title}", expression, known)
    for variable in dashboard["templating"]["list"]:
        if values := re.fullmatch(r"label_values\((\w+), *\w+\)", variable.get("definition", "")):
            yield from unknown(f"dashboard: variable {variable['name']}", values[1], known)


def of_alerts(alerts: list[rules.Alert], known: set[str]) -> Iterator[str]:
    """Problems of the alerts."""
    if not alerts:
        yield f"{rules.PATH}: no alerts; expected some"
    for name in sorted({one.name for one, other in combinations(alerts, 2) if one.name == other.name}):
        yield f"alert {name}: there are two; expected a name of its own for each"
    for alert in alerts:
        if alert.severity not in SEVERITIES:
            yield f"alert {alert.name}: severity is {alert.severity or 'missing'}; expected one of {', '.join(SEVERITIES)}"
        for name in ("expr", "summary", "description"):
            if not alert.fields.get(name):
                yield f"alert {alert.name}: no {name}; expected one"
        yield from unknown(f"alert {alert.name}", alert.fields.get("expr", ""), known)


def of_document(alerts: list[rules.Alert], document: str) -> Iterator[str]:
    """Alerts without a row, and rows without an alert."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", document, re.MULTILINE)
    names = [alert.name for alert in alerts]
    for name in names:
        if rows.count(name) != 1:
            yield f"{DOCUMENT.name}: {rows.count(name)} rows for {name}; expected one: | `{name}` | meaning | what to do |"
    for name in sorted(set(rows) - set(names)):
        yield f"{DOCUMENT.name}: a row for {name}; expected an alert of this name in {rules.PATH.name}"


def main() -> int:
    """Prints the problems."""
    known, alerts = defined() | OWN, rules.alerts()
    dashboard = json.loads(expressions.PATH.read_text())
    problems = [*of_dashboard(dashboard, known), *of_alerts(alerts, known), *of_document(alerts, DOCUMENT.read_text())]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
