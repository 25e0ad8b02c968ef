"""web3.py: an account of the enclave signs and sends, as an account of a node would."""

import os

from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3

signer = Web3(Web3.HTTPProvider(os.environ["SIGNER_URL"]))
# The form {raw, tx}, which web3.py expects of a node.
geth = Web3(Web3.HTTPProvider(os.environ["SIGNER_URL"] + "/geth"))
chain = Web3(Web3.HTTPProvider(os.environ["CHAIN_URL"]))
recipient, forbidden = os.environ["RECIPIENT"], os.environ["FORBIDDEN"]

[account] = signer.eth.accounts
assert signer.eth.chain_id == chain.eth.chain_id
print("account", account, "on chain", signer.eth.chain_id)

LEGACY = {"gasPrice": Web3.to_wei(20, "gwei")}
ACCESS_LIST = {**LEGACY, "accessList": [{"address": recipient, "storageKeys": []}]}
DYNAMIC_FEE = {"maxFeePerGas": Web3.to_wei(20, "gwei"), "maxPriorityFeePerGas": Web3.to_wei(1, "gwei")}


def transaction(**fields):
    nonce = chain.eth.get_transaction_count(account, "pending")
    return {
        "from": account,
        "to": recipient,
        "value": Web3.to_wei("0.001", "ether"),
        "gas": 30_000,
        "nonce": nonce,
        "chainId": signer.eth.chain_id,
        **fields,
    }


def confirm(transaction_hash, kind):
    receipt = chain.eth.wait_for_transaction_receipt(transaction_hash, timeout=30)
    assert receipt["status"] == 1 and receipt["from"] == account and receipt["type"] == kind, receipt
    return receipt


for kind, fees in enumerate([LEGACY, ACCESS_LIST, DYNAMIC_FEE]):
    raw = geth.eth.sign_transaction(transaction(**fees))["raw"]
    assert Account.recover_transaction(raw) == account
    confirm(chain.eth.send_raw_transaction(raw), kind)
    print(f"sign_transaction: type {kind}, and eth-account recovers the account")

sent = signer.eth.send_transaction(transaction(**DYNAMIC_FEE))
confirm(sent, 2)
print("send_transaction:", Web3.to_hex(sent))
sent = signer.eth.send_transaction({"from": account, "to": recipient, "value": 1})
confirm(sent, 2)
print("send_transaction, with what web3.py and the signer fill in:", Web3.to_hex(sent))

chain_id = signer.eth.chain_id
mail = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ],
        "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person"},
            {"name": "contents", "type": "string"},
        ],
    },
    "primaryType": "Mail",
    "domain": {
        "name": "Ether Mail",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
    },
    "message": {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
        "contents": "Hello, Bob!",
    },
}
signature = signer.eth.sign_typed_data(account, mail)
assert Account.recover_message(encode_typed_data(full_message=mail), signature=signature) == account
print("sign_typed_data:", Web3.to_hex(signature))

try:
    geth.eth.sign_transaction(transaction(**DYNAMIC_FEE, to=forbidden))
except Exception as error:
    assert "recipients" in str(error), error
    print("to a forbidden recipient:", error)
else:
    raise SystemExit("the signer has signed for a forbidden recipient")
