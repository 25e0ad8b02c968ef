#!/usr/bin/env bash
# Stops the lab and removes what a build left in the checkout. Kernels and QEMU stay in the cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ -x target/release/lab ]; then target/release/lab down; fi
cargo clean
