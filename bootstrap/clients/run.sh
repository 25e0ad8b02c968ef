#!/usr/bin/env bash
# Runs clients against a signer and a chain, and says how long each took.
#
#   SIGNER_URL=http://127.0.0.1:8545 CHAIN_URL=http://127.0.0.1:8546 RECIPIENT=0x… FORBIDDEN=0x… run.sh [NAME...]
#
# NAME is web3py, ethers, viem, cast, hardhat, alloy or typed (types 3 and 4, by eth-account); without one, all run.
# SIGNER_URL is `wallet proxy` in front of an enclave, with the path of the chain; CHAIN_URL is a node. The signer lets
# its only account send to RECIPIENT, and not to FORBIDDEN. hardhat needs an account that has sent nothing before.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly all=(hardhat web3py ethers viem cast alloy typed)

: "${SIGNER_URL:?is not set, expected the URL of the proxy}" "${CHAIN_URL:?is not set, expected the URL of a node}"
: "${RECIPIENT:?is not set, expected an address}" "${FORBIDDEN:?is not set, expected an address}"

# client NAME
client() {
    case $1 in
        web3py | typed) python "$1.py" ;;
        ethers | viem | hardhat) node "$1.mjs" ;;
        cast) ./cast.sh ;;
        alloy) cargo run --locked --quiet --release --manifest-path "$here/alloy/Cargo.toml" ;;
        *) printf 'error: no client %s, expected one of %s\n' "$1" "${all[*]}" >&2 && return 1 ;;
    esac
}

names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
environment=$("$here/environment.sh" | tail -n 1)
# Node finds packages in the folders above a script.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$here"/*.mjs "$here"/*.js "$here"/*.py "$here"/*.sol "$here/cast.sh" "$environment/package.json" "$scratch"
ln -s "$environment/node_modules" "$scratch/node_modules"
cd "$scratch"
export PATH=$environment/bin:$PATH HARDHAT_DISABLE_TELEMETRY_PROMPT=true
for name in "${names[@]}"; do
    since=$SECONDS
    # Its own messages come with it.
    printf '%s:\n' "$name"
    client "$name" 2>&1 | sed 's/^/    /'
    printf '%s: %d s\n' "$name" $((SECONDS - since))
done
