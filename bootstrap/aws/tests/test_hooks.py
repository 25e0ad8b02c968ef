"""What the hooks of the Auto Scaling group call on an instance: they run here; aws and wg-server record their calls."""

import http.server
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from operator_files import ROOT

FLEET = ROOT / "bootstrap/aws/fleet"
SECONDS = 20
# The state is in a file; without it, the metadata has none.
CURL = """#!/bin/bash
case $* in
*"--request PUT "*"/latest/api/token") echo a-token ;;
*"X-aws-ec2-metadata-token: a-token "*/latest/meta-data/autoscaling/target-lifecycle-state) cat "$FOLDER/state" 2>/dev/null ;;
*"X-aws-ec2-metadata-token: a-token "*/latest/meta-data/instance-id) echo i-01234567 ;;
*) exit 22 ;;
esac
"""
RECORD = """#!/bin/bash
if [ -e "$LEAVING_PATH" ]; then is_leaving=yes; else is_leaving=no; fi
echo "$is_leaving ${0##*/} $*" >>"$FOLDER/calls"
[ ! -e "$FOLDER/${0##*/}.fails" ] || { rm "$FOLDER/${0##*/}.fails"; exit 1; }
"""
COMPLETE = (
    "aws autoscaling complete-lifecycle-action --auto-scaling-group-name a-fleet --lifecycle-hook-name terminating"
    " --instance-id i-01234567 --lifecycle-action-result CONTINUE"
)


class Leave(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "bin").mkdir()
        for name, text in {"curl": CURL, "aws": RECORD, "wg-server": RECORD, "sleep": RECORD + "exec /bin/sleep 0.01\n"}.items():
            path = self.folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        self.leaving_path = self.folder / "leaving"

    def start(self) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FOLDER": str(self.folder),
            "LEAVING_PATH": str(self.leaving_path),
            "GROUP": "a-fleet",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "POLL_SECONDS": "7",
        }
        process = subprocess.Popen(
            [FLEET / "leave.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []

    def state(self, state: str) -> None:
        new = self.folder / "state.new"
        new.write_text(state)
        new.replace(self.folder / "state")

    def leave(self) -> tuple[str, list[str]]:
        """What it said, and its calls once the instance is to end."""
        self.state("Terminated")
        said, _ = self.start().communicate(timeout=SECONDS)
        return said, [call for call in self.calls() if " sleep 7" not in call]

    def test_an_instance_in_service_is_left_alone(self) -> None:
        # Of an earlier start.
        self.leaving_path.touch()
        process = self.start()
        end = time.monotonic() + SECONDS
        # First without an answer, then in service.
        for state in (None, "InService"):
            if state is not None:
                self.state(state)
            before = len(self.calls())
            while len(self.calls()) < before + 3:
                self.assertLess(time.monotonic(), end)
                self.assertIsNone(process.poll())
                time.sleep(0.01)
        self.assertEqual(set(self.calls()), {"no sleep 7"})
        self.assertFalse(self.leaving_path.exists())

    def test_new_connections_end_first_then_those_under_way_have_time_then_the_hook_goes_on(self) -> None:
        said, calls = self.leave()
        # The health check says no from the first call on.
        self.assertEqual(calls, ["yes wg-server drain --wait 60s", f"yes {COMPLETE}"])
        self.assertIn("drained", said)
        self.assertTrue(self.leaving_path.exists())

    def test_a_drain_that_fails_is_reported_and_the_instance_ends(self) -> None:
        (self.folder / "wg-server.fails").touch()
        said, calls = self.leave()
        self.assertIn("wg-server drain: status 1; connections that are under way are cut", said)
        self.assertEqual(calls[-1], f"yes {COMPLETE}")

    def test_auto_scaling_is_told_again_if_it_did_not_answer(self) -> None:
        (self.folder / "aws.fails").touch()
        said, calls = self.leave()
        self.assertEqual(calls[-2:], [f"yes {COMPLETE}"] * 2)
        self.assertIn("drained", said)

    def test_all_of_it_fits_into_the_hook_s_time(self) -> None:
        sys.path.insert(0, str(ROOT / "bootstrap/aws/cdk"))
        from fleet import LEAVES_WITHIN_SECONDS

        self.assertLess(60 + 10 * 5, LEAVES_WITHIN_SECONDS)


class Enclave(http.server.BaseHTTPRequestHandler):
    """A signer that is ready, or not."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/ready" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Ready(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        key, certificate = self.folder / "key", self.folder / "certificate"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=e"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # As the signer.
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(certificate, key)
        self.handler = type("Handler", (Enclave,), {})
        enclave = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        enclave.socket = tls.wrap_socket(enclave.socket, server_side=True)
        thread = threading.Thread(target=enclave.serve_forever)
        thread.start()
        for clean_up in (thread.join, enclave.server_close, enclave.shutdown):
            self.addCleanup(clean_up)
        self.leaving_path = self.folder / "leaving"
        self.serve(enclave.server_address[1])

    def serve(self, enclave_port: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {
            "ENCLAVE_ADDRESS": f"127.0.0.1:{enclave_port}",
            "LEAVING_PATH": str(self.leaving_path),
            "PORT": str(self.port),
        }
        process = subprocess.Popen([sys.executable, "-B", FLEET / "ready.py"], env=environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)

    def ask(self, path: str = "/ready") -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_the_answer_is_the_enclave_s(self) -> None:
        self.assertEqual(self.ask(), (200, "ready\n"))
        self.handler.status = 503
        status, text = self.ask()
        self.assertEqual(status, 503)
        self.assertIn("HTTP Error 503", text)
        self.assertEqual(self.ask("/health")[0], 404)

    def test_an_instance_that_leaves_is_not_ready_although_its_enclave_is(self) -> None:
        self.leaving_path.touch()
        self.assertEqual(self.ask(), (503, "the instance is leaving\n"))

    def test_an_enclave_that_is_not_there_is_not_ready(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            self.serve(closed.getsockname()[1])
            status, text = self.ask()
        self.assertEqual(status, 503)
        self.assertIn("refused", text)

    def test_a_client_that_says_nothing_stops_nobody_else(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)):
            self.assertEqual(self.ask()[0], 200)
