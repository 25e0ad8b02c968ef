#!/usr/bin/env bash
# Waits until Auto Scaling wants to end this instance. Then it stops new connections to the enclave, gives those under way the time
# to end, and lets Auto Scaling go on. fleet-leave.service runs it.
#
# GROUP is the Auto Scaling group, AWS_DEFAULT_REGION its region. For tests: IMDS, LEAVING_PATH, POLL_SECONDS.
set -euo pipefail

readonly imds=${IMDS:-http://169.254.169.254} leaving_path=${LEAVING_PATH:-/run/fleet/leaving}
# Twice what the function gives a request. The hook's own limit is longer.
readonly ends_within=60s

main() {
    rm -f "$leaving_path"
    until [ "$(ask autoscaling/target-lifecycle-state)" = Terminated ]; do
        sleep "${POLL_SECONDS:-5}"
    done
    echo "Auto Scaling ends this instance: no new connections, and $ends_within for those under way"
    # The load balancer stops to send clients here.
    touch "$leaving_path"
    # Idle connections may stay for ever. An instance that cannot drain ends all the same.
    wg-server drain --wait "$ends_within" || echo "wg-server drain: status $?; connections that are under way are cut"
    for _ in {1..10}; do
        if complete; then
            echo "drained"
            return
        fi
        sleep "${POLL_SECONDS:-5}"
    done
    echo "Auto Scaling does not know that the instance has drained: it goes on when the hook's time is over"
}

complete() {
    aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$GROUP" --lifecycle-hook-name terminating \
        --instance-id "$(ask instance-id)" --lifecycle-action-result CONTINUE
}

# ask WHAT: the instance's metadata; nothing if there is no answer.
ask() {
    local token
    token=$(curl --silent --fail --max-time 5 --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" \
        "$imds/latest/api/token") || return 0
    curl --silent --fail --max-time 5 --header "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/$1" || return 0
}

main
