"""Runs the packed function in the lab's internet, as Lambda does: gives it one event, prints what it reports as JSON."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

RUNTIME = "/2018-06-01/runtime/"


class RuntimeApi(BaseHTTPRequestHandler):
    """Lambda's, for one event: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    protocol_version = "HTTP/1.1"
    event = b""
    report: "tuple[str, object] | None" = None
    reported = threading.Event()

    def do_GET(self) -> None:
        if RuntimeApi.report is not None:
            # There is no second event: the function waits until it is stopped.
            threading.Event().wait()
        self.send_response(200)
        headers = {"Lambda-Runtime-Aws-Request-Id": "an-event", "Lambda-Runtime-Deadline-Ms": "9999999999999"}
        for name, value in {**headers, "Content-Length": str(len(self.event))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.event)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        RuntimeApi.report = (self.path.removeprefix(RUNTIME), json.loads(body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        RuntimeApi.reported.set()

    def log_message(self, *_: object) -> None:
        pass


def main(program: str, event: str) -> None:
    RuntimeApi.event = event.encode()
    server = HTTPServer(("127.0.0.1", 9001), RuntimeApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    function = subprocess.Popen([program], stdout=sys.stderr)
    try:
        if not RuntimeApi.reported.wait(60):
            sys.exit("the function reports nothing within a minute")
    finally:
        function.kill()
    print(json.dumps(RuntimeApi.report))


main(*sys.argv[1:])
