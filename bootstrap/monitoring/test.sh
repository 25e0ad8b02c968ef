#!/usr/bin/env bash
# Tests config/monitoring: Prometheus accepts the rules, the sample of its configuration and the dashboard's queries; each alert
# fires for its fault and for no other; everything names metrics that exist.
#
#   test.sh
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
config=$root/config/monitoring
# shellcheck source-path=SCRIPTDIR source=../make/artefact.sh
. "$here/../make/artefact.sh"

main() {
    local prometheus venv
    prometheus=$("$here/environment.sh" | tail -n 1)
    venv=$("$here/../aws/venv.sh" | tail -n 1)
    artefact_scratch monitoring-tests

    phase "style of the Python files"
    "$venv/bin/ruff" check --quiet --no-cache "$here"
    "$venv/bin/ruff" format --quiet --no-cache --check "$here"

    phase "names, rows and places"
    python3 -B "$here/check_dashboard.py"

    phase "what Prometheus $(cat "$prometheus/version") accepts"
    check_configuration "$prometheus/bin/promtool"
    check_queries "$prometheus/bin/promtool"

    phase "a healthy fleet, and each alert's fault"
    mkdir "$work_dir/tests"
    python3 -B "$here/tests/generate.py" "$config/alerts.yml" "$work_dir/tests"
    printf '%s\n' "$work_dir"/tests/* >"$work_dir/files"
    run_logged xargs --arg-file "$work_dir/files" -n 1 -P 2 "$prometheus/bin/promtool" test rules
    phase "done"
}

# check_configuration PROMTOOL: it looks for the files that the configuration names, so they are in a copy.
check_configuration() {
    cp "$config/prometheus.yml" "$config/alerts.yml" "$work_dir"
    : >"$work_dir/client.pem"
    : >"$work_dir/client.key"
    sed -i "s#/etc/prometheus/#$work_dir/#" "$work_dir/prometheus.yml"
    run_logged "$1" check rules "$work_dir/alerts.yml"
    run_logged "$1" check config "$work_dir/prometheus.yml"
}

# check_queries PROMTOOL: as rules, because promtool of Debian 12 checks no other expressions.
check_queries() {
    python3 -B "$here/expressions.py" | {
        printf 'groups:\n  - name: dashboard\n    rules:\n'
        awk '{gsub(/\047/, "\047\047"); printf "      - {record: query_%d, expr: \047%s\047}\n", NR, $0}'
    } >"$work_dir/queries.yml"
    run_logged "$1" check rules "$work_dir/queries.yml"
}

main
