#!/usr/bin/env bash
# Packs the wallet's Lambda function for provided.al2023, x86_64.
#
#   lambda.sh OUT.zip
#
# Reproducible: one entry, `bootstrap`, with a fixed time and mode.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

if [ $# -ne 1 ] || [[ $1 == -* ]]; then
    echo "usage: lambda.sh OUT.zip" >&2
    exit 1
fi
out=$(realpath --canonicalize-missing "$1")

cd "$root"
# Flags for this machine's processor do not suit Lambda's. A workspace build, so that all programs share their dependencies.
env --unset=RUSTFLAGS --unset=CARGO_BUILD_RUSTFLAGS --unset=CARGO_ENCODED_RUSTFLAGS \
    cargo build --locked --release --workspace --bin bootstrap --bin wallet --bin wg-server --target-dir "$root/target" >&2
"$here/glibc.sh" "$root/target/release/bootstrap"
mkdir -p "$(dirname "$out")"
python3 - "$root/target/release/bootstrap" "$out" <<'END'
import os
import sys
import zipfile

program, out = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
entry.create_system = 3  # Unix, where modes are
entry.external_attr = 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with open(program, "rb") as file, zipfile.ZipFile(out + ".new", "w") as archive:
    archive.writestr(entry, file.read(), compresslevel=9)
os.replace(out + ".new", out)
END
echo "$out: $(stat --format=%s "$out") bytes" >&2
