"""Reads the alerts of config/monitoring/alerts.yml with the standard library alone: the forms of YAML that the file uses.

A line in another form is an error, so nothing of the file is left out.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "config/monitoring/alerts.yml"

ALERT = re.compile(r"      - alert: (?P<name>\w+)")
SEVERITY = re.compile(r"        labels: \{ severity: (?P<value>\w+) \}")
FIELD = re.compile(r"(        (expr|for)|          (summary|description)): (?P<value>.+)")
# Lines of a folded value are deeper than its field.
FOLDED = re.compile(r" {10,}\S.*")
OTHER = re.compile(r"groups:|  - name: [\w-]+|    rules:|        annotations:| *#.*|")


@dataclass
class Alert:
    """An alert. `fields` are expr, for, summary and description, as far as the file has them."""

    name: str
    severity: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def alerts(path: Path = PATH) -> list[Alert]:
    """All alerts of the file."""
    found: list[Alert] = []
    folded = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if one := FIELD.fullmatch(line):
            name, value = one[1].strip(), one["value"]
            folded = name if value == ">-" else ""
            found[-1].fields[name] = "" if folded else unquoted(value)
        elif folded and FOLDED.fullmatch(line):
            found[-1].fields[folded] = f"{found[-1].fields[folded]} {line.strip()}".strip()
        elif alert := ALERT.fullmatch(line):
            found.append(Alert(alert["name"]))
        elif severity := SEVERITY.fullmatch(line):
            found[-1].severity = severity["value"]
        elif not OTHER.fullmatch(line):
            message = f"{path}:{number}: {line!r}; expected a form that {Path(__file__).name} reads"
            raise SystemExit(message)
    return found


def unquoted(value: str) -> str:
    """A value in one line: in double quotes, or plain."""
    return value[1:-1] if value.startswith('"') else value
