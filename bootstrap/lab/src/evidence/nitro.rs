//! What `nitro-cli describe-enclaves` proves.

use serde::Deserialize;
use tunnel::port::Cid;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Enclave {
    enclave_name: String,
    #[serde(rename = "EnclaveCID")]
    cid: Cid,
    state: String,
}

/// The name of the enclave with this CID, if it runs.
///
/// # Errors
/// Text that is not a description of enclaves.
pub(crate) fn running_enclave(described: &str, cid: Cid) -> serde_json::Result<Option<String>> {
    let enclaves: Vec<Enclave> = serde_json::from_str(described)?;
    let running = enclaves.into_iter().find(|enclave| enclave.cid == cid && enclave.state == "RUNNING");
    Ok(running.map(|enclave| enclave.enclave_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enclave_that_terminates_does_not_run() {
        let described = r#"[{"EnclaveName":"signer","EnclaveCID":16,"State":"RUNNING","Flags":"NONE"},
            {"EnclaveName":"other","EnclaveCID":17,"State":"TERMINATING","Flags":"NONE"}]"#;
        assert_eq!(running_enclave(described, Cid(16)).unwrap(), Some("signer".to_owned()));
        assert_eq!(running_enclave(described, Cid(17)).unwrap(), None);
        running_enclave("{}", Cid(16)).unwrap_err();
    }
}
