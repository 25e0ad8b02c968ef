// hardhat 3, with the enclave as the account of its network.
import { defineConfig } from 'hardhat/config';
import ethers from '@nomicfoundation/hardhat-ethers';

export default defineConfig({
    plugins: [ethers],
    networks: { enclave: { type: 'http', url: process.env.SIGNER_URL, accounts: 'remote' } },
});
