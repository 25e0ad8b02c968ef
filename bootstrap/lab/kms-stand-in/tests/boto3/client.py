"""boto3 against the stand-in for KMS.

The test that runs this starts a server and sets:

    KMS_URL                 its address
    KMS_CA_PATH             the certificate to trust
    KMS_DIR                 document.cbor, an enclave's attestation document; stranger.cbor, one under another root;
                            other-image.cbor, another enclave's; recipient.pem, the private key of all three
    KMS_FAULT_PATH          the file that sets faults
    ATTESTED_KEY, OPEN_KEY, DISABLED_KEY
                            ARNs: for the enclave alone, for every caller, for none
"""

import json
import os
import subprocess
import unittest
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

DIR = Path(os.environ["KMS_DIR"])
FAULT_PATH = Path(os.environ["KMS_FAULT_PATH"])
ATTESTED = os.environ["ATTESTED_KEY"]
OPEN = os.environ["OPEN_KEY"]
DISABLED = os.environ["DISABLED_KEY"]
CONTEXT = {"purpose": "signing", "ключ": "значение"}
SECRET = b"TEST ONLY secret"


def client(access_key="AKIATESTONLY", secret="TEST ONLY secret", token=None, region="eu-central-1", attempts=1):
    return boto3.client(
        "kms",
        endpoint_url=os.environ["KMS_URL"],
        verify=os.environ["KMS_CA_PATH"],
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=2),
    )


def recipient(name="document.cbor"):
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": (DIR / name).read_bytes()}


def opened(cms):
    """What OpenSSL finds in it."""
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", str(DIR / "recipient.pem")]
    return subprocess.run(command, input=cms, check=True, capture_output=True).stdout


class Kms(unittest.TestCase):
    def setUp(self):
        self.kms = client()
        self.addCleanup(FAULT_PATH.unlink, missing_ok=True)

    def encrypted(self, key, plaintext=SECRET):
        return self.kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=CONTEXT)["CiphertextBlob"]

    def decrypt(self, key, blob, **more):
        return self.kms.decrypt(KeyId=key, CiphertextBlob=blob, EncryptionContext=CONTEXT, **more)

    def refused(self, exception, call, **parameters):
        with self.assertRaises(exception) as caught:
            call(**parameters)
        response = caught.exception.response
        self.assertIn("Message", response["Error"])
        self.assertRegex(response["ResponseMetadata"]["RequestId"], "^[0-9a-f-]{36}$")
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

    def test_what_was_encrypted_is_decrypted(self):
        answer = self.decrypt(OPEN, self.encrypted(OPEN))
        self.assertEqual((answer["Plaintext"], answer["KeyId"]), (SECRET, OPEN))
        self.assertEqual(answer["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT")

    def test_an_enclave_s_answer_opens_with_its_key(self):
        for plaintext in [SECRET, b"1", b"=" * 16, os.urandom(4096)]:
            answer = self.decrypt(ATTESTED, self.encrypted(ATTESTED, plaintext), Recipient=recipient())
            self.assertEqual(opened(answer["CiphertextForRecipient"]), plaintext)
            self.assertEqual(answer["KeyId"], ATTESTED)
            self.assertNotIn("Plaintext", answer)

    def test_without_a_document_the_policy_s_condition_is_not_met(self):
        blob = self.encrypted(ATTESTED)
        code = self.refused(ClientError, self.decrypt, key=ATTESTED, blob=blob)
        self.assertEqual(code, ("AccessDeniedException", 400))

    def test_another_image_is_refused(self):
        blob = self.encrypted(ATTESTED)
        code = self.refused(ClientError, self.decrypt, key=ATTESTED, blob=blob, Recipient=recipient("other-image.cbor"))
        self.assertEqual(code, ("AccessDeniedException", 400))

    def test_another_root_s_document_is_refused(self):
        blob = self.encrypted(ATTESTED)
        code = self.refused(ClientError, self.decrypt, key=ATTESTED, blob=blob, Recipient=recipient("stranger.cbor"))
        self.assertEqual(code, ("ValidationException", 400))

    def test_an_enclave_s_data_key_opens_with_its_key(self):
        answer = self.kms.generate_data_key(KeyId=ATTESTED, KeySpec="AES_256", Recipient=recipient())
        again = self.kms.decrypt(KeyId=ATTESTED, CiphertextBlob=answer["CiphertextBlob"], Recipient=recipient())
        self.assertEqual(opened(answer["CiphertextForRecipient"]), opened(again["CiphertextForRecipient"]))
        self.assertNotIn("Plaintext", answer)

    def test_random_bytes_are_for_the_enclave_too(self):
        self.assertEqual(len(self.kms.generate_random(NumberOfBytes=32)["Plaintext"]), 32)
        answer = self.kms.generate_random(NumberOfBytes=32, Recipient=recipient())
        self.assertEqual(len(opened(answer["CiphertextForRecipient"])), 32)
        self.assertNotIn("Plaintext", answer)

    def test_a_key_is_described(self):
        metadata = self.kms.describe_key(KeyId="alias/open")["KeyMetadata"]
        self.assertEqual((metadata["Arn"], metadata["KeyState"], metadata["Enabled"]), (OPEN, "Enabled", True))

    def test_a_key_s_policy_and_its_grants_are_read(self):
        answer = self.kms.get_key_policy(KeyId=OPEN)
        self.assertEqual(answer["PolicyName"], "default")
        self.assertEqual(json.loads(answer["Policy"])["Version"], "2012-10-17")
        self.assertEqual(self.kms.get_paginator("list_grants").paginate(KeyId=OPEN).build_full_result()["Grants"], [])

    def test_errors_have_the_names_of_kms(self):
        exceptions = self.kms.exceptions
        blob = self.encrypted(OPEN)
        refused = self.refused
        refused(exceptions.DisabledException, self.decrypt, key=DISABLED, blob=blob)
        refused(exceptions.IncorrectKeyException, self.decrypt, key=ATTESTED, blob=blob, Recipient=recipient())
        refused(exceptions.NotFoundException, self.decrypt, key="alias/none", blob=blob)
        refused(exceptions.InvalidCiphertextException, self.decrypt, key=OPEN, blob=b"no ciphertext")
        refused(exceptions.InvalidCiphertextException, self.kms.decrypt, KeyId=OPEN, CiphertextBlob=blob)
        code = refused(ClientError, self.kms.generate_data_key, KeyId=OPEN)
        self.assertEqual(code, ("ValidationException", 400))
        self.assertEqual(refused(ClientError, self.kms.create_key), ("UnsupportedOperationException", 400))

    def test_who_signs_wrongly_is_refused(self):
        for wrong, code in [
            ({"access_key": "AKIAOTHER"}, "UnrecognizedClientException"),
            ({"secret": "other"}, "InvalidSignatureException"),
            ({"region": "us-east-1"}, "InvalidSignatureException"),
            ({"token": "token"}, "UnrecognizedClientException"),
            ({"access_key": "ASIAEXPIRED", "token": "TEST ONLY token"}, "ExpiredTokenException"),
        ]:
            with self.subTest(code=code):
                refused = self.refused(ClientError, client(**wrong).describe_key, KeyId=OPEN)
                self.assertEqual(refused, (code, 400))

    def test_a_session_signs_with_its_token(self):
        session = client(access_key="ASIASESSION", token="TEST ONLY token")
        self.assertEqual(session.describe_key(KeyId=OPEN)["KeyMetadata"]["Arn"], OPEN)

    def test_throttling_and_broken_servers_pass_when_tried_again(self):
        for fault, code, status in [
            ("throttling", "ThrottlingException", 400),
            ("internal-error", "KMSInternalException", 500),
        ]:
            FAULT_PATH.write_text(f'fault = "{fault}"\n')
            self.assertEqual(self.refused(ClientError, self.kms.describe_key, KeyId=OPEN), (code, status))
            FAULT_PATH.write_text(f'fault = "{fault}"\ntimes = 1\n')
            answer = client(attempts=2).describe_key(KeyId=OPEN)
            self.assertEqual(answer["ResponseMetadata"]["RetryAttempts"], 1)

    def test_a_server_that_stalls_is_waited_for_in_vain(self):
        FAULT_PATH.write_text('fault = "stall"\n')
        with self.assertRaises(ReadTimeoutError):
            self.kms.describe_key(KeyId=OPEN)

    def test_a_server_that_hangs_up_is_a_closed_connection(self):
        FAULT_PATH.write_text('fault = "hang-up"\n')
        with self.assertRaises(ConnectionClosedError):
            self.kms.describe_key(KeyId=OPEN)

    def test_what_is_too_long_is_not_read(self):
        code = self.refused(ClientError, self.kms.encrypt, KeyId=OPEN, Plaintext=b"x" * 60_000)
        self.assertEqual(code, ("RequestEntityTooLargeException", 413))

    def test_plaintext_and_another_key_id_come_on_command(self):
        blob = self.encrypted(ATTESTED)
        FAULT_PATH.write_text('fault = "plaintext"\noperation = "Decrypt"\n')
        answer = self.decrypt(ATTESTED, blob, Recipient=recipient())
        self.assertEqual((answer["Plaintext"], opened(answer["CiphertextForRecipient"])), (SECRET, SECRET))
        FAULT_PATH.write_text('fault = "wrong-key-id"\n')
        self.assertNotEqual(self.decrypt(ATTESTED, blob, Recipient=recipient())["KeyId"], ATTESTED)


if __name__ == "__main__":
    unittest.main()
