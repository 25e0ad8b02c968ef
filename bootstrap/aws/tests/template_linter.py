"""Prints the findings of cfn-lint or checkov in templates as JSON. Runs in an environment with both.

template_linter.py cfn-lint|checkov TEMPLATE...
"""

import json
import os
import sys
import tempfile
from pathlib import Path

# The linter's text by template, rule and resource.
Findings = dict[tuple[Path, str, str], str]


def cfn_lint(paths: list[Path]) -> Findings:
    """Errors and warnings. Outside of a resource, the place in the template is the name."""
    from cfnlint.api import ManualArgs, lint_by_config

    found = {}
    for match in lint_by_config(ManualArgs(templates=[str(path) for path in paths])):
        section, *names = [str(each) for each in match.path] or ["the template"]
        place = names[0] if section == "Resources" and names else "/".join([section, *names])
        found[Path(match.filename), match.rule.id, place] = match.message
    return found


def checkov(paths: list[Path]) -> Findings:
    """Failed checks."""
    os.environ["LOG_LEVEL"] = "ERROR"
    from checkov.cloudformation.runner import Runner
    from checkov.runner_filter import RunnerFilter

    # Not by its command line, which contacts its vendor's servers.
    report = Runner().run(None, files=[str(path) for path in paths], runner_filter=RunnerFilter(framework=["cloudformation"]))
    if report.parsing_errors or not report.passed_checks:
        sys.exit(f"checkov reads no templates in {report.parsing_errors or paths}")
    place = lambda check: (Path(check.file_abs_path), check.check_id, check.resource.rsplit(".", maxsplit=1)[-1])  # noqa: E731
    return {place(check): check.check_name for check in report.failed_checks}


def without_metadata(name: str, paths: list[Path], folder: Path) -> dict[Path, Path]:
    """Copies, without acceptances, of the templates that accept findings; with their originals."""
    copies = {}
    for index, path in enumerate(paths):
        template = json.loads(path.read_text())
        removed = [resource.get("Metadata", {}).pop(name, None) for resource in template["Resources"].values()]
        if any(removed):
            copy = folder / f"{index}.json"
            copy.write_text(json.dumps(template))
            copies[copy] = path
    return copies


def main() -> None:
    """Each finding, and whether the template accepts it: neither linter reports accepted findings."""
    name = sys.argv[1]
    linter = {"cfn-lint": cfn_lint, "checkov": checkov}[name]
    paths = [Path(path).resolve() for path in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as folder:
        original = without_metadata(name, paths, Path(folder).resolve())
        found = linter(paths)
        unaccepting = linter(list(original)) if original else {}
        everything = {(original[path], rule, place): text for (path, rule, place), text in unaccepting.items()}
    findings = [
        {"path": str(key[0]), "rule": key[1], "resource": key[2], "text": text, "accepted": key not in found}
        for key, text in (everything | found).items()
    ]
    json.dump(findings, sys.stdout)


if __name__ == "__main__":
    main()
