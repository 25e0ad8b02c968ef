"""The first boot of an instance, in a folder in place of its disk. Commands of AWS and systemd only record their calls."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from image import kms
from operator_files import PCRS, ROOT, SAMPLE, Operator, only, resolve
from parent import allow_list

# CloudFormation's fields for a wait condition.
TOLD = {"Status", "Reason", "UniqueId", "Data"}
HANDLE = "https://cloudformation-waitcondition.example/?X-Amz-Signature=0&x=%2F"
NO_HUGEPAGES = " (the image is damaged, or there are no hugepages for it: journalctl --unit nitro-enclaves-allocator)"
WAY_OUT = "expected a subnet with a route to the internet, or the endpoints that config/aws.toml lists"
HEALTH = "https://203.0.113.2:443/health"
RECORDER = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
"""
# `start` of $BROKEN fails, of $LATE takes too long. After `start` of wg-server, it answers with $STATUS and looks up names
# unless $UNNAMED has a reason why not.
SYSTEMCTL = """
case $* in
"start ${LATE:-}") sleep 9 ;;
"start ${BROKEN:-}") exit 1 ;;
"start wg-server.service") echo "$WG_SERVER" >"$INSTALL_ROOT/usr/local/bin/wg-server" ;;
"show "*wg-server.service) echo "wg0 and its rules are there, waiting for named" ;;
esac
"""
WG_SERVER = """#!/bin/sh
case $1 in
lookup) [ -z "${UNNAMED:-}" ] || { echo "$UNNAMED" >&2; exit 1; } ;;
*) printf %s "$STATUS" ;;
esac
"""
# A wg-server that ends after it has looked up the names.
ENDING_WG_SERVER = WG_SERVER.replace("lookup)", 'lookup) touch "$0.ended";').replace("*)", '*) test -e "$0.ended" ||')
# Only the reason for the wait condition's handle is sent with PUT.
CURL = """
case $* in
*169.254.169.254/latest/api/token) echo a-token ;;
*"X-aws-ec2-metadata-token: a-token "*/instance-id) echo i-01234567 ;;
*" PUT "*) while [ "$1" != --data-binary ]; do shift; done; printf %s "$2" >"$CALLS.reason" ;;
*) [ -z "${MUTE:-}" ] || { echo "curl: (7) Failed to connect" >&2; exit 7; } ;;
esac
"""
# With --unit, the last line would be systemd's.
JOURNALCTL = """#!/bin/sh
case $* in
*" _SYSTEMD_UNIT="*.service) [ -z "$JOURNAL" ] || echo "$JOURNAL" ;;
*) echo "Failed to start" ;;
esac
"""
# aws s3 cp --no-progress s3://BUCKET/KEY FILE
AWS = """
case $1 in
s3) cp "$ASSETS/${4##*/}" "$5" ;;
*) [ -z "${DENIED:-}" ] || { echo "$DENIED" >&2; exit 254; } ;;
esac
"""
FAKES = {
    **dict.fromkeys(("useradd", "chown", "cfn-signal", "systemd-tmpfiles"), RECORDER),
    "timeout": '#!/bin/sh\n[ "$2" != "${STUCK:-}" ] || exit 124\nexec /usr/bin/timeout "$@"\n',
    "dnf": RECORDER + '[ -z "${OFFLINE:-}" ] || { echo "Error: cannot reach the mirror" >&2; exit 1; }\n',
    "systemctl": RECORDER + SYSTEMCTL,
    "journalctl": JOURNALCTL,
    "curl": RECORDER + CURL,
    "id": "#!/bin/sh\nexit 1\n",
    "aws": RECORDER + AWS,
    "nitro-cli": RECORDER + '[ -z "${NITRO_ERROR:-}" ] || { echo "$NITRO_ERROR" >&2; exit 35; }; echo "$DESCRIPTION"\n',
}


class FirstBoot(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("operator", "bin", "assets", "root"):
            (self.folder / name).mkdir()
        operator = Operator(self.folder / "operator")
        self.logical_id, self.script = self.first_boot(operator)
        outdir = self.folder / "operator/cdk.out"
        for file in json.loads((outdir / f"{SAMPLE.enclave_stack}.assets.json").read_text())["files"].values():
            [destination] = file["destinations"].values()
            shutil.copy(outdir / file["source"]["path"], self.folder / "assets" / destination["objectKey"])
        for name, text in FAKES.items():
            path = self.folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        self.root, self.calls_path = self.folder / "root", self.folder / "calls"

    def first_boot(self, operator: Operator) -> tuple[str, str]:
        """The resource that it signals, and its script."""
        logical_id, instance = only(operator.synthesize()["Enclave"], "AWS::EC2::Instance")
        return logical_id, resolve(instance["Properties"]["UserData"], {f"{logical_id}ReasonHandle": HANDLE})

    def boot(
        self, pcrs: list[str], is_peer: bool = True, problems: tuple[str, ...] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        measurements = {"HashAlgorithm": "Sha384 { ... }"} | {f"PCR{index}": pcr for index, pcr in enumerate(pcrs)}
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "INSTALL_ROOT": str(self.root),
            "CALLS": str(self.calls_path),
            "ASSETS": str(self.folder / "assets"),
            "DESCRIPTION": json.dumps({"Measurements": measurements}),
            "STATUS": json.dumps(
                {
                    "forwards": [{"port": 443, "to": "203.0.113.2:443", "is_peer": is_peer}],
                    "problems": problems,
                }
            ),
            "JOURNAL": "what the unit said last",
            "START_WITHIN": "2",
            "PEER_WITHIN": "1",
            "ANSWERS_WITHIN": "1",
            "NAMES_WITHIN": "1",
            "REASON_READ_WITHIN": "0",
            "USED_WITHIN": "0",
            "WG_SERVER": WG_SERVER,
            **more,
        }
        done = subprocess.run(["bash"], input=self.script, env=environment, check=False, capture_output=True, text=True)
        self.calls = self.calls_path.read_text().splitlines()
        status = f"--stack enclave-signer-enclave --resource {self.logical_id} --region eu-central-1"
        signal = self.calls.index(f"cfn-signal {status} --exit-code {done.returncode}")
        self.assertTrue(self.calls[signal - 1].endswith(HANDLE), self.calls[signal - 1])
        self.after = self.calls[signal + 1 :]
        told = json.loads(Path(f"{self.calls_path}.reason").read_text())
        self.reason = told["Reason"]
        self.assertEqual((told["Status"], set(told)), ("FAILURE" if done.returncode else "SUCCESS", TOLD))
        return done

    def refuse(self, pcrs: list[str] = PCRS, **more: Any) -> str:
        """The reason, which is the last line and is sent to CloudFormation."""
        done = self.boot(pcrs, **more)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.splitlines()[-1], f"user-data: failed with status 1: {self.reason}")
        return self.reason

    def started(self) -> list[str]:
        return [call for call in self.calls if call.startswith("systemctl") and " mask " not in call]

    def test_everything_is_in_its_place_and_started(self) -> None:
        done = self.boot(PCRS)
        self.assertEqual(done.returncode, 0, done.stderr)
        # Docker comes with the last of the packages, and may not start before it is masked.
        packages = "dnf install --assumeyes bind nftables aws-nitro-enclaves-cli"
        self.assertEqual(self.calls[:2], ["systemctl mask --now docker.service docker.socket", packages])
        wg = ["wg-server.service", "wg-metrics.service", "wg-logs.service"]
        units = ["nitro-enclaves-allocator.service", *wg, "enclave.service"]
        units.append("wg-watchdog.service")
        started = ["daemon-reload", f"enable {' '.join(units)}", *(f"start {unit}" for unit in units)]
        self.assertEqual(self.started(), [f"systemctl {words}" for words in started])
        self.assertTrue(self.calls[-4].endswith(HEALTH), self.calls[-4])
        self.assertEqual(self.after, [])
        self.assertEqual(self.reason, "the enclave is a peer, answers, and can look up names")
        modes = {str(path.relative_to(self.root)): path.stat().st_mode & 0o777 for path in self.root.rglob("*") if path.is_file()}
        self.assertEqual(
            modes,
            {
                "etc/enclave/enclave.env": 0o644,
                "etc/nitro_enclaves/allocator.yaml": 0o644,
                "etc/systemd/system/enclave.service": 0o644,
                "etc/systemd/system/instance-unhealthy.service": 0o644,
                "etc/systemd/system/wg-logs.service": 0o644,
                "etc/systemd/system/wg-metrics.service": 0o644,
                "etc/systemd/system/wg-named.service": 0o644,
                "etc/systemd/system/wg-server.service": 0o644,
                "etc/systemd/system/wg-watchdog.service": 0o644,
                "etc/wg-server/dns-allow-list.txt": 0o644,
                "etc/wg-server/measurements.json": 0o644,
                "etc/wg-server/parent.toml": 0o644,
                "etc/wg-server/private.key": 0o600,
                "usr/local/bin/instance-unhealthy": 0o755,
                "usr/local/bin/wg-server": 0o755,
                "usr/local/lib/enclave/enclave.eif": 0o644,
            },
        )
        self.assertIn(f"chown wg-server: {self.root}/etc/wg-server/private.key", self.calls)
        environment = (self.root / "etc/enclave/enclave.env").read_text()
        self.assertEqual(environment, "ENCLAVE_CPUS=2\nENCLAVE_MEMORY_MIB=512\nENCLAVE_CID=16\n")
        allocator = (self.root / "etc/nitro_enclaves/allocator.yaml").read_text()
        self.assertEqual(allocator, "---\nmemory_mib: 512\ncpu_count: 2\n")

    def test_the_enclave_may_look_up_the_hosts_for_its_key(self) -> None:
        self.boot(PCRS)
        listed = (self.root / "etc/wg-server/dns-allow-list.txt").read_text()
        sample = (ROOT / "config/parent/dns-allow-list.txt").read_text()
        self.assertTrue(listed.startswith(sample))
        for name in ("kms.eu-central-1.amazonaws.com", "secretsmanager.eu-central-1.amazonaws.com"):
            self.assertEqual(listed.splitlines().count(name), 1)

    def test_another_image_is_not_started(self) -> None:
        for index in range(3):
            reason = self.refuse([*PCRS[:index], "d" * 96, *PCRS[index + 1 :]])
            self.assertEqual(reason, f"install: enclave.eif: PCR{index} other than measurements.json and the key policy say")
            self.assertEqual(self.started(), [])

    def test_the_deployment_shows_why_a_first_boot_failed(self) -> None:
        said = "what the unit said last"
        late = f"wg-server.service: not ready after 2 s, wg0 and its rules are there, waiting for named; it said last: {said}"
        for more, reason in (
            ({"OFFLINE": "yes"}, "install packages: Error: cannot reach the mirror"),
            *(
                ({"BROKEN": f"{unit}.service"}, f"{unit}.service: {said} (journalctl --unit {unit}.service)")
                for unit in ("nitro-enclaves-allocator", "wg-server", "enclave")
            ),
            (
                {"BROKEN": "enclave.service", "JOURNAL": ""},
                "enclave.service: Failed to start (journalctl --unit enclave.service)",
            ),
            (
                {"LATE": "enclave.service"},
                f"enclave.service: not ready after 2 s; it said last: {said} (journalctl --unit enclave.service)",
            ),
            ({"LATE": "wg-server.service"}, f"{late} (journalctl --unit wg-server.service)"),
            (
                {"is_peer": False},
                "the enclave is not a peer after 1 s: no contact with wg-server (journalctl --unit enclave --unit wg-server)",
            ),
            (
                {"is_peer": False, "JOURNAL": "refused: PCR0"},
                "the enclave is not a peer after 1 s: refused: PCR0 (journalctl --unit enclave --unit wg-server)",
            ),
            (
                {"MUTE": "yes"},
                f"the enclave is a peer, but {HEALTH} does not answer after 1 s: curl: (7) Failed to connect",
            ),
            (
                {"UNNAMED": "kms: SERVFAIL: dns.forwarders do not answer"},
                "look up names for the enclave: kms: SERVFAIL: dns.forwarders do not answer",
            ),
            (
                {
                    "WG_SERVER": WG_SERVER.replace("lookup)", 'lookup) touch "$0.ended";').replace(
                        "*)", '*) test -e "$0.ended" ||'
                    )
                },
                "wg-server: wg-server status does not answer (wg-server status)",
            ),
            ({"STUCK": "dnf"}, f"dnf install: timed out after 300 s; {WAY_OUT}"),
            ({"STUCK": "aws"}, f"aws s3 cp: timed out after 300 s; {WAY_OUT}"),
            ({"problems": ("a chain drops", "another")}, "wg-server: a chain drops; another (wg-server status)"),
        ):
            with self.subTest(more):
                self.setUp()
                self.assertEqual(self.refuse(**more), reason)

    def test_an_error_of_nitro_cli_is_shown_with_its_remedy(self) -> None:
        # The format of nitro-cli: a number, the error, and where to find help. journald drops the empty lines.
        printed = """Start allocating memory...
[ {number} ] It did not go well.
More of it.

For more details, see https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#{number}

The log is "/var/log/nitro_enclaves/err.log"
"""
        unit = "enclave.service"
        for number, advice in (
            ("E22", " (less of enclave.cpus or enclave.memory_mib in config/aws.toml, or a larger instance.type)"),
            ("E26", " (more of enclave.memory_mib in config/aws.toml: four times the image)"),
            ("E27", " (less of enclave.cpus or enclave.memory_mib in config/aws.toml, or a larger instance.type)"),
            ("E36", " (run it with --debug-mode, and nitro-cli console shows why)"),
            ("E35", NO_HUGEPAGES),
            ("E05", ""),
        ):
            # The error of the enclave's process comes first, then the error that it has failed.
            second = f"{printed}\nFailed connections: 1\n{printed.format(number='E39')}"
            for said in (printed, printed.replace("\n\n", "\n"), second):
                with self.subTest(number):
                    self.setUp()
                    reason = self.refuse(BROKEN=unit, JOURNAL=said.format(number=number).strip())
                    error = f"[ {number} ] It did not go well. More of it.{advice}"
                    self.assertEqual(reason, f"{unit}: {error} (journalctl --unit {unit})")
        self.setUp()
        reason = self.refuse(NITRO_ERROR=printed.format(number="E35").strip())
        self.assertEqual(reason, f"nitro-cli describe-eif: [ E35 ] It did not go well. More of it.{NO_HUGEPAGES}")
        self.setUp()
        device = "[ E19 ] It cannot be opened.\nFile: '/dev/nitro_enclaves', failing operation: 'Open'."
        self.assertIn("'Open'. (has the instance EnclaveOptions?)", self.refuse(BROKEN=unit, JOURNAL=device))

    def test_files_changed_in_transit_are_not_installed(self) -> None:
        [path] = (self.folder / "assets").glob("*.tar")
        path.write_bytes(path.read_bytes().replace(b"[wireguard]", b"[wireguarx]"))
        done = self.boot(PCRS)
        self.assertIn("files.tar: FAILED", done.stdout + done.stderr)
        self.assertIn("fetch files: ", self.reason)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual((self.started(), list(self.root.iterdir())), ([], []))

    def test_systemd_accepts_the_units(self) -> None:
        self.boot(PCRS)
        programs = ("usr/bin/nitro-cli", "usr/bin/true", "usr/bin/kill", "usr/local/bin/wallet", "usr/bin/python3")
        for name in programs:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy("/bin/true", self.root / name)
        system = self.root / "etc/systemd/system"
        # A client's host has this one.
        shutil.copy(ROOT / "bootstrap/aws/systemd/wallet-proxy.service", system)
        (system / "nitro-enclaves-allocator.service").write_text("[Service]\nType=oneshot\nExecStart=/usr/bin/true\n")
        for name in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
            (system / f"{name}.target").write_text("[Unit]\nDescription=of the test\n")
        (system / "system.slice").write_text("[Unit]\nDescription=of the test\n")
        (system / "-.slice").write_text("[Unit]\nDescription=of the test\n")
        for unit in [path.stem for path in system.glob("*.service") if path.stem != "nitro-enclaves-allocator"]:
            command = ["systemd-analyze", "verify", "--man=no", f"--root={self.root}", f"{unit}.service"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), unit)

    def test_the_units_have_a_low_exposure_in_systemd_analyze(self) -> None:
        # RootDirectory, the host's network and the capabilities above are what is left of wg-server's.
        others = (("wallet-proxy", 15), ("wg-watchdog", 20), ("instance-unhealthy", 15), ("wg-metrics", 15), ("wg-logs", 15))
        for unit, tenths in (("wg-server", 20), ("wg-named", 20), ("enclave", 20), *others):
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}"]
            path = ROOT / f"bootstrap/aws/systemd/{unit}.service"
            done = subprocess.run([*command, str(path)], check=False, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)


class FleetBoot(FirstBoot):
    """An instance of a fleet: all of the above, and its place in the group."""

    UNITS = ("fleet-ready.service", "fleet-leave.service")

    def first_boot(self, operator: Operator) -> tuple[str, str]:
        operator.keep_ledger(instances=3)
        template = operator.synthesize()["Enclave"]
        handle, _ = only(template, "AWS::CloudFormation::WaitConditionHandle")
        launched = only(template, "AWS::EC2::LaunchTemplate")[1]["Properties"]["LaunchTemplateData"]
        return "Fleet", resolve(launched["UserData"], {handle: HANDLE})

    def completed(self, calls: list[str]) -> list[str]:
        """How the launch ended."""
        told = [call for call in calls if "complete-lifecycle-action" in call]
        hook = "--auto-scaling-group-name enclave-signer-fleet --lifecycle-hook-name launching --instance-id i-01234567"
        for call in told:
            self.assertTrue(call.startswith(f"aws autoscaling complete-lifecycle-action {hook} --lifecycle-action-result "), call)
        return [call.split()[-1] for call in told]

    def test_everything_is_in_its_place_and_started(self) -> None:
        done = self.boot(PCRS)
        self.assertEqual((done.returncode, self.after), (0, []), done.stderr)
        lib, etc = self.root / "usr/local/lib/fleet", self.root / "etc/fleet"
        self.assertEqual([(lib / name).stat().st_mode & 0o777 for name in ("ready.py", "leave.sh")], [0o755] * 2)
        told = "GROUP=enclave-signer-fleet\nAWS_DEFAULT_REGION=eu-central-1\nENCLAVE_ADDRESS=203.0.113.2:443\n"
        self.assertEqual((etc / "fleet.env").read_text(), told)
        for unit in self.UNITS:
            self.assertTrue((self.root / "etc/systemd/system" / unit).is_file())
            self.assertIn(f"systemctl start {unit}", self.calls)
        self.assertIn(f"systemctl enable {' '.join(self.UNITS)}", self.calls)

    def test_the_instance_joins_when_its_enclave_is_ready_and_signals_afterwards(self) -> None:
        self.boot(PCRS)
        self.assertEqual(self.completed(self.calls), ["CONTINUE"])
        starts = [index for index, call in enumerate(self.calls) if call.endswith(("https://203.0.113.2:443/ready", *self.UNITS))]
        [join] = [index for index, call in enumerate(self.calls) if "complete-lifecycle-action" in call]
        [signal] = [index for index, call in enumerate(self.calls) if call.startswith("cfn-signal")]
        self.assertEqual(len(starts), 4, self.calls)
        self.assertLess(max(starts), join)
        self.assertLess(join, signal)

    def test_the_deployment_shows_why_a_first_boot_failed(self) -> None:
        url = "https://203.0.113.2:443/ready"
        reason = f"the enclave is a peer, but {url} does not answer after 1 s: curl: (7) Failed to connect"
        for more, said in (
            ({"MUTE": "yes"}, reason),
            ({"problems": ("a chain drops",)}, "wg-server: a chain drops (wg-server status)"),
            ({"OFFLINE": "yes"}, "install packages: Error: cannot reach the mirror"),
            (
                {"BROKEN": "fleet-ready.service"},
                "fleet-ready.service: what the unit said last (journalctl --unit fleet-ready.service)",
            ),
        ):
            with self.subTest(more):
                self.setUp()
                self.assertEqual(self.refuse(**more), said)
                self.assertEqual((self.completed(self.calls), self.completed(self.after)), (["ABANDON"], ["ABANDON"]))

    def test_an_instance_that_may_not_join_fails(self) -> None:
        reason = self.refuse(DENIED="AccessDenied: not authorized to perform: autoscaling:CompleteLifecycleAction")
        self.assertEqual(
            reason, "join enclave-signer-fleet: AccessDenied: not authorized to perform: autoscaling:CompleteLifecycleAction"
        )

    def test_the_units_have_a_low_exposure_in_systemd_analyze(self) -> None:
        for unit, tenths in (("fleet-ready", 15), ("fleet-leave", 20)):
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}"]
            path = ROOT / f"bootstrap/aws/fleet/{unit}.service"
            done = subprocess.run([*command, str(path)], check=False, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)


class AllowList(unittest.TestCase):
    def written(self, text: str, config: str = "") -> list[str]:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "list").write_text(text)
        sample = (ROOT / "config/signer.toml").read_text().replace("[kms]\n", "[kms]\n" + config)
        *_, hosts = kms(Path("enclave.toml"), sample)
        return allow_list(folder / "list", hosts, folder).read_text().splitlines()

    def test_a_listed_name_is_not_added_again(self) -> None:
        kms_host, secrets_host = "kms.eu-central-1.amazonaws.com", "secretsmanager.eu-central-1.amazonaws.com"
        self.assertEqual(self.written("aws.com\n")[-2:], [kms_host, secrets_host])
        self.assertEqual(self.written(f"{kms_host}\n{secrets_host}"), [kms_host, secrets_host])
        self.assertEqual(self.written("KMS.eu-central-1.amazonaws.com\n")[-1], secrets_host)
        self.assertEqual(self.written("*.amazonaws.com\n"), ["*.amazonaws.com"])
        # A wildcard does not match the name itself.
        self.assertIn(kms_host, self.written(f"*.{kms_host}\n"))

    def test_an_endpoint_of_the_image_is_added_in_its_region_s_place(self) -> None:
        endpoint = "vpce-0123.kms.eu-central-1.vpce.amazonaws.com"
        self.assertIn(endpoint, self.written("", f'endpoint = "https://{endpoint}:443"\n'))

    def test_an_address_needs_no_name(self) -> None:
        secrets_host = "secretsmanager.eu-central-1.amazonaws.com"
        self.assertEqual(self.written("", 'endpoint = "https://198.51.100.90"\n')[-1], secrets_host)
        self.assertNotIn("198.51.100.90", self.written("", 'endpoint = "https://198.51.100.90"\n'))


class Units(unittest.TestCase):
    """The keys that something depends on."""

    def unit(self, name: str) -> dict[str, list[str]]:
        lines = (ROOT / f"bootstrap/aws/systemd/{name}.service").read_text().splitlines()
        found: dict[str, list[str]] = {}
        for key, _, value in (line.partition("=") for line in lines if "=" in line and not line.startswith("#")):
            found.setdefault(key, []).append(value)
        return found

    def test_wg_server_has_its_capabilities_and_sysctls(self) -> None:
        unit = self.unit("wg-server")
        self.assertEqual(unit["User"], ["wg-server"])
        for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
            self.assertEqual(unit[key], ["CAP_NET_ADMIN CAP_NET_BIND_SERVICE"])
        # named is another user, who has no business with the leases.
        self.assertEqual(unit["StateDirectoryMode"], ["0700"])
        self.assertEqual(unit["ReadWritePaths"], ["/proc/sys/net"])
        self.assertEqual((unit["Restart"], unit["StartLimitIntervalSec"]), (["always"], ["0"]))
        # A name server that does not come ends no tunnel, and keeps no enclave from booting.
        notify = (unit["Type"], unit["TimeoutStartSec"], unit["WatchdogSec"])
        self.assertEqual(notify, (["notify"], ["infinity"], ["300"]))
        self.assertEqual(self.unit("enclave")["After"], ["nitro-enclaves-allocator.service"])

    def test_the_watchdog_may_restart_units_and_reads_no_key(self) -> None:
        unit = self.unit("wg-watchdog")
        # systemd restarts units for root, and the status socket is wg-server's.
        self.assertEqual((unit["User"], unit["CapabilityBoundingSet"]), (["root"], ["CAP_DAC_OVERRIDE"]))
        self.assertEqual(unit["InaccessiblePaths"], ["-/etc/wg-server/private.key"])
        # What it did is not forgotten with its end: else it would restart the enclave for ever.
        self.assertEqual((unit["RuntimeDirectory"], unit["RuntimeDirectoryPreserve"]), (["wg-watchdog"], ["yes"]))
        [start] = unit["ExecStart"]
        self.assertIn("watch --config /etc/wg-server/parent.toml --unit enclave.service --cid ${ENCLAVE_CID}", start)
        for name in ("Requires", "PartOf", "BindsTo"):
            self.assertNotIn(name, unit)

    def test_the_enclave_has_one_cid_starts_again_and_ends(self) -> None:
        unit = self.unit("enclave")
        [start], [stop] = unit["ExecStart"], unit["ExecStop"]
        self.assertIn("run-enclave --enclave-name signer ", start)
        self.assertIn("--enclave-cid ${ENCLAVE_CID}", start)
        self.assertNotIn("debug", start)
        self.assertTrue(stop.endswith("terminate-enclave --enclave-name signer"), stop)
        self.assertEqual((unit["Type"], unit["Restart"], unit["StartLimitIntervalSec"]), (["forking"], ["always"], ["0"]))
        self.assertEqual((unit["User"], unit["Group"], unit["CapabilityBoundingSet"]), (["enclave"], ["ne"], [""]))
        self.assertEqual(unit["DeviceAllow"], ["/dev/nitro_enclaves rw"])
