//! alloy: `Web3Signer`, which signs with an account of a JSON-RPC server.

use alloy::consensus::Typed2718;
use alloy::consensus::transaction::SignerRecoverable;
use alloy::eips::eip2718::Encodable2718;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, U256};
use alloy::providers::{Provider, ProviderBuilder, Web3Signer};
use alloy::rpc::types::TransactionRequest;
use eyre::{OptionExt, Result, ensure};

const GWEI: u128 = 1_000_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = |name: &str| -> Result<Address> { Ok(std::env::var(name)?.parse()?) };
    let provider = |name: &str| -> Result<_> {
        Ok(ProviderBuilder::new().disable_recommended_fillers().connect_http(std::env::var(name)?.parse()?))
    };
    let (signing, chain) = (provider("SIGNER_URL")?, provider("CHAIN_URL")?);
    let (recipient, forbidden) = (address("RECIPIENT")?, address("FORBIDDEN")?);
    let account = *signing.get_accounts().await?.first().ok_or_eyre("no account")?;
    let chain_id = signing.get_chain_id().await?;
    println!("account {account} on chain {chain_id}");
    let signer = Web3Signer::new(signing, account);

    for kind in 0..=2 {
        let nonce = chain.get_transaction_count(account).pending().await?;
        let request = TransactionRequest::default()
            .with_to(recipient)
            .with_value(U256::from(1_000_000))
            .with_gas_limit(30_000)
            .with_nonce(nonce)
            .with_chain_id(chain_id);
        let request = match kind {
            0 => request.with_gas_price(20 * GWEI),
            1 => request.with_gas_price(20 * GWEI).with_access_list(Default::default()),
            _ => request.with_max_fee_per_gas(20 * GWEI).with_max_priority_fee_per_gas(GWEI),
        };
        let signed = signer.sign_and_decode(request.clone()).await?;
        ensure!(signed.ty() == kind, "type {}, expected {kind}", signed.ty());
        ensure!(signed.recover_signer()? == account, "another signer");
        let receipt = chain.send_raw_transaction(&signed.encoded_2718()).await?.get_receipt().await?;
        ensure!(receipt.status(), "{receipt:?}");
        println!("sign_and_decode: type {kind}, {}", receipt.transaction_hash);

        let Err(refusal) = signer.sign_transaction(request.with_to(forbidden).with_nonce(nonce + 1)).await else {
            eyre::bail!("the signer has signed for a forbidden recipient");
        };
        ensure!(refusal.to_string().contains("recipients"), "expected the rule's name: {refusal}");
        println!("to a forbidden recipient: {refusal}");
    }
    Ok(())
}
