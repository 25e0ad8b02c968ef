#!/usr/bin/env bash
# Prints the key policy for the image that is built, by the outputs of a deployment and the settings.
#
#   cdk.sh key deploy --outputs-file output.json
#   generate_key_policy.sh output.json [FLAGS OF wallet policy]
#
# From config/aws.toml (or AWS_TOML): the administrators, the image and the former one, and whether the function may encrypt. From
# the image's configuration: the encryption context. FLAGS are added: `--encryptor ARN` for who stores keys, unless the function does.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ $# -eq 0 ] || [[ $1 == -* ]]; then
    echo "usage: generate_key_policy.sh OUTPUTS [FLAGS OF wallet policy]" >&2
    exit 1
fi
words=$(python3 -B "$here/cdk/policy_flags.py" "${AWS_TOML:-$root/config/aws.toml}" "$1")
shift
mapfile -t flags <<<"$words"
exec "$root/target/release/wallet" policy "${flags[@]}" "$@"
