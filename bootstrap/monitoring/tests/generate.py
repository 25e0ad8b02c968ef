#!/usr/bin/env python3
"""Writes tests for `promtool test rules`: a healthy fleet, in which no alert fires, and a fault for each alert.

Up to the minute before the alert is due, nothing fires. Then this alert does, and in the minutes that follow no other. Each
query of the dashboard finds something in the healthy fleet.

usage: generate.py RULES FOLDER    RULES: the path of the alerts, as the tests name it. FOLDER: gets a file for each processor
"""

import json
import sys
from pathlib import Path
from typing import Any

from faults import FAULTS, START, Fault
from fleet import Fleet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import expressions
import rules

# Minutes of the healthy fleet: its wg-server is restarted, and its keys are renewed.
HEALTHY = 270
# A counter that is there from the start is then no longer new to an alert.
SETTLED = 12
# Minutes after an alert has begun to fire in which no other does.
STAYS = 9
# promtool runs one test after the other.
PARTS = 2


def nothing_fired(minutes: int, until: int) -> dict[str, Any]:
    """No alert has fired in the minutes before."""
    query = f'count_over_time(ALERTS{{alertstate="firing"}}[{minutes}m])'
    return {"expr": query, "eval_time": f"{until}m", "exp_samples": []}


def healthy() -> dict[str, Any]:
    """The fleet without a fault."""
    return {
        "name": "a healthy fleet",
        "interval": "1m",
        "input_series": Fleet().input(HEALTHY),
        "promql_expr_test": [nothing_fired(HEALTHY, HEALTHY)],
    }


def seen() -> dict[str, Any]:
    """Each query of the dashboard has data."""
    dashboard = json.loads(expressions.PATH.read_text())
    queries = [query for _, query in expressions.expressions(dashboard)]
    return {
        "name": "the dashboard",
        "interval": "15s",
        "input_series": Fleet().input(START),
        "promql_expr_test": [{"expr": f"absent({query})", "eval_time": "5m", "exp_samples": []} for query in queries],
    }


def faulty(it: Fault, alert: rules.Alert) -> dict[str, Any]:
    """The fleet with a fault."""
    fires = START + it.after
    ill = Fleet()
    for change in it.changes:
        change(ill)
    annotations = {"summary": it.summary, "description": alert.fields["description"]}
    return {
        "name": it.alert,
        "interval": "1m",
        "input_series": ill.input(fires + STAYS),
        "promql_expr_test": [
            nothing_fired(fires - 1 - SETTLED, fires - 1),
            {
                "expr": f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{STAYS}m]))',
                "eval_time": f"{fires + STAYS}m",
                "exp_samples": [{"labels": f'{{alertname="{it.alert}"}}', "value": 1}],
            },
        ],
        "alert_rule_test": [
            {
                "alertname": it.alert,
                "eval_time": f"{fires}m",
                "exp_alerts": [{"exp_labels": it.labels | {"severity": alert.severity}, "exp_annotations": annotations}],
            }
        ],
    }


def main() -> None:
    """Writes them as JSON, which is YAML."""
    alerts = {alert.name: alert for alert in rules.alerts()}
    tested = {it.alert for it in FAULTS}
    if tested != alerts.keys():
        message = (
            f"expected a fault for each alert; without one: {alerts.keys() - tested}; without an alert: {tested - alerts.keys()}"
        )
        raise SystemExit(message)
    tests = [healthy(), seen(), *(faulty(it, alerts[it.alert]) for it in FAULTS)]
    for part in range(PARTS):
        content = {"rule_files": [sys.argv[1]], "evaluation_interval": "1m", "tests": tests[part::PARTS]}
        Path(sys.argv[2], f"tests-{part}.yml").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
