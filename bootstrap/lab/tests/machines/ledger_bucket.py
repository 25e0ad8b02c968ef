"""An administrator of a ledger's bucket, in the lab's internet.

It prints one line of JSON. TEST ONLY: the key id is nobody's.
"""

import json
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


def main():
    """One verb and its arguments."""
    verb, *arguments = sys.argv[2:]
    said = {function.__name__: function for function in (bucket, copy, hide, put, records, shorten)}[verb](*arguments)
    print(json.dumps(said if said is None or isinstance(said, list) else list(said)))


main()
