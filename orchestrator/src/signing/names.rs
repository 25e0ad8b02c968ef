//! Resolves the names of AWS's endpoints for the SDK, and those of hubs.

use std::io;
use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use kms::{DnsFuture, ResolveDns, ResolveDnsError};
use signer::keys::Resolve;

/// Queries the name servers behind the tunnel.
#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) TokioResolver);

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            // The dot keeps the resolver from trying search domains.
            let found =
                self.0.lookup_ip(format!("{name}.")).await.map_err(|error| ResolveDnsError::new(shown(error)))?;
            Ok(found.iter().collect())
        })
    }
}

impl Resolve for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.lookup_ip(format!("{name}.")).await.map_err(shown)?;
        Ok(found.iter().collect())
    }
}

/// hickory's own text of this error has the whole question in it, in Rust's form.
fn shown(error: NetError) -> io::Error {
    match error.is_no_records_found() || error.is_nx_domain() {
        true => io::Error::new(io::ErrorKind::NotFound, "there is no such name, or it has no address"),
        false => io::Error::other(error),
    }
}
