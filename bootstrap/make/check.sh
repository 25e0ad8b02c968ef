#!/usr/bin/env bash
# The static checks of a change. `--licences` adds cargo-deny (installed when missing).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# features EDGES: every package that these edges lead to, with its features.
features() {
    cargo tree --locked --workspace --edges "$1" --prefix none --no-dedupe --format '{p} [{f}]' | sort -u
}

# A feature that only tests enable makes `cargo test` compile its package, and all that need it, a second time.
check_features() {
    local programs tests different
    programs=$(features normal,build)
    tests=$(features normal,build,dev)
    # Ours have features for tests that no program may have.
    different=$(comm -23 <(echo "$programs") <(echo "$tests") | sed '/ (\//d')
    [ -z "$different" ] || {
        printf 'error: the dependencies of tests enable more features of these packages; expected the same, see the end of [dependencies] in bootstrap/lab/Cargo.toml\n%s\n' "$different" >&2
        return 1
    }
}

bootstrap/make/setup.sh --packages
cargo fmt --all --check
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard | while read -r file; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh\b'; then echo "$file"; fi
done)
shellcheck --external-sources "${scripts[@]}"
check_features
# With --release, what builds and expands code is shared with the programs.
cargo clippy --locked --release --workspace --all-targets --test machines -- --deny warnings

if [ "${1:-}" = --licences ]; then
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny --locked check bans licenses sources
fi
