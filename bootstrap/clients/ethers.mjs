// ethers 6: JsonRpcSigner.
import assert from 'node:assert/strict';
import { JsonRpcProvider, Transaction, parseEther, parseUnits, verifyTypedData } from 'ethers';
import { typedData } from './mail.mjs';

const { SIGNER_URL, CHAIN_URL, RECIPIENT, FORBIDDEN } = process.env;
const provider = new JsonRpcProvider(SIGNER_URL, undefined, { polling: true, pollingInterval: 100 });
const chain = new JsonRpcProvider(CHAIN_URL, undefined, { polling: true, pollingInterval: 100 });
const signer = await provider.getSigner();
const { chainId } = await chain.getNetwork();
console.log('account', signer.address, 'on chain', chainId);

const fees = {
    0: { gasPrice: parseUnits('20', 'gwei') },
    1: { gasPrice: parseUnits('20', 'gwei'), accessList: [] },
    2: { maxFeePerGas: parseUnits('20', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') },
};
const transaction = async (type, to = RECIPIENT) => ({
    type, to, value: parseEther('0.001'), gasLimit: 30_000, chainId, ...fees[type],
    nonce: await chain.getTransactionCount(signer.address, 'pending'),
});
const confirm = async (hash, type) => {
    const receipt = await chain.waitForTransaction(hash, 1, 30_000);
    assert.equal(receipt.status, 1);
    assert.equal(receipt.from, signer.address);
    assert.equal(receipt.type, type);
};

for (const type of [0, 1, 2]) {
    // JsonRpcSigner has signTransaction, and sends what it gets.
    const raw = await signer.signTransaction(await transaction(type));
    assert.equal(Transaction.from(raw).from, signer.address);
    await confirm((await chain.broadcastTransaction(raw)).hash, type);
    console.log(`signTransaction: type ${type}`);
}
const sent = await signer.sendTransaction({ to: RECIPIENT, value: 1n });
await sent.wait(1, 30_000);
await confirm(sent.hash, 2);
console.log('sendTransaction:', sent.hash);

const { domain, types, message } = typedData(chainId);
const signature = await signer.signTypedData(domain, types, message);
assert.equal(verifyTypedData(domain, types, message, signature), signer.address);
console.log('signTypedData:', signature);

await assert.rejects(signer.signTransaction(await transaction(2, FORBIDDEN)), (error) => {
    assert.match(error.message, /recipients/);
    console.log('to a forbidden recipient:', error.message);
    return true;
});
process.exit(0);
