#!/usr/bin/env bash
# Sets up an Amazon Linux 2023 instance as the parent of an enclave. Runs as root, once, at the first boot; cloud-init logs its
# output to /var/log/cloud-init-output.log. Succeeds when the enclave is a peer of wg-server, answers, and can look up names; else
# the last line is the reason.
#
# The CDK prepends its parameters as exported variables. None is secret:
#
#   STACK RESOURCE HANDLE                       the resource to signal, and the URL for the reason
#   AWS_DEFAULT_REGION BUCKET KEY SHA256        the tar archive with the files, and its hash
#   PCR0 HOSTS                                  the image, and the hosts that it needs for its key
#   ENCLAVE_CPUS ENCLAVE_MEMORY_MIB ENCLAVE_CID
#   GROUP ENCLAVE_ADDRESS                       of a fleet: its Auto Scaling group, and the enclave's address and port
#
# For tests: INSTALL_ROOT, a folder in place of /; START_WITHIN, PEER_WITHIN, ANSWERS_WITHIN, NAMES_WITHIN, REASON_READ_WITHIN and
# USED_WITHIN, time limits in seconds.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

root=${INSTALL_ROOT:-}
wg_server=$root/usr/local/bin/wg-server
say() { printf 'user-data: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# In seconds; the sum is below CloudFormation's limit. A unit's own limit is shorter, and nitro-cli's shorter still.
readonly fetch_within=300 start_within=${START_WITHIN:-180} peer_within=${PEER_WITHIN:-180} answers_within=${ANSWERS_WITHIN:-60}
# named gives up on its forwarders after 10 s.
readonly names_within=${NAMES_WITHIN:-60}

main() {
    work_dir=/nonexistent
    trap 'signal $?' EXIT
    work_dir=$(mktemp -d)
    set_up 2>&1 | tee "$work_dir/said"
}

set_up() {
    say "install packages"
    # nitro-cli's package depends on Docker, which makes the chain FORWARD drop the enclaves' packets once started.
    systemctl mask --now docker.service docker.socket
    timeout "$fetch_within" dnf install --assumeyes bind nftables aws-nitro-enclaves-cli || die_of_timeout $? "dnf install"
    # The package's rules for udev and systemd-tmpfiles otherwise apply at the next boot.
    [ ! -e "$root/dev/nitro_enclaves" ] || { chgrp ne "$root/dev/nitro_enclaves" && chmod 0660 "$root/dev/nitro_enclaves"; }
    systemd-tmpfiles --create --prefix=/run/nitro_enclaves
    say "fetch files"
    fetch
    say "install"
    install_wg_server
    install_enclave
    [ -z "${GROUP:-}" ] || install_fleet
    verify_image
    systemctl daemon-reload
    # They start at each boot, even if this one fails.
    systemctl enable nitro-enclaves-allocator.service wg-{server,metrics,logs}.service enclave.service wg-watchdog.service
    start nitro-enclaves-allocator.service
    start wg-server.service
    start wg-metrics.service
    start wg-logs.service
    start enclave.service
    await_peer
    await_answer
    await_names
    # Not before: until here, this script is the one to judge the enclave.
    start wg-watchdog.service
    await_no_problem
    [ -z "${GROUP:-}" ] || join
    say "the enclave is a peer, answers, and can look up names"
}

# die_of_timeout STATUS COMMAND: a command that failed has printed the reason.
die_of_timeout() {
    [ "$1" -ne 124 ] || die "$2: timed out after $fetch_within s; expected a subnet with a route to the internet, or the endpoints that config/aws.toml lists"
    exit "$1"
}

# signal STATUS: ends CloudFormation's wait; a status other than 0 fails the deployment.
signal() {
    local reason step last
    reason=$(tail -n 1 "$work_dir/said") || reason="nothing was done: no working folder"
    if [ "$1" -ne 0 ] && [ -e "$work_dir/said" ]; then
        # The message of a failed command does not name the step.
        step=$(grep '^user-data: ' "$work_dir/said" | tail -n 1) || step=
        last=${reason#user-data: }
        step=${step#user-data: }
        [ "$last" = "$step" ] || last="$step: $last"
        reason=$last
    fi
    reason=${reason#user-data: }
    rm -rf "$work_dir"
    # The stack's events outlive the instance. Only a wait condition's handle accepts a reason, and only the instance's own signal
    # counts when a newer Amazon Linux replaces it.
    give_reason "$1" "${reason:0:1000}" || say "the stack's events do not have the reason"
    PATH=$PATH:/opt/aws/bin cfn-signal --stack "$STACK" --resource "$RESOURCE" --region "$AWS_DEFAULT_REGION" --exit-code "$1" ||
        say "CloudFormation did not receive the signal"
    [ "$1" -eq 0 ] || [ -z "${GROUP:-}" ] || complete_launch ABANDON || say "Auto Scaling waits for this instance until its hook's limit"
    [ "$1" -eq 0 ] || say "failed with status $1: $reason"
}

# give_reason STATUS REASON: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-waitcondition.html
give_reason() {
    local body
    body=$(python3 - "$@" <<'END'
import json
import sys

status = "SUCCESS" if sys.argv[1] == "0" else "FAILURE"
print(json.dumps({"Status": status, "Reason": sys.argv[2], "UniqueId": "user-data", "Data": ""}))
END
    )
    curl --silent --show-error --fail --retry 3 --max-time 20 --request PUT --header Content-Type: --data-binary "$body" "$HANDLE" || return
    # CloudFormation must read it before the instance's own signal ends the deployment.
    [ "$1" -eq 0 ] || sleep "${REASON_READ_WITHIN:-30}"
}

# error_of: the error in a program's output. nitro-cli's errors have a number, and lines about support after it; a second error
# only reports that the enclave's process has failed. Other programs end with their error.
error_of() {
    local said
    said=$(awk '
        /^\[ E39 \]/ && error { goes_on = 0; next }
        /^\[ E[0-9][0-9] \]/ { error = $0; goes_on = 1; next }
        /^Failed connections/ { goes_on = 0; next }
        /^$/ || /https:/ { goes_on = 0 }
        goes_on { error = error " " $0 }
        { last = $0 }
        END { print error ? error : last }
    ')
    case $said in
    '[ E19 ]'*/dev/nitro_enclaves*) said+=" (has the instance EnclaveOptions?)" ;;
    '[ E35 ]'*) said+=" (the image is damaged, or there are no hugepages for it: journalctl --unit nitro-enclaves-allocator)" ;;
    '[ E22 ]'* | '[ E27 ]'*) said+=" (less of enclave.cpus or enclave.memory_mib in config/aws.toml, or a larger instance.type)" ;;
    '[ E26 ]'*) said+=" (more of enclave.memory_mib in config/aws.toml: four times the image)" ;;
    '[ E36 ]'* | '[ E39 ]'*) said+=" (run it with --debug-mode, and nitro-cli console shows why)" ;;
    esac
    printf '%s\n' "$said"
}

# said_by UNIT [OPTION...]: the output of its programs, without systemd's messages.
said_by() {
    local unit=$1
    shift
    journalctl --no-pager --quiet --output=cat "$@" "_SYSTEMD_UNIT=$unit"
}

# start UNIT: returns when the unit is ready.
start() {
    local status=0 why status_text
    say "start $1"
    timeout "$start_within" systemctl start "$1" || status=$?
    [ "$status" -ne 0 ] || return 0
    # Enough lines for two errors of nitro-cli and the lines after them.
    said_by "$1" --lines=60
    why=$(said_by "$1" --lines=60 | error_of)
    # If no program ran, systemd has the reason.
    why=${why:-$(journalctl --no-pager --quiet --output=cat --lines=1 --unit "$1")}
    if [ "$status" -eq 124 ]; then
        status_text=$(systemctl show --property=StatusText --value "$1")
        why="not ready after $start_within s${status_text:+, $status_text}; it said last: $why"
    fi
    die "$1: $why (journalctl --unit $1)"
}

# Waits until wg-server's status lists the enclave as a peer.
await_peer() {
    local end=$((SECONDS + peer_within))
    say "wait for the enclave to be a peer"
    until enclave=$(peer); do
        [ "$SECONDS" -lt "$end" ] || no_peer
        sleep 1
    done
}

no_peer() {
    local refused
    "$wg_server" status || true
    said_by enclave.service --lines=20
    refused=$(said_by wg-server.service | grep refused | tail -n 1) || refused=
    die "the enclave is not a peer after $peer_within s: ${refused:-no contact with wg-server} (journalctl --unit enclave --unit wg-server)"
}

# Prints its address and port, once it is a peer.
peer() {
    "$wg_server" status --json 2>/dev/null | python3 -c '
import json
import sys

status = json.load(sys.stdin)
peers = [forward["to"] for forward in status["forwards"] if forward["is_peer"] and forward["port"] == 443]
sys.exit(1) if not peers else print(peers[0])' 2>/dev/null
}

await_answer() {
    local end=$((SECONDS + answers_within)) said url=https://$enclave/${GROUP:+ready}
    [ -n "${GROUP:-}" ] || url+=health
    say "wait for the enclave to answer"
    # wg-server has verified its identity; this only checks that it serves.
    until said=$(curl --insecure --silent --show-error --fail --max-time 5 "$url" 2>&1); do
        [ "$SECONDS" -lt "$end" ] || die "the enclave is a peer, but $url does not answer after $answers_within s: $said"
        sleep 1
    done
}

# Without these names, the enclave gets no key.
await_names() {
    local end=$((SECONDS + names_within)) said names
    read -ra names <<<"$HOSTS"
    [ "${#names[@]}" -gt 0 ] || return 0
    say "look up $HOSTS"
    until said=$("$wg_server" lookup --config "$root/etc/wg-server/parent.toml" "${names[@]}" 2>&1); do
        [ "$SECONDS" -lt "$end" ] || die "look up names for the enclave: $(tail -n 1 <<<"$said")"
        sleep 1
    done
}

# Other problems of this host that wg-server reports and does not repair.
await_no_problem() {
    local end=$((SECONDS + names_within)) problem
    until problem=$(no_problem); do
        [ "$SECONDS" -lt "$end" ] || die "wg-server: ${problem:-wg-server status does not answer} (wg-server status)"
        sleep 1
    done
}

# Fails, and prints the problems, while there are any; also while the status is unknown.
no_problem() {
    "$wg_server" status --json 2>/dev/null | python3 -c '
import json
import sys

problems = json.load(sys.stdin)["problems"]
print("; ".join(problems))
sys.exit(1 if problems else 0)' 2>/dev/null
}

fetch() {
    timeout "$fetch_within" aws s3 cp --no-progress "s3://$BUCKET/$KEY" "$work_dir/files.tar" || die_of_timeout $? "aws s3 cp"
    printf '%s  %s\n' "$SHA256" "$work_dir/files.tar" | sha256sum --check --quiet
    tar --extract --file="$work_dir/files.tar" --directory="$work_dir" --no-same-owner
    rm "$work_dir/files.tar"
}

install_wg_server() {
    local etc=$root/etc/wg-server
    local user
    for user in wg-server wg-named; do
        id "$user" >/dev/null 2>&1 || useradd --system --no-create-home --shell /sbin/nologin "$user"
    done
    install -D --mode=0755 "$work_dir/wg-server" "$wg_server"
    install -d --mode=0755 "$etc"
    install --mode=0644 "$work_dir/parent.toml" "$work_dir/dns-allow-list.txt" "$work_dir/measurements.json" "$etc"
    if [ ! -e "$etc/private.key" ]; then
        "$wg_server" keygen "$etc/private.key"
        chown wg-server: "$etc/private.key"
    fi
    install -D --mode=0644 --target-directory="$root/etc/systemd/system" "$work_dir"/wg-{server,named,metrics,logs}.service
}

install_enclave() {
    # The package creates the group.
    id enclave >/dev/null 2>&1 || useradd --system --no-create-home --shell /sbin/nologin --gid ne enclave
    install -D --mode=0644 "$work_dir/enclave.eif" "$root/usr/local/lib/enclave/enclave.eif"
    install -d --mode=0755 "$root/etc/enclave" "$root/etc/nitro_enclaves"
    printf '%s=%s\n' ENCLAVE_CPUS "$ENCLAVE_CPUS" ENCLAVE_MEMORY_MIB "$ENCLAVE_MEMORY_MIB" ENCLAVE_CID "$ENCLAVE_CID" \
        >"$root/etc/enclave/enclave.env"
    # The resources that the allocator reserves for enclaves at boot.
    printf -- '---\nmemory_mib: %s\ncpu_count: %s\n' "$ENCLAVE_MEMORY_MIB" "$ENCLAVE_CPUS" \
        >"$root/etc/nitro_enclaves/allocator.yaml"
    install -D --mode=0755 "$work_dir/instance-unhealthy.sh" "$root/usr/local/bin/instance-unhealthy"
    install -D --mode=0644 --target-directory="$root/etc/systemd/system" \
        "$work_dir/enclave.service" "$work_dir/wg-watchdog.service" "$work_dir/instance-unhealthy.service"
}

install_fleet() {
    local lib=$root/usr/local/lib/fleet
    install -d --mode=0755 "$lib" "$root/etc/fleet"
    install --mode=0755 "$work_dir/ready.py" "$work_dir/leave.sh" "$lib"
    printf '%s=%s\n' GROUP "$GROUP" AWS_DEFAULT_REGION "$AWS_DEFAULT_REGION" ENCLAVE_ADDRESS "$ENCLAVE_ADDRESS" \
        >"$root/etc/fleet/fleet.env"
    install --mode=0644 --target-directory="$root/etc/systemd/system" "$work_dir"/fleet-{ready,leave}.service
}

# The load balancer sends clients here from now on. CloudFormation ends an old instance only afterwards.
join() {
    local said
    systemctl enable fleet-ready.service fleet-leave.service
    start fleet-ready.service
    start fleet-leave.service
    say "join $GROUP"
    said=$(complete_launch CONTINUE 2>&1) || die "join $GROUP: $said"
    sleep "${USED_WITHIN:-240}"
}

# complete_launch CONTINUE|ABANDON: ends Auto Scaling's wait for this instance.
complete_launch() {
    local metadata=http://169.254.169.254/latest token id
    token=$(curl --silent --show-error --fail --max-time 5 --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token") || return
    id=$(curl --silent --show-error --fail --max-time 5 --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/instance-id") || return
    aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$GROUP" --lifecycle-hook-name launching --instance-id "$id" \
        --lifecycle-action-result "$1"
}

# nitro-cli must measure the image that the key policy and wg-server expect. A replaced image would get no key anyway; this
# reports it before clients notice.
verify_image() {
    local description
    description=$(nitro-cli describe-eif --eif-path "$root/usr/local/lib/enclave/enclave.eif" 2>"$work_dir/nitro-cli") ||
        die "nitro-cli describe-eif: $(error_of <"$work_dir/nitro-cli")"
    python3 - "$description" "$root/etc/wg-server/measurements.json" "$PCR0" <<'END'
import json
import sys

found = json.loads(sys.argv[1])["Measurements"]
with open(sys.argv[2]) as file:
    expected = json.load(file)
wrong = [name for name in ("PCR0", "PCR1", "PCR2") if found[name].lower() != expected[name].lower()]
if expected["PCR0"].lower() != sys.argv[3] or wrong:
    sys.exit("enclave.eif: %s other than measurements.json and the key policy say" % ", ".join(wrong or ["PCR0"]))
END
    say "the image has PCR0 $PCR0"
}

main "$@"
