#!/usr/bin/env bash
# Runs the CDK's command line on what config/aws.toml describes.
#
#   cdk.sh key ARGUMENTS...       the stack with the key, which nobody may use yet, the roles and the secret
#   cdk.sh enclave ARGUMENTS...   that stack with the key policy, and the stack with the instance and the function
#
# ARGUMENTS are the CDK's own: `deploy --all`, `diff`, `synth`, `bootstrap`, `destroy`. AWS_REGION and credentials are those of
# the environment. AWS_TOML names another file than config/aws.toml.
set -euo pipefail

# The command line that tests were made with; it has another version than the library.
readonly cli=aws-cdk@2.1148.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

case ${1:-} in
key | enclave) stage=$1 ;;
*)
    echo "usage: cdk.sh key|enclave ARGUMENTS OF cdk" >&2
    exit 1
    ;;
esac
shift
toml=$(realpath "${AWS_TOML:-$root/config/aws.toml}")
venv=$("$here/venv.sh" | tail -n 1)
export PATH=$venv/bin:$PATH
mkdir -p "$root/target"
cd "$root"
if [ "$stage ${1:-}" = "enclave deploy" ]; then
    python -B "$here/cdk/zone.py" "$toml"
fi
exec npx --yes "$cli" --app "$(printf '%q ' python -B "$here/cdk/app.py")" \
    --output "$root/target/cdk.out" --context "stage=$stage" --context "config=$toml" "$@"
