#!/usr/bin/env bash
# Makes an Amazon Linux 2023 instance the parent of an enclave. Runs as root, once, at the first boot; cloud-init keeps what it says
# in /var/log/cloud-init-output.log.
#
# The CDK puts its parameters before it, as exported variables. None is a secret:
#
#   STACK RESOURCE                              whom CloudFormation waits for
#   AWS_DEFAULT_REGION BUCKET                   where the files are
#   FILES                                       a line per file: NAME SHA256 KEY
#   PCR0                                        the image that may run
#   ENCLAVE_CPUS ENCLAVE_MEMORY_MIB ENCLAVE_CID
#
# INSTALL_ROOT is for tests: a folder in place of /.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

root=${INSTALL_ROOT:-}
say() { printf 'user-data: %s\n' "$*" >&2; }

main() {
    trap 'signal $?' EXIT
    work_dir=$(mktemp -d)
    say "install packages"
    dnf install --assumeyes bind nftables aws-nitro-enclaves-cli
    say "fetch files"
    fetch
    install_wg_server
    install_enclave
    verify_image
    say "start"
    systemctl daemon-reload
    systemctl enable --now nitro-enclaves-allocator.service wg-server.service enclave.service
    say "done"
}

# signal STATUS: CloudFormation waits for it, and fails the deployment when it is not 0.
signal() {
    rm -rf "${work_dir-}"
    [ "$1" -eq 0 ] || say "went wrong, status $1"
    PATH=$PATH:/opt/aws/bin cfn-signal --stack "$STACK" --resource "$RESOURCE" --region "$AWS_DEFAULT_REGION" --exit-code "$1" ||
        say "CloudFormation could not be told"
}

fetch() {
    local name sha256 key
    while read -r name sha256 key; do
        aws s3 cp --no-progress "s3://$BUCKET/$key" "$work_dir/$name" </dev/null
        printf '%s  %s\n' "$sha256" "$work_dir/$name" | sha256sum --check --quiet
    done <<<"$FILES"
}

install_wg_server() {
    local etc=$root/etc/wg-server
    id wg-server >/dev/null 2>&1 || useradd --system --no-create-home --shell /sbin/nologin wg-server
    install -D --mode=0755 "$work_dir/wg-server" "$root/usr/local/bin/wg-server"
    install -d --mode=0755 "$etc"
    install --mode=0644 "$work_dir/parent.toml" "$work_dir/dns-allow-list.txt" "$work_dir/measurements.json" "$etc"
    if [ ! -e "$etc/private.key" ]; then
        "$root/usr/local/bin/wg-server" keygen "$etc/private.key"
        chown wg-server: "$etc/private.key"
    fi
    install -D --mode=0644 "$work_dir/wg-server.service" "$root/etc/systemd/system/wg-server.service"
}

install_enclave() {
    # The group is the package's.
    id enclave >/dev/null 2>&1 || useradd --system --no-create-home --shell /sbin/nologin --gid ne enclave
    install -D --mode=0644 "$work_dir/enclave.eif" "$root/usr/local/lib/enclave/enclave.eif"
    install -d --mode=0755 "$root/etc/enclave" "$root/etc/nitro_enclaves"
    printf '%s=%s\n' ENCLAVE_CPUS "$ENCLAVE_CPUS" ENCLAVE_MEMORY_MIB "$ENCLAVE_MEMORY_MIB" ENCLAVE_CID "$ENCLAVE_CID" \
        >"$root/etc/enclave/enclave.env"
    # What is set aside for enclaves at boot.
    printf -- '---\nmemory_mib: %s\ncpu_count: %s\n' "$ENCLAVE_MEMORY_MIB" "$ENCLAVE_CPUS" \
        >"$root/etc/nitro_enclaves/allocator.yaml"
    install -D --mode=0644 "$work_dir/enclave.service" "$root/etc/systemd/system/enclave.service"
}

# What nitro-cli measures has to be what the key policy and wg-server ask for. An image that was exchanged would get no key anyway;
# this says so before clients do.
verify_image() {
    local description
    description=$(nitro-cli describe-eif --eif-path "$root/usr/local/lib/enclave/enclave.eif")
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
