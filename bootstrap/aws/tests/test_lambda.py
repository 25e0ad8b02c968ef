"""The packed function in Lambda's runtime, with the stack's variables, against moto's Secrets Manager."""

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

from operator_files import ACCOUNT, REGION, ROLES, ROOT, SAMPLE, Operator, only, resolve

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
OTHER_KEY, OTHER_ADDRESS = "11" * 32, "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """Answers each request with a function of its method, path, headers and body."""

    def handle_error(self, *_: object) -> None:
        """Silent: a stopped function breaks its connection."""

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
    """KMS (by the test) and Secrets Manager (moto), behind their own certificate authority."""

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
        self.ca_path, self.asked = folder / "ca.pem", []
        self.kms = f"https://localhost:{Server(self.encrypt, tls).server_port}"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [os.environ["MOTO_PYTHON"], "-B", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        command += ["-s", "-c", str(folder / "cert.pem"), "-k", str(folder / "key.pem")]
        environment = {"PATH": os.environ["PATH"], "MOTO_ACCOUNT_ID": ACCOUNT}
        self.moto = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.secrets = f"https://localhost:{port}"
        self.wait()

    def encrypt(self, _method: str, _path: str, headers: Any, body: bytes) -> Answer:
        """Returns a ciphertext that identifies its request."""
        request = json.loads(body)
        self.asked.append((headers["X-Amz-Target"].split(".")[-1], request))
        sealed = base64.b64encode(b"sealed %d" % len(self.asked)).decode()
        answer = {"KeyId": request["KeyId"], "CiphertextBlob": sealed}
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()

    def secrets_manager(self, verb: str, **request: Any) -> dict[str, Any]:
        """Calls moto as the account's owner."""
        scope = f"AKIATESTONLY/20200101/{REGION}/secretsmanager/aws4_request"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"secretsmanager.{verb}",
        }
        connection = http.client.HTTPSConnection(
            self.secrets.removeprefix("https://"), context=ssl.create_default_context(cafile=str(self.ca_path))
        )
        with closing(connection):
            connection.request("POST", "/", json.dumps(request), headers)
            return json.loads(connection.getresponse().read())

    def wait(self) -> None:
        for _ in range(300):
            try:
                self.secrets_manager("ListSecrets")
                return
            except OSError:
                if self.moto.poll() is not None:
                    break
                time.sleep(0.1)
        raise AssertionError("moto does not answer")

    def labels(self) -> dict[str, list[str]]:
        """The secret's versions by id."""
        versions = self.secrets_manager("DescribeSecret", SecretId=SAMPLE.secret_id).get("VersionIdsToStages", {})
        return {version: sorted(labels) for version, labels in versions.items()}

    def current(self) -> str:
        return self.secrets_manager("GetSecretValue", SecretId=SAMPLE.secret_id, VersionStage="AWSCURRENT")["SecretString"]


class Function(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.folder, self.archive_path = folder, Path(os.environ["LAMBDA_ZIP"])
        self.cloud, self.api = Cloud(folder), RuntimeApi()
        self.addCleanup(self.cloud.moto.wait)
        self.addCleanup(self.cloud.moto.kill)
        # Like the stack's: without a value.
        self.cloud.secrets_manager("CreateSecret", Name=SAMPLE.secret_id)

    def start(self, may_set_key: bool) -> None:
        """Runs the function with the variables of a stack with this setting."""
        (self.folder / "operator").mkdir()
        operator = Operator(self.folder / "operator")
        operator.settings = replace(operator.settings, may_set_key=may_set_key)
        if may_set_key:
            operator.allow("--encryptor", ROLES + SAMPLE.lambda_role, "--context", "purpose=ethereum-signer")
        template = operator.synthesize()["Enclave"]
        instance, _ = only(template, "AWS::EC2::Instance")
        # Without a listener.
        names = {f"{instance}.PrivateIp": "127.0.0.1:9"}
        self.variables = resolve(only(template, "AWS::Lambda::Function")[1]["Properties"]["Environment"]["Variables"], names)
        # unzip keeps modes, zipfile does not.
        subprocess.run(["python3", "-c", EXTRACT, self.archive_path, self.folder / "bootstrap"], check=True)
        environment = {
            **self.variables,
            **self.environment(),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server.server_port}",
        }
        self.child = subprocess.Popen([self.folder / "bootstrap"], env=environment, stderr=subprocess.DEVNULL)
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)

    def environment(self) -> dict[str, str]:
        """The variables for AWS's endpoints and credentials."""
        return {
            "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_SESSION_TOKEN": "a-session",
            "AWS_ENDPOINT_URL_KMS": self.cloud.kms,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.cloud.secrets,
            "AWS_CA_BUNDLE": str(self.cloud.ca_path),
        }

    def set_key(self, key: str, **more: str) -> tuple[str, Any]:
        return self.api.ask({"operation": "set_key", "eth_key": key, **more})

    def wallet(self, *words: str) -> str:
        """`wallet`, with the same AWS."""
        command = [ROOT / "target/release/wallet", *words, "--secret-id", SAMPLE.secret_id, "--region", REGION]
        command += ["--secrets-endpoint", self.cloud.secrets, "--aws-ca", str(self.cloud.ca_path)]
        return subprocess.run(command, env=self.environment(), check=True, capture_output=True, text=True).stdout

    def test_the_three_events_are_answered(self) -> None:
        self.start(may_set_key=True)
        path, answer = self.set_key(KEY)
        self.assertEqual((path, answer.get("address")), ("invocation/an-event/response", ADDRESS), answer)
        [(encrypt, request)] = self.cloud.asked
        self.assertEqual(encrypt, "Encrypt")
        self.assertEqual(request["KeyId"], self.variables["KEY_ARN"])
        self.assertEqual(request["EncryptionContext"], {"purpose": "ethereum-signer"})
        self.assertEqual(self.cloud.labels(), {answer["version_id"]: ["AWSCURRENT", f"address-{ADDRESS}"]})
        sealed = base64.b64encode(b"sealed 1").decode()
        self.assertEqual(self.api.ask({"operation": "get_key"}), ("invocation/an-event/response", sealed))
        path, answer = self.api.ask({"operation": "sign_transaction", "transaction_payload": {"nonce": 0}})
        self.assertEqual((path, answer["errorType"]), ("invocation/an-event/error", "EnclaveUnavailable"), answer)

    def test_a_key_is_replaced_by_its_name_alone_and_comes_back_with_the_documented_command(self) -> None:
        self.start(may_set_key=True)
        first = self.set_key(KEY)[1]["version_id"]
        for more in ({}, {"replace": OTHER_ADDRESS}):
            path, answer = self.set_key(OTHER_KEY, **more)
            self.assertEqual((path, answer["errorType"]), ("invocation/an-event/error", "KeyConflict"), answer)
            self.assertIn(f"it holds the key {ADDRESS}", answer["errorMessage"])
        self.assertEqual((len(self.cloud.asked), len(self.cloud.labels())), (1, 1))
        path, answer = self.set_key(OTHER_KEY, replace=ADDRESS)
        self.assertEqual((path, answer["replaced"]), ("invocation/an-event/response", ADDRESS), answer)
        path, answer = self.set_key(OTHER_KEY, replace=OTHER_ADDRESS)
        self.assertEqual(path, "invocation/an-event/response", answer)
        # No longer AWSCURRENT or AWSPREVIOUS, but still stored.
        self.assertEqual(self.cloud.labels()[first], [f"address-{ADDRESS}"])
        said = self.wallet("restore-key", "--key", ADDRESS, "--replace", OTHER_ADDRESS)
        self.assertIn(f"replaced: {OTHER_ADDRESS}; it stays", said)
        self.assertEqual(self.cloud.labels()[first], ["AWSCURRENT", f"address-{ADDRESS}"])
        sealed = base64.b64encode(b"sealed 1").decode()
        self.assertEqual((self.cloud.current(), self.wallet("get-key").strip()), (sealed, sealed))
        self.assertEqual(self.api.ask({"operation": "get_key"}), ("invocation/an-event/response", sealed))

    def test_a_function_of_the_sample_stores_no_key(self) -> None:
        self.start(may_set_key=False)
        path, answer = self.set_key(KEY)
        self.assertEqual((path, answer["errorType"]), ("invocation/an-event/error", "SetKeyOff"), answer)
        self.assertEqual((self.cloud.asked, self.cloud.labels()), ([], {}))


class Archive(unittest.TestCase):
    def test_the_archive_is_one_program_without_a_date(self) -> None:
        with zipfile.ZipFile(os.environ["LAMBDA_ZIP"]) as archive:
            [entry] = archive.infolist()
        mode = entry.external_attr >> 16
        self.assertEqual((entry.filename, mode, entry.date_time), ("bootstrap", 0o100755, (1980, 1, 1, 0, 0, 0)))


EXTRACT = """
import os, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
open(sys.argv[2], "wb").write(archive.read("bootstrap"))
os.chmod(sys.argv[2], archive.getinfo("bootstrap").external_attr >> 16)
"""
