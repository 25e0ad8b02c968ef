//! Resolves the names of AWS's endpoints for the SDK, and those of hubs.

use std::io;
use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use kms::{DnsFuture, ResolveDns, ResolveDnsError};
use signer::keys::Resolve;

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

impl Resolve for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.lookup_ip(format!("{name}.")).await.map_err(io::Error::other)?;
        Ok(found.iter().collect())
    }
}
