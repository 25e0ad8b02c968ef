#!/usr/bin/env bash
# Prepares a fresh Debian 12 or 13 for the lab: packages, kernel, QEMU, parent, image, programs. Builds only what is
# missing. `setup.sh --packages` stops after the packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly rust_min=1.95

say() { printf '\033[1m==\033[0m %s\n' "$*" >&2; }

install_packages() {
    local missing=() package
    while read -r package; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done < <(sed -nE 's/^([a-z0-9][a-z0-9.+-]*).*/\1/p' bootstrap/make/packages.txt | sort -u)
    [ ${#missing[@]} -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "these Debian packages are missing; install them as root: apt-get install --no-install-recommends ${missing[*]}"
            return 1
        fi
        as_root=(sudo)
    fi
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

require_rust() {
    local have
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2) || have=
    if [ -z "$have" ] || [ "$(printf '%s\n' "$rust_min" "$have" | sort -V | head -n 1)" != "$rust_min" ]; then
        say "cargo $rust_min or newer is needed, found ${have:-none}: install rustup (Debian 13: apt-get install rustup), then: rustup toolchain install stable"
        return 1
    fi
}

install_packages
require_rust
[ "${1:-}" != --packages ] || exit 0

# In parallel: the parent's packages need the network, the other builds need the processors.
bootstrap/lab/parent/build.sh >/dev/null &
parent=$!
bootstrap/lab/qemu/build.sh >/dev/null
enclave-kernel/build.sh >/dev/null
wait "$parent"
say "building lab, eif, wg-server, wallet, kms-stand-in and nitro-cli"
# With --workspace, here and elsewhere, so that all builds share their dependencies.
cargo build --locked --release --workspace --bin lab --bin eif --bin wg-server --bin wallet --bin kms-stand-in --bin nitro-cli
# What the lab's enclaves boot. The lab makes an image of them, with keys of its own.
bootstrap/eif/image.sh --program orchestrator >/dev/null
bootstrap/eif/image.sh --program self-test >/dev/null
