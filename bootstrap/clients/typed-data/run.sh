#!/usr/bin/env bash
# Compares the signer's signatures of 200 random typed data (EIP-712) with those of MetaMask's library.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

environment=$(../environment.sh | tail -n 1)
(cd ../../.. && cargo build --locked --quiet --release --workspace --example typed_data)
program=$(realpath "${CARGO_TARGET_DIR:-../../../target}/release/examples/typed_data")
# Node finds packages in the folders above a script.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp ./*.mjs "$environment/package.json" "$scratch"
ln -s "$environment/node_modules" "$scratch/node_modules"
PATH=$environment/bin:$PATH node "$scratch/compare.mjs" "$program" "$@"
