#!/usr/bin/env bash
# Runs the CDK's command line for the deployment in config/aws.toml.
#
#   cdk.sh key ARGUMENTS...       the stack with the key (which no one may use yet), the roles and the secret
#   cdk.sh enclave ARGUMENTS...   that stack with the key policy, and the stack with the instance and the function
#
# ARGUMENTS are the CDK's own: `deploy --all`, `diff`, `synth`, `bootstrap`, `destroy`. AWS_REGION and credentials are those of
# the environment. AWS_TOML replaces config/aws.toml. As in AWS's sample: CDK_DEPLOY_REGION is the region, CDK_DEPLOY_ACCOUNT the
# account that the credentials must be of, and CDK_PREFIX comes before `name` in config/aws.toml.
set -euo pipefail

# The tested version of the command line; the library's version differs.
readonly cli=aws-cdk@2.1148.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
readonly output=$root/target/cdk.out

# explain COMMAND: prints the remedy where the CDK's own message does not.
explain() {
    local said
    # The app reports errors in the settings itself, without AWS.
    if [ ! -e "$output/manifest.json" ] || ! command -v aws >/dev/null; then
        return
    fi
    if ! said=$(aws sts get-caller-identity 2>&1); then
        if [[ $said == *"specify a region"* ]]; then
            fail "cdk $1: no region is set; expected one, such as AWS_REGION=eu-central-1"
        fi
        # If STS does not answer, the CDK may have failed for another reason.
        if ! is_about_credentials "$said"; then
            return
        fi
        said=${said##*$'\n'}
        fail "cdk $1: aws sts get-caller-identity: ${said%.}; expected credentials that may deploy:" \
            "set AWS_PROFILE, or run aws sso login or aws configure"
    fi
    if [ "$1" != bootstrap ] && ! said=$(aws ssm get-parameter --name /cdk-bootstrap/hnb659fds/version 2>&1) &&
        [[ $said == *ParameterNotFound* ]]; then
        fail "cdk $1: this account and region have no CDK bootstrap stack; run bootstrap/aws/cdk.sh key bootstrap, once," \
            "then this again"
    fi
}

# Refuses credentials of another account than CDK_DEPLOY_ACCOUNT.
check_account() {
    local account
    [ -n "${CDK_DEPLOY_ACCOUNT:-}" ] || return 0
    account=$(aws sts get-caller-identity --query Account --output text) ||
        fail "CDK_DEPLOY_ACCOUNT is $CDK_DEPLOY_ACCOUNT, and the account of the credentials is not known, as it says above"
    [ "$account" = "$CDK_DEPLOY_ACCOUNT" ] ||
        fail "CDK_DEPLOY_ACCOUNT is $CDK_DEPLOY_ACCOUNT, and the credentials are of $account; expected credentials of that account"
}

# is_about_credentials WORDS: the messages of botocore's exceptions.py and tokens.py, and the error codes of STS. The word
# "credentials" alone proves nothing: it is also in a timeout of the address that hands them out.
is_about_credentials() {
    case $1 in
    *"nable to locate credentials"* | *"artial credentials found"* | *"refreshed credentials are still expired"* | \
        *"The config profile ("*") could not be found"* | \
        *"SSO session associated with this profile"* | *"Error loading SSO Token"* | *"Your session has expired"* | \
        *"oken has expired"* | *"oken for "*" does not exist"* | \
        *"(ExpiredToken"*")"* | *"(InvalidClientTokenId)"* | *"(UnrecognizedClientException)"* | *"(InvalidToken"*")"* | \
        *"(SignatureDoesNotMatch)"*) ;;
    *) return 1 ;;
    esac
}

fail() {
    echo "error: $*" >&2
    exit 1
}

case ${1:-} in
key | enclave) stage=$1 ;;
*)
    echo "usage: cdk.sh key|enclave ARGUMENTS OF cdk" >&2
    exit 1
    ;;
esac
shift
if [ -n "${CDK_DEPLOY_REGION:-}" ]; then
    [[ ${AWS_REGION:-$CDK_DEPLOY_REGION} == "$CDK_DEPLOY_REGION" ]] ||
        fail "CDK_DEPLOY_REGION is $CDK_DEPLOY_REGION, and AWS_REGION is $AWS_REGION; expected one of them, or the same region"
    export AWS_REGION=$CDK_DEPLOY_REGION AWS_DEFAULT_REGION=$CDK_DEPLOY_REGION
fi
toml=$(realpath "${AWS_TOML:-$root/config/aws.toml}")
venv=$("$here/venv.sh" | tail -n 1)
export PATH=$venv/bin:$PATH
mkdir -p "$root/target"
cd "$root"
case ${1:-} in
bootstrap | deploy | destroy) check_account ;;
esac
if [ "$stage ${1:-}" = "enclave deploy" ]; then
    python -B "$here/cdk/zone.py" "$toml"
fi
npx --yes "$cli" --version >/dev/null || fail "fetch $cli: npm cannot, as it says above; expected a registry that this host" \
    "reaches: npm config set registry URL, npm config set proxy URL"
rm -f "$output/manifest.json"
status=0
npx --yes "$cli" --app "$(printf '%q ' python -B "$here/cdk/app.py")" \
    --output "$output" --context "stage=$stage" --context "config=$toml" "$@" || status=$?
[ "$status" = 0 ] || explain "${1:-}"
exit "$status"
