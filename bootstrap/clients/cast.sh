#!/usr/bin/env bash
# Foundry's cast.
set -euo pipefail

account=$(cast rpc --rpc-url "$SIGNER_URL" eth_accounts | tr -d '[]"')
echo "account $account"

raw=$(cast mktx --ethsign --from "$account" --rpc-url "$SIGNER_URL" --value 0.001ether "$RECIPIENT")
cast publish --rpc-url "$CHAIN_URL" "$raw" >/dev/null
echo "mktx --ethsign: $raw"

sent=$(cast send --unlocked --from "$account" --rpc-url "$SIGNER_URL" --value 0.001ether "$RECIPIENT" --json)
[[ $sent == *'"status":"0x1"'* ]] || { echo "expected a receipt with status 1: $sent" >&2; exit 1; }
echo "send --unlocked: $(grep -o '"transactionHash":"[^"]*"' <<<"$sent" | cut -d'"' -f4)"

if refusal=$(cast send --unlocked --from "$account" --rpc-url "$SIGNER_URL" --value 0.001ether "$FORBIDDEN" 2>&1); then
    echo "the signer has signed for a forbidden recipient: $refusal" >&2
    exit 1
fi
[[ $refusal == *recipients* ]] || { echo "expected the rule's name: $refusal" >&2; exit 1; }
echo "to a forbidden recipient: $refusal"
