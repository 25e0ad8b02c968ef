//! Whether the kernel can name refused packets: `log group` needs its module nfnetlink_log, and without it refuses the table.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::nft::Nft;
use super::ruleset::{LOG_GROUP, UNLISTED};

/// Never in the kernel: nft only checks it.
const TABLE: &str = "wg_server_check";

/// Asks the kernel to check a table with such a rule.
pub(super) async fn is_possible(nft: &Nft) -> Result<bool> {
    let Err(refused) = nft.check(&with(&json!({"log": {"prefix": UNLISTED, "group": LOG_GROUP}}))).await else {
        return Ok(true);
    };
    // What refuses every rule is another fault.
    nft.check(&with(&json!({"accept": null}))).await.context("check a table")?;
    tracing::debug!("a rule with a log group: {refused:#}");
    Ok(false)
}

fn with(statement: &Value) -> String {
    let of_table = |key: &str, fields: Value| {
        let mut object = json!({"family": "inet", "table": TABLE});
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        json!({"add": {key: object}})
    };
    let table = json!({"add": {"table": {"family": "inet", "name": TABLE}}});
    let chain = of_table("chain", json!({"name": "checked"}));
    let rule = of_table("rule", json!({"chain": "checked", "expr": [statement]}));
    json!({"nftables": [table, chain, rule]}).to_string()
}
