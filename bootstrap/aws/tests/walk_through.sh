#!/usr/bin/env bash
# Does what docs/aws.md says, in the lab: `make lab` first. What the commands write into the checkout goes into a layer over it,
# in memory, which is gone at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)

if [ "${1:-}" != --in-layer ]; then
    [ $# -eq 0 ] || {
        echo "usage: walk_through.sh" >&2
        exit 1
    }
    venv=$("$root/bootstrap/aws/venv.sh" | tail -n 1)
    work_dir=$(mktemp --directory)
    trap 'rm -rf "$work_dir"' EXIT
    mkdir "$work_dir/layer"
    export ENCLAVE_LAB_DIR=$work_dir/lab PATH=$venv/bin:$PATH
    as_root=(unshare --mount)
    [ "$(id -u)" -eq 0 ] || as_root+=(--user --map-root-user)
    "${as_root[@]}" "$0" --in-layer "$work_dir/layer" &
    walk=$!
    # Whoever ends this script ends the walk, which takes its lab down.
    trap 'kill "$walk"; wait "$walk"; exit 1' INT TERM
    wait "$walk"
    exit
fi

layer=$2
mount -t tmpfs -o size=4g tmpfs "$layer"
mkdir "$layer/changes" "$layer/work"
# User namespaces may have no other attributes.
mount -t overlay -o "userxattr,lowerdir=$root,upperdir=$layer/changes,workdir=$layer/work" overlay "$root"
cd "$root"
# What is built on Debian 13 runs in the lab's parent, and not on Amazon Linux; test.sh says so.
glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
[ "$(printf '%s\n' "$glibc" 2.38 | sort -V | head -n 1)" != 2.38 ] || export TARGET_GLIBC=$glibc
export PYTHONPATH=$root/bootstrap/aws/cdk:$here
exec python -B "$here/walk_through.py"
