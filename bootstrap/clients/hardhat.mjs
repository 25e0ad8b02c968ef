// hardhat 3 deploys a contract from the enclave's account. npm's solc compiles it: hardhat would fetch a compiler.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { network } from 'hardhat';
import solc from 'solc';

const source = readFileSync(new URL('Counter.sol', import.meta.url), 'utf8');
const output = JSON.parse(solc.compile(JSON.stringify({
    language: 'Solidity', sources: { 'Counter.sol': { content: source } },
    settings: { outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } } },
})));
const { abi, evm } = output.contracts['Counter.sol'].Counter;

const { ethers } = await network.connect('enclave');
const [signer] = await ethers.getSigners();
console.log('account', signer.address);
const counter = await new ethers.ContractFactory(abi, evm.bytecode.object, signer).deploy();
await counter.waitForDeployment();
console.log('deployed to', await counter.getAddress());
await (await counter.add(2n)).wait();
assert.equal(await counter.count(), 2n);
console.log('called: the counter is at', await counter.count());

await assert.rejects(signer.sendTransaction({ to: process.env.FORBIDDEN, value: 1n }), (error) => {
    assert.match(error.message, /recipients/);
    console.log('to a forbidden recipient:', error.message);
    return true;
});
process.exit(0);
