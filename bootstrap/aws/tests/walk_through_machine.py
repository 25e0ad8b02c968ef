"""The lab's parent at its first boot, and those around it: an operator and a client in the lab's internet, and AWS there."""

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operator_files import REGION, ROLES, ROOT

LAB = ROOT / "target/release/lab"
LAB_DIR = Path(os.environ["ENCLAVE_LAB_DIR"])
# The parent's uplink, where the lab's internet reaches it.
ADDRESS = "198.51.100.2"
# Whom to believe in the lab's internet, and of the lab's enclaves.
WEB_CA = "/payload/web-ca.pem"
ROOT_CA = "/etc/wg-server/lab-root.pem"
KMS_CONFIG = "/run/lab/internet/kms.toml"
# More than any needs.
COMMAND_SECONDS = 120
SIGNAL = "/run/lab/cfn-signal"
# The role of the parent's instance, where no stack says which.
LAB_ROLE = f"{ROLES}default-role"

# `wallet` of a client that believes the lab's authorities in place of Amazon's.
WALLET = f"""#!/bin/sh
verb=$1
shift
case $verb in
set-key | restore-key) set -- "$@" --aws-ca {WEB_CA} ;;
verify | sign) set -- "$@" --root {ROOT_CA} ;;
esac
exec /payload/bin/wallet "$verb" "$@"
"""

# Carries connections from a port in the lab's internet to one that the parent reaches, until its standard input ends.
FORWARD = """
import os, socket, sys, threading

host, port, local_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
own = os.open("/proc/self/ns/net", os.O_RDONLY)
with open("/run/netns/internet") as internet:
    os.setns(internet.fileno(), os.CLONE_NEWNET)
listener = socket.create_server(("127.0.0.1", local_port))
os.setns(own, os.CLONE_NEWNET)
print("ready", flush=True)

def copy(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)

def serve():
    while True:
        client, _ = listener.accept()
        enclave = socket.create_connection((host, port))
        for ends in ((client, enclave), (enclave, client)):
            threading.Thread(target=copy, args=ends, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
"""

# Removes what user data leaves behind: a new instance does not have it.
CLEAR = f"""
systemctl disable --quiet --now wg-watchdog.service enclave.service wg-logs.service wg-metrics.service wg-server.service \
    nitro-enclaves-allocator.service
systemctl stop wg-named.service
userdel wg-named
userdel wg-server
userdel enclave
find /etc/wg-server -type f ! -path {ROOT_CA} -delete
rm -rf /etc/enclave /etc/nitro_enclaves /usr/local/bin/wg-server /usr/local/lib/enclave {SIGNAL} \
    /var/lib/wg-server /var/log/wg-server /etc/systemd/system/enclave.service /etc/systemd/system/wg-server.service \
    /etc/systemd/system/wg-named.service /etc/systemd/system/wg-watchdog.service /run/wg-watchdog \
    /etc/systemd/system/wg-logs.service /etc/systemd/system/wg-metrics.service \
    /etc/systemd/system/instance-unhealthy.service /usr/local/bin/instance-unhealthy
systemctl daemon-reload
"""


class WalkError(Exception):
    """A failed step, with the output."""


@dataclass(frozen=True)
class Identity:
    """An access key of a role. TEST ONLY: it opens nothing outside of the lab."""

    name: str
    role_arn: str

    @property
    def variables(self) -> dict[str, str]:
        """As AWS's tools read them."""
        return {
            "AWS_ACCESS_KEY_ID": f"ASIATESTONLY{self.name.upper():0<8}",
            "AWS_SECRET_ACCESS_KEY": f"TEST/ONLY/secret/of/the/{self.name}",
            "AWS_SESSION_TOKEN": f"TEST/ONLY/session/token/of/the/{self.name}",
        }

    @property
    def entry(self) -> str:
        """As the stand-in for KMS reads it."""
        names = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session_token"}
        lines = [f'{names[name]} = "{value}"' for name, value in self.variables.items()]
        return "\n".join(["[[access_keys]]", *lines, f'principal = "{self.role_arn}"', ""])


class Machine:
    """The parent's machine."""

    def __init__(self) -> None:
        self.boot = subprocess.Popen([LAB, "up", "--bare"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def web_ca_path(self) -> Path:
        """Of the authority that plays Amazon's: on this host, in the lab's folder."""
        return LAB_DIR / "web-ca.pem"

    def wait(self) -> None:
        """Until it is up."""
        said, _ = self.boot.communicate()
        if self.boot.returncode != 0:
            raise WalkError(f"lab up --bare: status {self.boot.returncode}\n{said}")

    def down(self) -> None:
        """Whatever state it is in."""
        self.boot.kill()
        self.boot.wait()
        subprocess.run([LAB, "down"], check=False, capture_output=True)

    def run(self, *words: str, data: bytes | None = None, seconds: int = COMMAND_SECONDS) -> str:
        """Runs a command on the parent with this standard input; returns its output."""
        stdin = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        command = [LAB, "exec", "parent", "--", *words]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=seconds, **stdin)
        except subprocess.TimeoutExpired as error:
            raise WalkError(f"{shlex.join(words)[:400]}: no end after {seconds} s") from error
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise WalkError(f"{shlex.join(words)[:400]}: status {done.returncode}\n{said}")
        return done.stdout.decode()

    def put(self, path: str, data: bytes | str, mode: str = "0644") -> None:
        """Writes a file of the parent's."""
        write = 'install -D --mode="$2" /dev/stdin "$1"'
        self.run("sh", "-c", write, "sh", path, mode, data=data.encode() if isinstance(data, str) else data)

    def shell(self, text: str, folder: str, identity: Identity, exported: dict[str, str]) -> str:
        """Runs a command line in the lab's internet with these variables."""
        variables = {
            **exported,
            "HOME": "/root",
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            **identity.variables,
        }
        words = [f"{name}={value}" for name, value in variables.items()]
        return self.run(
            "ip", "netns", "exec", "internet", "env", "-i", "-C", folder, *words, "bash", "-o", "pipefail", "-c", text
        )

    def start_forward(self, host: str, port: str, local_port: str) -> subprocess.Popen[str]:
        """Session Manager's port forwarding: ends when its standard input does."""
        words = ["exec", "parent", "--", "python3", "-c", FORWARD, host, port, local_port]
        process = subprocess.Popen([LAB, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout.readline() != "ready\n":
            raise WalkError("no session")
        return process

    def clear(self) -> None:
        """Makes it as a new instance is."""
        self.run("sh", "-e", "-c", CLEAR)

    def become_account(self, instance_role: str, identities: Sequence[Identity]) -> None:
        """Has the lab's AWS know the roles of the stacks in place of its own."""
        text = self.run("cat", KMS_CONFIG)
        if text.count(LAB_ROLE) != 1:
            raise WalkError(f"{KMS_CONFIG}: expected {LAB_ROLE} in it once\n{text}")
        text = text.replace(LAB_ROLE, instance_role)
        self.put(KMS_CONFIG, text + "\n" + "\n".join(each.entry for each in identities), "0600")
        self.run("sed", "-i", f"s|{LAB_ROLE}|{instance_role}|", "/etc/systemd/system/internet-aws.service")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "internet-kms", "internet-aws")
        self.wait_for_aws()

    def wait_for_aws(self) -> None:
        """Until its servers are there."""
        serves = """for address in 198.51.100.90 198.51.100.91; do
            for i in $(seq 240); do
                [ -z "$(ip netns exec internet ss -Hltn "src $address and sport = :443")" ] || continue 2
                sleep 0.25
            done
            exit 1
        done"""
        self.run("sh", "-c", serves)

    def set_key_policy(self, policy: dict[str, Any]) -> None:
        """What `PutKeyPolicy` does."""
        self.put("/run/lab/internet/key-policy.json", json.dumps(policy))
        self.run("/payload/bin/kms-stand-in", "check", "--config", KMS_CONFIG)
        self.run("systemctl", "restart", "internet-kms")
        self.wait_for_aws()

    def ask_aws(self, identity: Identity, service: str, *words: str, data: str | None = None) -> str:
        """A signed request to `https://SERVICE.REGION.amazonaws.com`, by curl's options."""
        variables = identity.variables
        user = f"{variables['AWS_ACCESS_KEY_ID']}:{variables['AWS_SECRET_ACCESS_KEY']}"
        sign = [
            "--aws-sigv4",
            f"aws:amz:{REGION}:{service}",
            "--user",
            user,
            "-H",
            f"X-Amz-Security-Token: {variables['AWS_SESSION_TOKEN']}",
        ]
        body = [] if data is None else ["--data-binary", data]
        curl = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", "--cacert", WEB_CA]
        return self.run("ip", "netns", "exec", "internet", *curl, *sign, *body, *words)

    def call_aws(self, identity: Identity, target: str, **request: Any) -> dict[str, Any]:
        """As [`ask_aws`], of a service that speaks JSON: `secretsmanager.CreateSecret`, `TrentService.GetKeyPolicy`."""
        service = {"secretsmanager": "secretsmanager", "TrentService": "kms"}[target.split(".", maxsplit=1)[0]]
        headers = ["-H", "Content-Type: application/x-amz-json-1.1", "-H", f"X-Amz-Target: {target}"]
        url = f"https://{service}.{REGION}.amazonaws.com/"
        return json.loads(self.ask_aws(identity, service, *headers, url, data=json.dumps(request)))

    def words(self) -> str:
        """The last output of the parent's units, for diagnosis."""
        with suppress(WalkError):
            log = "tail -n 30 /var/log/cloud-init-output.log; journalctl --no-pager -n 60 -u enclave -u wg-server -u internet-kms"
            console = LAB_DIR / "log/enclave-16.console"
            said = console.read_text(errors="replace")[-3000:] if console.is_file() else ""
            return self.run("sh", "-c", log) + said
        return ""
