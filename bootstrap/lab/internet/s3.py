#!/usr/bin/env python3
"""S3 of the lab's internet: moto's, and before it what S3 does and moto does not.

| what S3 does | moto |
|---|---|
| refuses a bucket that is not of the expected account | ignores the header |
| makes one of several conditional writes at the same moment succeed, and answers 409 to others | may let all succeed |
| refuses to shorten the retention of COMPLIANCE | shortens it |
| refuses retention that is over, signatures of another region, and clocks that differ by more than 15 minutes | takes them |
| lists versions in a time that depends on what is listed | copies all objects of the bucket each time |
| lists what comes after a key marker | leaves out the first of it |
| names the element of GetBucketVersioning as documented | names it otherwise |
| refuses what the role's policy does not allow | takes it, unless its IAM is switched on for everybody |

While the file of faults exists, requests fail as it says, a fault a line: `OPERATION FAULT [TIMES]`. The operations are those of S3's API.

| fault | what becomes of the request |
|---|---|
| `slow-down` | 503, not done |
| `hang` | not done, no answer for a minute |
| `lose-answer` | done, and the connection ends |
| `conflict` | 409, not done |
| `late` | done after three seconds, and answered then |
"""

import argparse
import datetime
import os
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode
from xml.etree import ElementTree

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.utils import _VersionedKeyStore
from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Request, Response

SKEW = datetime.timedelta(minutes=15)
SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/[0-9]{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
# What the instance's role may do, as in the stack.
ROLE_MAY = {
    "GetBucketVersioning",
    "GetObject",
    "GetObjectLockConfiguration",
    "HeadObject",
    "ListObjectVersions",
    "PutObject",
}
# The operations of a method, by a member of the query; the first that is there.
OPERATIONS = {
    "GET": [
        ("versioning", "GetBucketVersioning"),
        ("object-lock", "GetObjectLockConfiguration"),
        ("versions", "ListObjectVersions"),
        ("retention", "GetObjectRetention"),
        ("versionId", "GetObject"),
    ],
    "PUT": [
        ("versioning", "PutBucketVersioning"),
        ("object-lock", "PutObjectLockConfiguration"),
        ("retention", "PutObjectRetention"),
    ],
    "DELETE": [("versionId", "DeleteObjectVersion")],
}
# Without one of them.
OTHERS = {"GET": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject", "HEAD": "HeadObject"}


# Of each thread: the start of the names that are listed, and the name after which they come.
LISTED = threading.local()


def iterate(store):
    """The objects that are listed."""
    prefix, after = getattr(LISTED, "prefix", ""), getattr(LISTED, "after", "")
    # moto copies the store for each list, and looks up all of its objects.
    names = [name for name in list(store) if name.startswith(prefix) and name > after]
    return ((name, store.getlist(name)) for name in names)


_VersionedKeyStore.iterlists = iterate


class S3:
    """moto with S3's conditions."""

    def __init__(self, moto, account, region, role_key_id, fault_path=None, ahead=0):
        self.moto = moto
        # moto's dispatcher searches its own folders for each request.
        self.s3 = create_backend_app("s3")
        self.account = account
        self.region = region
        self.role_key_id = role_key_id
        self.fault_path = fault_path
        # Of this machine's clock, in seconds.
        self.ahead = datetime.timedelta(seconds=ahead)
        self.lock = threading.Lock()
        self.writing = set()
        self.faults_done = {}

    def __call__(self, environ, start_response):
        request = Request(environ)
        scope = SCOPE.search(request.headers.get("Authorization", ""))
        if scope is None or scope["service"] != "s3":
            return self.moto(environ, start_response)
        operation = operation_of(request)
        fault = self.fault(operation)
        answer = self.refusal(request, scope, operation) or self.broken(fault)
        if answer is not None:
            answer.date = self.now()
            return answer(environ, start_response)
        if fault == "late":
            time.sleep(3)
        LISTED.prefix = LISTED.after = ""
        if operation == "ListObjectVersions":
            environ = listed(request)
        answered = self.written(request) if operation == "PutObject" else Response.from_app(self.s3, environ)
        if operation == "GetBucketVersioning":
            answered.set_data(answered.get_data().replace(b"GetBucketVersioningResponse", b"VersioningConfiguration"))
        if fault == "lose-answer":
            raise ConnectionAbortedError("the answer is lost")
        answered.date = self.now()
        return answered(environ, start_response)

    def now(self):
        """The time here."""
        return datetime.datetime.now(datetime.UTC) + self.ahead

    def refusal(self, request, scope, operation):
        """What S3 refuses before it looks at the object."""
        date = datetime.datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        now = self.now()
        if abs(now - date) > SKEW:
            return error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
        if scope["region"] != self.region:
            text = f"The authorization header is malformed; the region '{scope['region']}' is wrong; expecting '{self.region}'"
            return error(400, "AuthorizationHeaderMalformed", text)
        expected = request.headers.get("X-Amz-Expected-Bucket-Owner")
        is_allowed = scope["key"] != self.role_key_id or operation in ROLE_MAY
        if (expected is not None and expected != self.account) or not is_allowed:
            return error(403, "AccessDenied", "Access Denied")
        until = request.headers.get("X-Amz-Object-Lock-Retain-Until-Date")
        if until is not None and time_of(until) <= now:
            return error(400, "InvalidArgument", "The retain until date must be in the future!")
        if operation == "PutObjectRetention":
            return self.shortened(request)
        return None

    def shortened(self, request):
        """Whether a retention of COMPLIANCE would end sooner."""
        url = f"/{request.path.lstrip('/')}?{urlencode({'versionId': request.args['versionId']})}"
        headers = {"Host": request.host, "Authorization": request.headers["Authorization"]}
        before = Client(self.s3).head(url, headers=headers).headers
        if before.get("x-amz-object-lock-mode") != "COMPLIANCE":
            return None
        body = request.get_data()
        until = text_of(body, "RetainUntilDate")
        is_longer = text_of(body, "Mode") == "COMPLIANCE" and until is not None
        if is_longer and time_of(until) >= time_of(before["x-amz-object-lock-retain-until-date"]):
            return None
        return error(403, "AccessDenied", "Access Denied because object protected by object lock.")

    def written(self, request):
        """A write; of those under a condition, one at a time for each name."""
        if request.headers.get("If-None-Match") != "*":
            return Response.from_app(self.s3, request.environ)
        with self.lock:
            if place_of(request) in self.writing:
                return conflict()
            self.writing.add(place_of(request))
        try:
            return Response.from_app(self.s3, request.environ)
        finally:
            with self.lock:
                self.writing.remove(place_of(request))

    def fault(self, operation):
        """The fault that this request is to meet."""
        try:
            with open(self.fault_path, encoding="ascii") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, TypeError):
            self.faults_done.clear()
            return None
        with self.lock:
            for line in lines:
                name, fault, *times = line.split()
                done = self.faults_done.get(line, 0)
                if name == operation and (not times or done < int(times[0])):
                    self.faults_done[line] = done + 1
                    return fault
        return None

    def broken(self, fault):
        """The answer of a request that is not done."""
        if fault == "hang":
            time.sleep(60)
        if fault in ("hang", "slow-down"):
            return error(503, "SlowDown", "Please reduce your request rate.")
        return conflict() if fault == "conflict" else None


def listed(request):
    """The request for moto, which is not told of a key marker without a version."""
    query = request.args.to_dict()
    LISTED.prefix = query.get("prefix", "")
    if "version-id-marker" in query:
        return request.environ
    LISTED.after = query.pop("key-marker", "")
    return {**request.environ, "QUERY_STRING": urlencode(query)}


def operation_of(request):
    """The operation's name in S3's API."""
    query = parse_qs(request.query_string.decode(), keep_blank_values=True)
    found = [operation for member, operation in OPERATIONS.get(request.method, []) if member in query]
    has_object = "/" in place_of(request).rstrip("/")
    if found:
        return found[0]
    return OTHERS.get(request.method, request.method) if has_object else f"{request.method.title()}Bucket"


def place_of(request):
    """The bucket and the object's name, of which the bucket may be in the host's name."""
    bucket, is_virtual, _ = request.host.partition(".s3.")
    path = request.path.lstrip("/")
    return f"{bucket}/{path}" if is_virtual else path


def conflict():
    """Another conditional request is under way."""
    text = "The conditional request cannot succeed due to a conflicting operation against this resource."
    return error(409, "ConditionalRequestConflict", text)


def error(status, code, text):
    """An error as S3 writes it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{text}</Message></Error>'
    return Response(body, status, mimetype="application/xml")


def text_of(body, name):
    """The text of an element, whatever its namespace."""
    found = [element.text for element in ElementTree.fromstring(body).iter() if element.tag.rpartition("}")[2] == name]
    return found[0] if found else None


def time_of(text):
    """A time in one of the forms that clients write."""
    return datetime.datetime.fromisoformat(text)


class Handler(BaseHTTPRequestHandler):
    """Connections stay open, as AWS's do: werkzeug's server closes each, and a handshake is most of the time of a request."""

    protocol_version = "HTTP/1.1"
    # Each answer at once.
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self):
        """Any request."""
        path, _, query = self.path.partition("?")
        base = f"https://{self.headers['Host']}"
        headers = [(name, value) for name, value in self.headers.items() if name.lower() != "transfer-encoding"]
        builder = EnvironBuilder(
            path=path, query_string=query, base_url=base, method=self.command, headers=headers, data=self.body()
        )
        try:
            answer = Response.from_app(self.server.application, {**builder.get_environ(), "RAW_URI": self.path}, buffered=True)
        except ConnectionAbortedError:
            self.close_connection = True
            return
        content = answer.get_data()
        self.send_response_only(answer.status_code)
        answer.headers.setdefault("Date", self.date_time_string())
        is_head = self.command == "HEAD"
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "server") and (is_head or name.lower() != "content-length"):
                self.send_header(name, value)
        if not is_head:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    def handle_expect_100(self):
        """Answers at once."""
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def body(self):
        """All of the request's content."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_arguments):
        """A line for each takes longer than many a request."""


class Server(ThreadingHTTPServer):
    """HTTPS, with an application of WSGI."""

    daemon_threads = True

    def __init__(self, address, application, context):
        super().__init__(address, Handler)
        self.application = application
        # Each connection's thread waits for its client's handshake.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request, client_address):
        """A client that has gone."""


def server(address, port, application, certificate):
    """A server with this certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return Server((address, port), application, context)


def warm_up(client, region):
    """Loads moto's S3, which takes seconds."""
    scope = f"TEST/20200101/{region}/s3/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    answer = client.get("/", headers={"Host": f"s3.{region}.amazonaws.com", **headers})
    if answer.status_code != 200:
        raise SystemExit(f"moto's S3: {answer.status}: {answer.text}")


def main():
    """S3 alone, on a port of loopback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--account", default="111122223333", help="of the buckets")
    parser.add_argument("--region", default="eu-central-1", help="of the buckets")
    parser.add_argument("--role-key-id", required=True, help="access key id of the role that may do little")
    parser.add_argument("--certificate", metavar="PATH", required=True)
    parser.add_argument("--key", metavar="PATH", required=True, help="private key of the certificate")
    parser.add_argument("--ahead", metavar="SECONDS", type=int, default=0, help="how much later it is here")
    parser.add_argument("--faults", metavar="PATH", help="the file of faults")
    options = parser.parse_args()
    os.environ["MOTO_ACCOUNT_ID"] = options.account
    moto = DomainDispatcherApplication(create_backend_app)
    warm_up(Client(moto), options.region)
    s3 = S3(moto, options.account, options.region, options.role_key_id, options.faults, options.ahead)
    on_loopback = server("127.0.0.1", 0, s3, (options.certificate, options.key))
    print(on_loopback.server_port, flush=True)
    on_loopback.serve_forever()


if __name__ == "__main__":
    main()
