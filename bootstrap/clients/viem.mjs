// viem: a JSON-RPC account of a wallet client.
import assert from 'node:assert/strict';
import { createPublicClient, createWalletClient, defineChain, http, parseEther, parseGwei } from 'viem';
import { parseTransaction, recoverTransactionAddress, recoverTypedDataAddress } from 'viem';
import { typedData } from './mail.mjs';

const { SIGNER_URL, CHAIN_URL, RECIPIENT, FORBIDDEN } = process.env;
const public_ = createPublicClient({ transport: http(CHAIN_URL), pollingInterval: 100 });
const chain = defineChain({
    id: await public_.getChainId(), name: 'development', rpcUrls: { default: { http: [SIGNER_URL] } },
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
});
const wallet = createWalletClient({ chain, transport: http(SIGNER_URL), pollingInterval: 100 });
const [account] = await wallet.getAddresses();
console.log('account', account, 'on chain', chain.id);

const fees = {
    legacy: { gasPrice: parseGwei('20') },
    eip2930: { gasPrice: parseGwei('20'), accessList: [] },
    eip1559: { maxFeePerGas: parseGwei('20'), maxPriorityFeePerGas: parseGwei('1') },
};
const transaction = async (type, to = RECIPIENT) => ({
    account, type, to, value: parseEther('0.001'), gas: 30_000n, ...fees[type],
    nonce: await public_.getTransactionCount({ address: account, blockTag: 'pending' }),
});
const confirm = async (hash, type) => {
    const receipt = await public_.waitForTransactionReceipt({ hash, timeout: 30_000 });
    assert.equal(receipt.status, 'success');
    assert.equal(receipt.from, account.toLowerCase());
    assert.equal(receipt.type, type);
};

for (const type of Object.keys(fees)) {
    const serializedTransaction = await wallet.signTransaction(await transaction(type));
    assert.equal(parseTransaction(serializedTransaction).type, type);
    assert.equal(await recoverTransactionAddress({ serializedTransaction }), account);
    await confirm(await public_.sendRawTransaction({ serializedTransaction }), type);
    console.log(`signTransaction: ${type}`);
}
const hash = await wallet.sendTransaction({ account, to: RECIPIENT, value: 1n });
await confirm(hash, 'eip1559');
console.log('sendTransaction:', hash);

const { domain, types, message, primaryType } = typedData(BigInt(chain.id));
const signature = await wallet.signTypedData({ account, domain, types, message, primaryType });
assert.equal(await recoverTypedDataAddress({ domain, types, message, primaryType, signature }), account);
console.log('signTypedData:', signature);

await assert.rejects(wallet.signTransaction(await transaction('eip1559', FORBIDDEN)), (error) => {
    assert.match(error.message, /recipients/);
    console.log('to a forbidden recipient:', error.details ?? error.message);
    return true;
});
