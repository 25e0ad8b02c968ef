"""Clients of signers that share a ledger, on the parent. They write JSON, a line each.

An endpoint is `ADDRESS`, or `NAMESPACE/ADDRESS`, which is connected to from that network namespace.
"""

import asyncio
import itertools
import json
import os
import socket
import ssl
import sys
import time

# For one attempt: an enclave that has ended answers nothing.
ATTEMPT_SECONDS = 10
# For a request with all its attempts.
PATIENCE_SECONDS = 90
PAUSE_SECONDS = 0.2
# Of one connection, as a client's pool closes its connections now and then.
REQUESTS = 4
# Nonces that are raced for at once.
IN_FLIGHT = 2
VALUES = ["0.01", "0.02"]


class Enclave:
    """A connection to a signer, which stays open. Whose it is, other tests verify."""

    def __init__(self, endpoint, most=None):
        self.endpoint = endpoint
        self.most = most
        self.asked = 0
        self.streams = None

    async def sign(self, body):
        """The status and the answer."""
        if self.streams is None:
            self.streams = await connect(self.endpoint)
        reader, writer = self.streams
        text = json.dumps(body)
        writer.write(f"POST / HTTP/1.1\r\nHost: signer\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        content = await reader.readexactly(length)
        self.asked += 1
        if self.asked == self.most or "connection: close" in head:
            self.close()
        return int(head.split(" ")[1]), json.loads(content)

    def close(self):
        """Ends the connection. The next request opens another."""
        if self.streams is not None:
            self.streams[1].transport.abort()
        self.asked, self.streams = 0, None


async def connect(endpoint):
    """The streams of a connection."""
    namespace, _, address = endpoint.rpartition("/")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket_in(namespace)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, 443))
        return await asyncio.open_connection(sock=connection, ssl=context, server_hostname=address)
    except BaseException:
        connection.close()
        raise


def socket_in(namespace):
    """A socket, which stays in the namespace in which it was made."""
    if not namespace:
        return socket.socket()
    with open("/proc/self/ns/net", "rb") as own, open(f"/run/netns/{namespace}", "rb") as other:
        os.setns(other.fileno(), os.CLONE_NEWNET)
        try:
            return socket.socket()
        finally:
            os.setns(own.fileno(), os.CLONE_NEWNET)


def body_of(request, nonce, value):
    """The request with this nonce and value."""
    body = json.loads(request)
    body["transaction_payload"] |= {"nonce": nonce, "value": value}
    return body


def outcome_of(status, said):
    """What was signed, or the code and the field that refused it."""
    if status == 200:
        return "signed " + said["transaction_hash"]
    return "{code} {field}".format(**{"field": "", **said["error"]})


async def race(request, first, count, *endpoints):
    """Asks each enclave at once for another payload of the same nonce; what came of each nonce."""
    nonces, outcomes = iter(range(int(first), int(first) + int(count))), {}

    async def racer():
        enclaves = [Enclave(endpoint) for endpoint in endpoints]
        for nonce in nonces:
            asked = zip(enclaves, VALUES, strict=True)
            outcomes[nonce] = await asyncio.gather(*(answer(it, body_of(request, nonce, value)) for it, value in asked))

    await asyncio.gather(*(racer() for _ in range(IN_FLIGHT)))
    say([outcomes[nonce] for nonce in sorted(outcomes)])


async def answer(enclave, body):
    """What came of a request. Where S3 takes more than two seconds, asks again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        outcome = outcome_of(*await enclave.sign(body))
        if not outcome.startswith("ledger_unavailable") or time.monotonic() > end:
            return outcome


async def load(request, first, *endpoints):
    """Signs until stdin ends: two clients that have nonces of their own, and a pair that asks for two payloads of each nonce."""
    nonces = itertools.count(int(first))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    said = 0

    async def ask(enclaves, at, nonce, value, kind):
        nonlocal said
        # How many outcomes there were when it began.
        outcome = {"kind": kind, "nonce": nonce, "value": value, "began": said}
        outcome |= await insist(enclaves, at, body_of(request, nonce, value))
        said += 1
        say(outcome)

    async def client(kind):
        pools = [[Enclave(endpoint, REQUESTS) for endpoint in endpoints] for _ in range(2 if kind == "race" else 1)]
        for turn in itertools.count():
            if ended.done():
                break
            nonce = next(nonces)
            asked = [ask(pool, turn + at, nonce, VALUES[at], kind) for at, pool in enumerate(pools)]
            await asyncio.gather(*asked)

    await asyncio.gather(*(client(kind) for kind in ["alone", "alone", "race"]))


async def insist(enclaves, first, body):
    """What came of a request that is repeated at the other endpoint if a connection fails or the status is 503."""
    failures = []
    end = time.monotonic() + PATIENCE_SECONDS
    for attempt in itertools.count(first):
        enclave = enclaves[attempt % len(enclaves)]
        try:
            status, said = await asyncio.wait_for(enclave.sign(body), ATTEMPT_SECONDS)
            outcome = outcome_of(status, said)
        except (OSError, EOFError, TimeoutError) as error:
            enclave.close()
            status, outcome = 503, type(error).__name__
        if status != 503 or time.monotonic() > end:
            return {"endpoint": enclave.endpoint, "outcome": outcome, "failures": failures}
        failures.append(outcome)
        await asyncio.sleep(PAUSE_SECONDS)


async def repeat(request, *endpoints):
    """Asks each enclave for each payload that stdin names: `NONCE VALUE`, a line each."""
    asked = [line.split() for line in sys.stdin.read().splitlines()]

    async def client(endpoint):
        enclave = [Enclave(endpoint)]
        for nonce, value in asked:
            outcome = await insist(enclave, 0, body_of(request, int(nonce), value))
            say({"kind": "repeat", "nonce": int(nonce), "value": value, "began": 0, **outcome})

    await asyncio.gather(*map(client, endpoints))


def say(what):
    """A line."""
    print(json.dumps(what), flush=True)


asyncio.run({function.__name__: function for function in (load, race, repeat)}[sys.argv[1]](*sys.argv[2:]))
