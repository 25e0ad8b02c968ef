"""What the ledger's test does on the parent: an administrator of the bucket, and clients that race.

It prints one line of JSON. TEST ONLY: the key id is nobody's.
"""

import asyncio
import json
import ssl
import sys

import boto3

ENDPOINT = "https://s3.eu-central-1.amazonaws.com"
CA_PATH = sys.argv[1]


def bucket(name):
    """Makes the ledger's bucket."""
    client().create_bucket(
        Bucket=name,
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        ObjectLockEnabledForBucket=True,
    )


def hide(name, key):
    """Puts a delete marker over an object."""
    client().delete_object(Bucket=name, Key=key)


def versions(name, key=""):
    """All versions of objects whose names start so."""
    found = client().get_paginator("list_object_versions").paginate(Bucket=name, Prefix=key)
    return [version for page in found for version in page.get("Versions", [])]


def records(name):
    """The content of each version, and how it is locked."""
    for version in versions(name):
        answer = client().get_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
        yield {"name": version["Key"], "lock": answer["ObjectLockMode"], "content": answer["Body"].read().decode()}


def put(name, key, content):
    """Writes another version."""
    client().put_object(Bucket=name, Key=key, Body=content.encode())


def copy(name, key, source):
    """Writes what another object has."""
    content = client().get_object(Bucket=name, Key=source)["Body"].read()
    client().put_object(Bucket=name, Key=key, Body=content)


def shorten(name, key):
    """Tries to end the retention of each version that an enclave has written; the errors."""
    for version in versions(name, key):
        place = {"Bucket": name, "Key": version["Key"], "VersionId": version["VersionId"]}
        for attempt in (
            lambda: client().put_object_retention(**place, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": "2026-01-01"}),
            lambda: client().delete_object(**place, BypassGovernanceRetention=True),
        ):
            try:
                attempt()
                yield "done"
            except client().exceptions.ClientError as error:
                yield error.response["Error"]["Code"]


def client():
    """Somebody who may do everything."""
    keys = {"aws_access_key_id": "AKIATESTONLYADMIN000", "aws_secret_access_key": "x"}
    return boto3.client("s3", endpoint_url=ENDPOINT, verify=CA_PATH, region_name="eu-central-1", **keys)


class Enclave:
    """A connection to a signer, which stays open. Whose it is, other tests verify."""

    def __init__(self, address):
        self.address = address
        self.streams = None

    async def sign(self, body):
        """The status and the answer."""
        if self.streams is None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.streams = await asyncio.open_connection(self.address, 443, ssl=context)
        reader, writer = self.streams
        text = json.dumps(body)
        writer.write(f"POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split(" ")[1]), json.loads(await reader.readexactly(length))


async def race(request, first, count, *addresses):
    """Asks each enclave at once for another payload of the same nonce; what was signed for each nonce."""
    enclaves = [Enclave(address) for address in addresses]
    outcomes = []
    for nonce in range(int(first), int(first) + int(count)):
        bodies = []
        for at in range(len(enclaves)):
            body = json.loads(request)
            body["transaction_payload"] |= {"nonce": nonce, "value": f"0.0{at + 1}"}
            bodies.append(body)
        outcomes.append(await asyncio.gather(*(answer(*pair) for pair in zip(enclaves, bodies, strict=True))))
    return outcomes


async def answer(enclave, body):
    """What was signed, or the code and the field that refused it. Where S3 takes more than two seconds, asks again."""
    for _ in range(5):
        status, said = await enclave.sign(body)
        if status == 200:
            return "signed " + said["transaction_hash"]
        error = {"field": "", **said["error"]}
        if error["code"] != "ledger_unavailable":
            break
    return "{code} {field}".format(**error)


def main():
    """One verb and its arguments."""
    verb, *arguments = sys.argv[2:]
    if verb == "race":
        said = asyncio.run(race(*arguments))
    else:
        said = {function.__name__: function for function in (bucket, copy, hide, put, records, shorten)}[verb](*arguments)
    print(json.dumps(said if said is None or isinstance(said, list) else list(said)))


main()
