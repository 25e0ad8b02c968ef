#!/usr/bin/env bash
# The gate: static checks, unit tests, and the tests in the lab's VMs. Ends with a table of its stages and their times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

table=
running= # the present stage, its start, and the processor time before it
since=0
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
    table+=$(printf '%-12s %4d:%02d %6d:%02d  %s' "$1" $(($2 / 60)) $(($2 % 60)) $(($3 / 60)) $(($3 % 60)) "${4:-}")$'\n'
}

# cpu_seconds PID: the processor time of the children that PID has waited for, and of theirs.
cpu_seconds() {
    local fields
    read -ra fields <"/proc/$1/stat"
    echo $(((fields[15] + fields[16]) / $(getconf CLK_TCK)))
}

print_table() {
    [ -z "$running" ] || end_stage failed
    add_row total "$SECONDS" "$(cpu_seconds $$)"
    printf '\n%-12s %7s %9s\n%s' stage time processor "$table" >&2
}
trap print_table EXIT

build() {
    # In parallel: they need the network, the other builds need the processors.
    python_environments >/dev/null &
    local environments=$!
    bootstrap/make/setup.sh
    wait "$environments"
}

# For the CDK and for bootstrap/aws/test.sh.
python_environments() {
    bootstrap/aws/venv.sh
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/moto-requirements.txt"
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/linters-requirements.txt"
}

stage packages bootstrap/make/setup.sh --packages
stage build build
stage check bootstrap/make/check.sh
stage aws bootstrap/aws/test.sh
stage unit-tests cargo test --locked --release --workspace
# One test at a time: two cores are too few for the VMs of two labs.
stage machines cargo test --locked --release --workspace --test machines -- --test-threads=1
stage aws.md bootstrap/aws/tests/walk_through.sh
