"""Blobs and delegations (types 3 and 4) by eth_signTransaction alone: no client offers them for the account of a node."""

import hashlib
import os
from pathlib import Path

import ckzg
import rlp
from eth_account import Account, typed_transactions
from hexbytes import HexBytes
from web3 import Web3

signer = Web3(Web3.HTTPProvider(os.environ["SIGNER_URL"]))
chain = Web3(Web3.HTTPProvider(os.environ["CHAIN_URL"]))
recipient, forbidden = os.environ["RECIPIENT"], os.environ["FORBIDDEN"]

[account] = signer.eth.accounts
chain_id = signer.eth.chain_id
print("account", account, "on chain", chain_id)


def sign(**fields):
    transaction = {
        "from": account,
        "to": recipient,
        "chainId": hex(chain_id),
        "nonce": hex(chain.eth.get_transaction_count(account, "pending")),
        "maxFeePerGas": hex(Web3.to_wei(20, "gwei")),
        "maxPriorityFeePerGas": hex(Web3.to_wei(1, "gwei")),
        "gas": hex(100_000),
        "value": "0x0",
        **fields,
    }
    answer = signer.provider.make_request("eth_signTransaction", [transaction])
    return HexBytes(answer["result"]) if "result" in answer else answer["error"]


def confirm(raw, kind):
    receipt = chain.eth.wait_for_transaction_receipt(chain.eth.send_raw_transaction(raw), timeout=30)
    assert receipt["status"] == 1 and receipt["from"] == account and receipt["type"] == kind, receipt


def refused(error, rule):
    assert rule in error["message"], error
    print("refused:", error["message"])


# A blob stays with the client, and so do its commitment and its proof.
setup = Path(typed_transactions.__file__).parent / "blob_transactions" / "kzg_trusted_setup.txt"
trusted_setup = ckzg.load_trusted_setup(str(setup), 0)
blob = b"\0Hello, blobs".ljust(4096 * 32, b"\0")
commitment = ckzg.blob_to_kzg_commitment(blob, trusted_setup)
proof = ckzg.compute_blob_kzg_proof(blob, commitment, trusted_setup)
versioned_hash = "0x01" + hashlib.sha256(commitment).hexdigest()[2:]
blobs = {"maxFeePerBlobGas": hex(Web3.to_wei(1, "gwei")), "blobVersionedHashes": [versioned_hash]}
raw = sign(**blobs)
assert isinstance(raw, HexBytes) and raw[0] == 3, raw
assert Account.recover_transaction(raw) == account
confirm(b"\3" + rlp.encode([rlp.decode(raw[1:]), [blob], [commitment], [proof]]), 3)
print("eth_signTransaction: type 3, with the hash of a blob")
refused(sign(**{**blobs, "blobVersionedHashes": [versioned_hash] * 2}), "blobs")

# Another account's delegation, which that account has signed.
other = Account.from_key("0x" + "42" * 32)
delegation = {"chainId": chain_id, "address": recipient, "nonce": chain.eth.get_transaction_count(other.address)}


def entry(fields):
    signed = other.sign_authorization(fields)
    numbers = {"chainId": signed.chain_id, "nonce": signed.nonce, "yParity": signed.y_parity, "r": signed.r, "s": signed.s}
    return {"address": fields["address"], **{name: hex(number) for name, number in numbers.items()}}


raw = sign(authorizationList=[entry(delegation)])
assert isinstance(raw, HexBytes) and raw[0] == 4, raw
assert Account.recover_transaction(raw) == account
confirm(raw, 4)
assert chain.eth.get_code(other.address) == HexBytes("0xef0100" + recipient[2:]), "the delegation is not in force"
print("eth_signTransaction: type 4, with another account's delegation")
refused(sign(authorizationList=[entry({**delegation, "address": forbidden})]), "delegates")
