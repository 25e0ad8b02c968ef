//! Name resolution as the enclave's programs do it: through `/etc/resolv.conf`.

use anyhow::{Context, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};

use crate::command::Resolved;

pub(crate) async fn resolve(name: &str) -> Result<Resolved> {
    let resolver = TokioResolver::builder_tokio().context("read /etc/resolv.conf")?.build()?;
    match resolver.lookup_ip(name).await {
        Ok(found) => Ok(Resolved { addresses: found.iter().collect(), code: None }),
        Err(error) => {
            let code = no_records(&error).with_context(|| format!("resolve {name}: {error}"))?;
            Ok(Resolved { addresses: Vec::new(), code: Some(code) })
        }
    }
}

/// The response code, if the answer was that there is no address.
fn no_records(error: &NetError) -> Option<String> {
    let NetError::Dns(error) = error else { return None };
    if let DnsError::NoRecordsFound(none) = error {
        return Some(none.response_code.to_string());
    }
    // Refusals and other codes arrive as errors of their own.
    if let DnsError::ResponseCode(code) = error { Some(code.to_string()) } else { None }
}
