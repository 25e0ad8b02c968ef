#!/usr/bin/env bash
# The whole gate: static checks, unit tests, then the tests that need kernels, in the lab's VMs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bootstrap/lab/setup.sh --packages
# The CDK comes over the network, while the rest is built.
{ bootstrap/aws/venv.sh && bootstrap/aws/venv.sh "$PWD/bootstrap/aws/tests/moto-requirements.txt"; } >/dev/null &
venv=$!
bootstrap/lab/setup.sh
wait "$venv"
bootstrap/lab/check.sh
bootstrap/aws/test.sh
cargo test --locked --release --workspace
# One lab, or two cores are too few for the VMs.
cargo test --locked --release --workspace --test machines -- --test-threads=1
