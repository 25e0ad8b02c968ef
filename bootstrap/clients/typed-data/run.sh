#!/usr/bin/env bash
# Compares the signer's signatures of random typed data with MetaMask's. Needs node and npm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

npm ci --ignore-scripts --no-audit --no-fund --silent
(cd ../../.. && cargo build --locked --release --workspace --example typed_data)
node compare.mjs "${CARGO_TARGET_DIR:-../../../target}/release/examples/typed_data" "$@"
