#!/usr/bin/env bash
# Everything that can be said about a change without running it. `--licences` adds cargo-deny (installed when missing).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bootstrap/lab/setup.sh --packages
cargo fmt --all --check
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard | while read -r file; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh\b'; then echo "$file"; fi
done)
shellcheck --external-sources "${scripts[@]}"
cargo clippy --locked --workspace --all-targets --test machines -- --deny warnings

if [ "${1:-}" = --licences ]; then
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny --locked check bans licenses sources
fi
