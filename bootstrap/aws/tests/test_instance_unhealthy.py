"""The report of an instance to its Auto Scaling group. curl and the AWS CLI are stand-ins that record their calls."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from operator_files import ROOT

SCRIPT = ROOT / "bootstrap/aws/instance-unhealthy.sh"
# The metadata service of an instance; in a group if $STATE is set. $BROKEN is a status for the values.
CURL = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
for url; do :; done
case $url in
*/api/token) [ -z "${AWAY:-}" ] || { echo "curl: (28) timed out" >&2; exit 28; }; printf token; exit ;;
*/instance-id) value=i-0123 ;;
*/autoscaling/target-lifecycle-state) value=${STATE:-} ;;
*/placement/region) value=eu-central-1 ;;
esac
if [ -n "$value" ]; then printf '%s\\n%s' "$value" "${BROKEN:-200}"; else printf 'not found\\n404'; fi
"""
AWS = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
[ -z "${DENIED:-}" ] || { printf '\\nAn error occurred (AccessDenied)\\n' >&2; exit 254; }
"""
SET = "aws autoscaling set-instance-health --region eu-central-1 --instance-id i-0123 --health-status Unhealthy"


class Report(unittest.TestCase):
    def run_script(self, **more: str) -> tuple[int, str, list[str]]:
        """Its status, its errors, and the calls of the AWS CLI."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in (("curl", CURL), ("aws", AWS)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), **more}
        done = subprocess.run([SCRIPT], env=environment, check=False, capture_output=True, text=True)
        calls = (folder / "calls").read_text().splitlines()
        return done.returncode, done.stderr, [call for call in calls if call.startswith("aws ")]

    def test_an_instance_of_a_group_is_reported_once(self) -> None:
        self.assertEqual(self.run_script(STATE="InService"), (0, "", [SET]))

    def test_without_a_group_nothing_is_called_and_the_error_says_what_to_do(self) -> None:
        status, said, calls = self.run_script()
        self.assertEqual((status, calls), (0, []))
        self.assertTrue(said.startswith("<3>the enclave does not work"), said)
        self.assertIn("i-0123 is in no Auto Scaling group", said)
        self.assertIn("`systemctl restart enclave`", said)

    def test_a_failure_is_an_error_so_that_the_unit_tries_again(self) -> None:
        status, said, calls = self.run_script(STATE="InService", DENIED="yes")
        self.assertEqual((status, calls), (1, [SET]))
        self.assertIn("An error occurred (AccessDenied); expected a role with autoscaling:SetInstanceHealth", said)
        # A metadata service that fails is not one without a group.
        for more in ({"AWAY": "yes"}, {"BROKEN": "500"}):
            status, said, calls = self.run_script(**more)
            self.assertEqual((status != 0, calls), (True, []), said)
