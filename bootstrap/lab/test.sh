#!/usr/bin/env bash
# The whole gate: static checks, unit tests, then the tests that need kernels, in the lab's VMs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bootstrap/lab/setup.sh
bootstrap/lab/check.sh
bootstrap/aws/test.sh
cargo test --locked --release --workspace
# One lab, or two cores are too few for the VMs.
cargo test --locked --release --workspace --test machines -- --test-threads=1
