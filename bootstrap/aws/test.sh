#!/usr/bin/env bash
# Tests the deployment without AWS: the synthesized stacks, the packed function, the first boot, the units.
#
#   test.sh [ARGUMENTS OF unittest]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../../bootstrap/make/artefact.sh
. "$root/bootstrap/make/artefact.sh"

require_packages "$root/bootstrap/make/packages.txt" aws
require_packages "$root/bootstrap/make/packages.txt" aws-tests
venv=$("$here/venv.sh" | tail -n 1)
MOTO_PYTHON=$("$here/venv.sh" "$here/tests/moto-requirements.txt" | tail -n 1)/bin/python
LINTERS_PYTHON=$("$here/venv.sh" "$here/tests/linters-requirements.txt" | tail -n 1)/bin/python
export MOTO_PYTHON LINTERS_PYTHON

phase "style of the Python files"
"$venv/bin/ruff" check --quiet --no-cache "$here"
"$venv/bin/ruff" format --quiet --no-cache --check "$here"

export PATH=$venv/bin:$PATH
# From 2.38 on, its headers use symbols that Amazon Linux does not have.
host_glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if [ "$(printf '%s\n' "$host_glibc" 2.38 | sort -V | head -n 1)" = 2.38 ]; then
    phase "what is built here needs this host's glibc $host_glibc: for AWS, build on Debian 12; checked here is the rest"
    export TARGET_GLIBC=$host_glibc
fi
phase "the Lambda function"
export LAMBDA_ZIP=$root/target/lambda.zip
"$here/lambda.sh" "$LAMBDA_ZIP"
"$here/lambda.sh" "$root/target/lambda-again.zip" 2>/dev/null
cmp "$LAMBDA_ZIP" "$root/target/lambda-again.zip"
rm "$root/target/lambda-again.zip"

phase "stacks, first boot, function"
cd "$here/tests"
PYTHONPATH=$here/cdk:$here/tests "$venv/bin/python" -B -m unittest "${@:-discover}"
