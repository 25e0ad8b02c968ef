#!/usr/bin/env python3
"""AWS of the lab's internet, but for KMS: Secrets Manager, STS and S3 over HTTPS, and the instance's metadata. All are moto's;
s3.py stands before its S3.

moto's metadata service asks for no token, and its credentials have a form that AWS's never have. Here version 2 is the only one,
and the credentials are those that KMS's configuration has for the role.
"""

import argparse
import hmac
import json
import os
import secrets
import threading
import time
import tomllib

import s3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

REGION = "eu-central-1"
TOKEN_PATH = "/latest/api/token"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
# The lifetime of a real role's credentials.
LIFETIME_SECONDS = 6 * 60 * 60
MAX_TTL_SECONDS = 6 * 60 * 60


class Metadata:
    """The instance metadata service, version 2."""

    def __init__(self, moto, role, access_key):
        self.moto = moto
        self.role = role
        self.access_key = access_key
        self.token = secrets.token_urlsafe(40)

    def __call__(self, environ, start_response):
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request):
        if request.path == TOKEN_PATH:
            return self.hand_out_token(request)
        token = request.headers.get("X-aws-ec2-metadata-token", "")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return Response("", 401)
        if request.method != "GET":
            return Response("", 405)
        if request.path == ROLES_PATH:
            return Response(self.role, mimetype="text/plain")
        if request.path == ROLES_PATH + self.role:
            return Response(self.credentials(time.time()), mimetype="text/plain")
        return Response.from_app(self.moto, request.environ)

    def hand_out_token(self, request):
        if request.method != "PUT":
            return Response("", 405)
        ttl = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= MAX_TTL_SECONDS):
            return Response("", 400)
        return Response(self.token, mimetype="text/plain", headers={"X-aws-ec2-metadata-token-ttl-seconds": ttl})

    def credentials(self, now):
        def text(seconds):
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": text(now),
                "Type": "AWS-HMAC",
                "AccessKeyId": self.access_key["id"],
                "SecretAccessKey": self.access_key["secret"],
                "Token": self.access_key["session_token"],
                "Expiration": text(now + LIFETIME_SECONDS),
            }
        )


def main():
    options = parse_options()
    with open(options.kms_config, "rb") as file:
        access_keys = tomllib.load(file)["access_keys"]
    [access_key] = [key for key in access_keys if key["principal"] == options.role]
    account, role = options.role.split(":")[4], options.role.rsplit("/", 1)[1]
    # The same account as that of the KMS key.
    os.environ["MOTO_ACCOUNT_ID"] = account

    moto = DomainDispatcherApplication(create_backend_app)
    warm_up(moto)
    certificate = (options.certificate, options.key)
    aws = s3.S3(moto, account, REGION, access_key["id"], options.s3_faults)
    servers = [
        s3.server(options.https, 443, aws, certificate),
        make_server(options.metadata, 80, Metadata(moto, role, access_key), threaded=True),
    ]
    ended = threading.Semaphore(0)

    def serve(server):
        try:
            server.serve_forever()
        finally:
            ended.release()

    for server in servers:
        threading.Thread(target=serve, args=[server], daemon=True).start()
    print("serving", flush=True)
    ended.acquire()
    raise SystemExit("a server ended")


def warm_up(moto):
    """moto loads a service when it is first asked for: seconds that the enclave's deadlines do not have."""
    client = Client(moto)
    client.get("/latest/meta-data/placement/region")
    s3.warm_up(client, REGION)
    for service, target, body in [
        ("secretsmanager", {"X-Amz-Target": "secretsmanager.ListSecrets"}, "{}"),
        ("sts", {}, "Action=GetCallerIdentity&Version=2011-06-15"),
    ]:
        scope = f"AKIATESTONLY/20200101/{REGION}/{service}/aws4_request"
        kind = "application/x-amz-json-1.1" if target else "application/x-www-form-urlencoded"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0", **target}
        answer = client.post("/", data=body, content_type=kind, headers=headers)
        if answer.status_code != 200:
            raise SystemExit(f"moto's {service}: {answer.status}: {answer.text}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--https", metavar="ADDRESS", required=True, help="address of Secrets Manager, STS and S3, port 443")
    parser.add_argument("--certificate", metavar="PATH", required=True, help="their certificate")
    parser.add_argument("--key", metavar="PATH", required=True, help="private key of the certificate")
    parser.add_argument("--s3-faults", metavar="PATH", required=True, help="the file of S3's faults, see s3.py")
    parser.add_argument("--metadata", metavar="ADDRESS", required=True, help="address of the metadata service, port 80")
    parser.add_argument("--kms-config", metavar="PATH", required=True, help="configuration of kms-stand-in, for its access keys")
    parser.add_argument("--role", metavar="ARN", required=True, help="role of the instance")
    return parser.parse_args()


if __name__ == "__main__":
    main()
