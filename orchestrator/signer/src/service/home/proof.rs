//! The enclave's side of the proof: a document for the hub's nonce, over this connection's exporter.

use anyhow::{Context, Result, anyhow, bail};
use binding::home::Binding;
use home::exchange::{receive, send};
use home::exporter;
use home::message::{Kind, Message};
use tokio::time::timeout;

use super::{Line, Stream, within};
use crate::keys::Attestor;
use crate::service::Shared;
use crate::service::turns::Asker;

/// Proves the enclave on `stream`. Afterwards the hub sends requests.
pub(super) async fn prove<K, A: Attestor>(line: &Line, shared: &Shared<K, A>, stream: &mut Stream) -> Result<()> {
    let patience = line.patience.message;
    let receiving = async { Ok(receive(stream, &[Kind::Nonce], "a nonce").await?) };
    let Message::Nonce(nonce) = within(patience, "receive the hub's nonce", receiving).await? else {
        bail!("receive the hub's nonce: another message");
    };
    let exporter = exporter(stream.get_ref().1, &nonce).context("the TLS exporter")?;
    let user_data = Binding { exporter, config: line.config_digest }.encode();
    let document = Message::Document(document(line, shared, &user_data, &nonce).await?);
    let sending = async { Ok(send(stream, &document).await?) };
    within(patience, "send the attestation document", sending).await?;
    let kinds = [Kind::Accepted, Kind::Refused];
    let receiving = async { Ok(receive(stream, &kinds, "Accepted or Refused").await?) };
    match within(patience, "receive the hub's verdict", receiving).await? {
        Message::Accepted => Ok(()),
        // Text from outside: without what could move the console's cursor.
        Message::Refused(reason) => bail!("the hub refuses this enclave: {}", reason.escape_debug()),
        Message::Nonce(_) | Message::Document(_) => bail!("receive the hub's verdict: another message"),
    }
}

/// In turn with the documents for clients: a hub that keeps on closing its connections waits for itself.
async fn document<K, A: Attestor>(
    line: &Line,
    shared: &Shared<K, A>,
    user_data: &[u8],
    nonce: &[u8],
) -> Result<Vec<u8>> {
    let place = shared.turns.line_up(Asker::Client(line.caller.name().to_owned()));
    let place = place.context("other documents for this hub are under way")?;
    let turn = timeout(shared.limits.turn, place.turn()).await;
    let Ok(Ok(_turn)) = turn else { bail!("no turn at the NSM within {:?}", shared.limits.turn) };
    let document = timeout(shared.limits.fetch, shared.attestor.document(user_data, nonce)).await;
    Ok(document.map_err(|_elapsed| anyhow!("no attestation document within {:?}", shared.limits.fetch))??)
}
