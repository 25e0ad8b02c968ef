#!/usr/bin/env bash
# The gate: static checks, unit tests, and the tests in the lab's VMs. Ends with a table of its stages and their times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

table=
running= # the present stage, its start, and the processor time before it
since=0
declare -A beside=() # processes that run beside the stages, by name, until they are waited for
declare -A logs=()
cpu_before=0

# stage NAME COMMAND ARGUMENTS: one row of the table.
stage() {
    running=$1
    since=$SECONDS
    cpu_before=$(cpu_seconds $$)
    shift
    "$@"
    end_stage
}

# end_stage [REMARK]
end_stage() {
    add_row "$running" $((SECONDS - since)) $(($(cpu_seconds $$) - cpu_before)) "${1:-}"
    running=
}

# add_row NAME SECONDS CPU_SECONDS [REMARK]
add_row() {
    table+=$(printf '%-13s %4d:%02d %6d:%02d  %s' "$1" $(($2 / 60)) $(($2 % 60)) $(($3 / 60)) $(($3 % 60)) "${4:-}")$'\n'
}

# cpu_seconds PID: the processor time of the children that PID has waited for, and of theirs.
cpu_seconds() {
    local fields
    read -ra fields <"/proc/$1/stat"
    echo $(((fields[15] + fields[16]) / $(getconf CLK_TCK)))
}

print_table() {
    # A stage before them failed.
    [ ${#beside[@]} -eq 0 ] || kill "${beside[@]}" 2>/dev/null || true
    [ -z "$running" ] || end_stage failed
    add_row total "$SECONDS" "$(cpu_seconds $$)"
    printf '\n%-13s %7s %9s\n%s' stage time processor "$table" >&2
}
trap print_table EXIT

build() {
    # In parallel: they need the network, the other builds need the processors.
    fetched_environments >/dev/null &
    local environments=$!
    bootstrap/make/setup.sh
    wait "$environments"
}

# For the CDK, for bootstrap/aws/test.sh, for the clients of the signer, and for the alerts.
fetched_environments() {
    bootstrap/aws/venv.sh
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/moto-requirements.txt"
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/linters-requirements.txt"
    bootstrap/clients/environment.sh
    bootstrap/monitoring/environment.sh
}

# start NAME COMMAND ARGUMENTS: begins what needs no machines. The tests in the machines wait for a third of their time; what runs
# beside them uses that time, with a lower priority.
start() {
    local name=$1
    shift
    logs[$name]=$(mktemp)
    nice "$@" >"${logs[$name]}" 2>&1 &
    beside[$name]=$!
}

# finish NAME: waits for it, and shows what it printed.
finish() {
    local status=0
    wait "${beside[$1]}" || status=$?
    unset "beside[$1]"
    cat "${logs[$1]}"
    rm -f "${logs[$1]}"
    return "$status"
}

stage packages bootstrap/make/setup.sh --packages
stage build build
stage check bootstrap/make/check.sh
stage compile-tests cargo test --locked --release --workspace --no-run
stage typed-data bootstrap/clients/typed-data/run.sh
stage monitoring bootstrap/monitoring/test.sh
stage debian-12 bootstrap/lab/debian-12/test.sh
start unit-tests cargo test --locked --release --workspace
start aws bootstrap/aws/test.sh
# One test at a time: two cores are too few for the VMs of two labs.
stage machines cargo test --locked --release --workspace --test machines -- --test-threads=1
stage unit-tests finish unit-tests
stage aws finish aws
stage aws.md bootstrap/aws/tests/walk_through.sh
