"""The packed function, run as Lambda runs it, with the variables that the stack gives it; AWS is a server of the test's."""

import base64
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

from operator_files import SAMPLE, Operator, only, resolve

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
SECRET_ARN = f"arn:aws:secretsmanager:eu-central-1:111122223333:secret:{SAMPLE.secret_id}-AbCdEf"
Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """Answers each request with a function of its method, path, headers and body."""

    def handle_error(self, *_: object) -> None:
        """A function that is stopped leaves without a word."""

    def __init__(self, respond: Callable[[str, str, Any, bytes], Answer], tls: ssl.SSLContext | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, answer = respond(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class RuntimeApi:
    """Lambda's runtime API: events out, reports in."""

    def __init__(self) -> None:
        self.events: Queue[bytes] = Queue()
        self.reports: Queue[tuple[str, Any]] = Queue()
        self.server = Server(self.respond)

    def respond(self, method: str, path: str, _: Any, body: bytes) -> Answer:
        if method == "GET" and path == "/2018-06-01/runtime/invocation/next":
            event = self.events.get()
            deadline = str(int(time.time() * 1000) + 30000)
            return 200, {"Lambda-Runtime-Aws-Request-Id": "an-event", "Lambda-Runtime-Deadline-Ms": deadline}, event
        self.reports.put((path.removeprefix("/2018-06-01/runtime/"), json.loads(body)))
        return 202, {}, b""

    def ask(self, event: dict[str, Any]) -> tuple[str, Any]:
        self.events.put(json.dumps(event).encode())
        return self.reports.get(timeout=30)


class Cloud:
    """KMS and Secrets Manager, behind a certificate authority of their own."""

    def __init__(self, folder: Path) -> None:
        run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: E731
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=TEST ONLY")
        run("req", *key, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=localhost")
        (folder / "ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext")
        run("x509", "-req", "-in", "csr.pem", "-out", "cert.pem", *signer)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.ca_path, self.asked, self.stored = folder / "ca.pem", [], ""
        self.server = Server(self.respond, tls)

    def respond(self, _method: str, _path: str, headers: Any, body: bytes) -> Answer:
        target, request = headers["X-Amz-Target"].split(".")[-1], json.loads(body)
        self.asked.append((target, request))
        match target:
            case "Encrypt":
                answer = {"KeyId": request["KeyId"], "CiphertextBlob": base64.b64encode(b"sealed").decode()}
            case "PutSecretValue":
                self.stored = request["SecretString"]
                answer = {"ARN": SECRET_ARN, "Name": request["SecretId"], "VersionId": "a-version"}
            case _:
                answer = {"ARN": SECRET_ARN, "Name": request["SecretId"], "VersionId": "a-version", "SecretString": self.stored}
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()


class Function(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.archive_path = Path(os.environ["LAMBDA_ZIP"])
        (folder / "operator").mkdir()
        operator = Operator(folder / "operator")
        template = operator.synthesize()["Enclave"]
        instance, _ = only(template, "AWS::EC2::Instance")
        # Nobody listens there.
        names = {f"{instance}.PrivateIp": "127.0.0.1:9"}
        self.variables = resolve(only(template, "AWS::Lambda::Function")[1]["Properties"]["Environment"]["Variables"], names)
        self.cloud, self.api = Cloud(folder), RuntimeApi()
        endpoint = f"https://localhost:{self.cloud.server.server_port}"
        # unzip keeps modes, zipfile does not.
        subprocess.run(["python3", "-c", EXTRACT, self.archive_path, folder / "bootstrap"], check=True)
        environment = {
            **self.variables,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server.server_port}",
            "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_SESSION_TOKEN": "a-session",
            "AWS_ENDPOINT_URL_KMS": endpoint,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
            "AWS_CA_BUNDLE": str(self.cloud.ca_path),
        }
        self.child = subprocess.Popen([folder / "bootstrap"], env=environment, stderr=subprocess.DEVNULL)
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)

    def test_the_three_events_are_answered(self) -> None:
        path, answer = self.api.ask({"operation": "set_key", "eth_key": KEY})
        self.assertEqual((path, answer.get("address")), ("invocation/an-event/response", ADDRESS), answer)
        (encrypt, request), (put, secret) = self.cloud.asked
        self.assertEqual((encrypt, put), ("Encrypt", "PutSecretValue"))
        self.assertEqual(request["KeyId"], self.variables["KEY_ARN"])
        self.assertEqual(request["EncryptionContext"], {"purpose": "ethereum-signer"})
        self.assertEqual(secret["SecretId"], SAMPLE.secret_id)
        sealed = base64.b64encode(b"sealed").decode()
        self.assertEqual(self.api.ask({"operation": "get_key"}), ("invocation/an-event/response", sealed))
        path, answer = self.api.ask({"operation": "sign_transaction", "transaction_payload": {"nonce": 0}})
        self.assertEqual((path, answer["errorType"]), ("invocation/an-event/error", "EnclaveUnavailable"), answer)

    def test_the_archive_is_one_program_without_a_date(self) -> None:
        with zipfile.ZipFile(self.archive_path) as archive:
            [entry] = archive.infolist()
        mode = entry.external_attr >> 16
        self.assertEqual((entry.filename, mode, entry.date_time), ("bootstrap", 0o100755, (1980, 1, 1, 0, 0, 0)))


EXTRACT = """
import os, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
open(sys.argv[2], "wb").write(archive.read("bootstrap"))
os.chmod(sys.argv[2], archive.getinfo("bootstrap").external_attr >> 16)
"""
