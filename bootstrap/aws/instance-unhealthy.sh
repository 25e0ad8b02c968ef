#!/usr/bin/env bash
# Reports this instance to its Auto Scaling group as unhealthy, so that the group replaces it. wg-watchdog.service calls it, through
# instance-unhealthy.service, when restarts of the enclave do not help. The instance's role needs autoscaling:SetInstanceHealth.
# Without a group there is nothing to report to: the error says what to do, and the status is 0, because trying again is no use.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

readonly metadata=http://169.254.169.254/latest

# error TEXT: systemd reads the level.
error() { printf '<3>%s\n' "$*" >&2; }

# get PATH: one value of the metadata service, or nothing if it has none.
get() {
    local answer
    answer=$(curl --silent --show-error --max-time 10 --retry 2 --write-out '\n%{http_code}' \
        --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1")
    case ${answer##*$'\n'} in
    200) printf '%s' "${answer%$'\n'*}" ;;
    404) ;;
    *)
        error "$metadata/meta-data/$1: status ${answer##*$'\n'}, expected 200 or 404"
        return 1
        ;;
    esac
}

main() {
    local token id state region said
    token=$(curl --silent --show-error --fail --max-time 10 --retry 2 --request PUT \
        --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
    id=$(get instance-id)
    # Only instances of a group have it.
    state=$(get autoscaling/target-lifecycle-state)
    if [ -z "$state" ]; then
        error "the enclave does not work, and restarts do not help. ${id:-This instance} is in no Auto Scaling group that would" \
            "replace it: read \`wg-server status\` and \`journalctl -u enclave -u wg-watchdog\`, remove the cause, and run" \
            "\`systemctl restart enclave\`; or replace the instance"
        return
    fi
    region=$(get placement/region)
    if ! said=$(aws autoscaling set-instance-health --region "$region" --instance-id "$id" --health-status Unhealthy 2>&1); then
        error "aws autoscaling set-instance-health of $id: ${said##*$'\n'}; expected a role with autoscaling:SetInstanceHealth"
        return 1
    fi
    printf '%s is reported as unhealthy; its Auto Scaling group replaces it\n' "$id"
}

main "$@"
