#!/usr/bin/env bash
# The whole gate: static checks, unit tests, then the tests that need kernels, in the lab's VMs.
# It ends with a table of its stages and their times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

table=
running= # the stage that runs, since when, and the processor time that was used before it
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
    # They come over the network, while the rest is built.
    python_environments >/dev/null &
    local environments=$!
    bootstrap/lab/setup.sh
    wait "$environments"
}

# The CDK, and what bootstrap/aws/test.sh runs beside it.
python_environments() {
    bootstrap/aws/venv.sh
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/moto-requirements.txt"
    bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/linters-requirements.txt"
}

stage packages bootstrap/lab/setup.sh --packages
stage build build
stage check bootstrap/lab/check.sh
stage aws bootstrap/aws/test.sh
stage unit-tests cargo test --locked --release --workspace
# One lab, or two cores are too few for the VMs.
stage machines cargo test --locked --release --workspace --test machines -- --test-threads=1
stage aws.md bootstrap/aws/tests/walk_through.sh
