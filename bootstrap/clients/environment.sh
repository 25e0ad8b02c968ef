#!/usr/bin/env bash
# Builds (or finds) what the clients run in: Python with web3.py, and Node with ethers, viem, hardhat, MetaMask's eth-sig-util, anvil and cast. The last line of
# stdout is its folder; `python`, `node`, `anvil` and `cast` are in its bin/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../bootstrap/make/artefact.sh
. "$here/../../bootstrap/make/artefact.sh"

main() {
    local python
    python=$("$here/../aws/venv.sh" "$here/requirements.txt" | tail -n 1)
    artefact_begin clients "$here/environment.sh" "$here/requirements.txt" "$here/package.json" "$here/package-lock.json"
    if artefact_is_cached; then
        artefact_print
        return
    fi
    artefact_lock
    phase "fetch what $here/package.json lists (a minute, once); the log is $log_path"
    cp "$here/package.json" "$here/package-lock.json" "$out_dir"
    # Their own scripts are not needed: what is installed is complete.
    (cd "$out_dir" && PATH=$python/bin:$PATH run_logged npm ci --ignore-scripts --no-audit --no-fund)
    mkdir "$out_dir/bin"
    # Not a link: Python finds its packages by the path that it is called by.
    printf '#!/bin/sh\nexec %q "$@"\n' "$python/bin/python" >"$out_dir/bin/python"
    chmod +x "$out_dir/bin/python"
    ln -s "$python/bin/node" "$out_dir/bin/node"
    ln -s ../node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil ../node_modules/@foundry-rs/cast-linux-amd64/bin/cast \
        "$out_dir/bin"
    for program in "python --version" "node --version" "anvil --version" "cast --version"; do
        # shellcheck disable=SC2086 # A program and its argument.
        PATH=$out_dir/bin run_logged $program
    done
    artefact_publish
}

main
