#!/usr/bin/env bash
# Runs client.py with boto3, in a Python environment that is created once under target/.
#
#   run.sh VENVS_DIR [ARGUMENTS OF UNITTEST]
#
# client.py lists its environment variables.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venvs_dir=$1
shift

key=$({
  cat "$here/requirements.txt"
  python3 --version
} | sha256sum | cut -c1-16)
venv=$venvs_dir/boto3-$key

mkdir -p "$venvs_dir"
exec 9>"$venvs_dir/boto3.lock"
flock 9
if [ ! -e "$venv/complete" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$here/requirements.txt"
  touch "$venv/complete"
fi
flock --unlock 9

cd "$here"
exec "$venv/bin/python" -B -m unittest -v "$@" client
