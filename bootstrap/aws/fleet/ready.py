#!/usr/bin/python3
"""Answers the load balancer's health checks: whether this instance's enclave is ready, and the instance stays.

The enclave has TLS 1.3 alone, which a load balancer's health checks do not speak. The answer is about availability only: clients
verify the enclave themselves.

ENCLAVE_ADDRESS is its address and port. LEAVING_PATH exists once the instance is about to leave. PORT is for tests.
"""

# Amazon Linux has Python 3.9.
from __future__ import annotations

import http.server
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

# Less than the health check's own limit.
ASK_WITHIN_SECONDS = 4
SILENT_WITHIN_SECONDS = 5


class Server(http.server.ThreadingHTTPServer):
    """The port, and what is asked for it."""

    daemon_threads = True

    def __init__(self, port: int, url: str, leaving_path: Path) -> None:
        super().__init__(("", port), Handler)
        self.url, self.leaving_path = url, leaving_path
        # wg-server has verified the enclave.
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE

    def why_not(self) -> str | None:
        """Why the instance gets no new connections; `None` if it does."""
        if self.leaving_path.exists():
            return "the instance is leaving"
        try:
            urllib.request.urlopen(self.url, timeout=ASK_WITHIN_SECONDS, context=self.tls).close()  # noqa: S310
        except (OSError, urllib.error.URLError, ValueError) as error:
            return f"{self.url}: {error}"
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    """A request."""

    timeout = SILENT_WITHIN_SECONDS

    def do_GET(self) -> None:
        if self.path != "/ready":
            self.answer(404, "expected /ready")
            return
        reason = self.server.why_not()
        self.answer(503 if reason else 200, reason or "ready")

    def answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """None: there is a check every few seconds from each zone."""


if __name__ == "__main__":
    enclave, leaving_path = os.environ["ENCLAVE_ADDRESS"], Path(os.environ.get("LEAVING_PATH", "/run/fleet/leaving"))
    Server(int(os.environ.get("PORT", "8080")), f"https://{enclave}/ready", leaving_path).serve_forever()
