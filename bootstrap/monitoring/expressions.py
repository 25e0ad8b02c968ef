#!/usr/bin/env python3
"""Prints each expression of the dashboard, one in a line, as Prometheus evaluates it: without Grafana's variables.

usage: expressions.py [DASHBOARD]    default: config/monitoring/dashboard.json
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[2] / "config/monitoring/dashboard.json"

VARIABLES = {"enclave": ".+", "__rate_interval": "1m", "__interval": "1m", "__range": "1h"}
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, with the rows and what is in them."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title of the panel and the expression, for each query of each panel."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], VARIABLE.sub(lambda variable: value(variable[1]), target["expr"])


def value(variable: str) -> str:
    """What stands in a query for a variable; `$1` of a regular expression is none."""
    if variable.isdecimal():
        return f"${variable}"
    if variable not in VARIABLES:
        message = f"the dashboard uses ${variable}; expected one of ${', $'.join(VARIABLES)}"
        raise SystemExit(message)
    return VARIABLES[variable]


def main() -> None:
    """Prints them."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    for _, expression in expressions(json.loads(path.read_text())):
        print(expression)


if __name__ == "__main__":
    main()
