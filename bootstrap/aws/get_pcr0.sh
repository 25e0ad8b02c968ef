#!/usr/bin/env bash
# Prints PCR0 of the image that is built, 96 hex digits.
#
#   get_pcr0.sh [INSTANCE] [MEASUREMENTS]    default: target/eif/measurements.json
#
# INSTANCE, such as i-0123456789abcdef0, is accepted for those who know AWS's sample, and not asked: what an instance says about its
# own enclave proves nothing, and a key policy is for the image that you built. `wallet verify` checks a running enclave.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[[ ${1:-} != i-* ]] || shift
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
    echo "usage: get_pcr0.sh [INSTANCE] [MEASUREMENTS]" >&2
    exit 1
fi
python3 - "${1:-$root/target/eif/measurements.json}" <<'END_OF_PROGRAM'
import json
import re
import sys

try:
    with open(sys.argv[1]) as file:
        pcr0 = json.load(file)["PCR0"]
except (OSError, ValueError, KeyError, TypeError) as error:
    sys.exit(f"error: {sys.argv[1]}: {error!r}; expected the output of `make eif`")
if not re.fullmatch("[0-9a-f]{96}", pcr0) or not pcr0.strip("0"):
    sys.exit(f"error: {sys.argv[1]}: PCR0 is {pcr0!r}; expected an image's measurement, 96 hex digits that are not all zero")
print(pcr0)
END_OF_PROGRAM
