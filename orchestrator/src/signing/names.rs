//! Resolves the names of AWS's endpoints for the SDK.

use hickory_resolver::TokioResolver;
use kms::{DnsFuture, ResolveDns, ResolveDnsError};

/// Queries the name servers behind the tunnel.
#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) TokioResolver);

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            // The dot keeps the resolver from trying search domains.
            let found = self.0.lookup_ip(format!("{name}.")).await.map_err(ResolveDnsError::new)?;
            Ok(found.iter().collect())
        })
    }
}
