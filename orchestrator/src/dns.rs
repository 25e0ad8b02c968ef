//! Name resolution over the tunnel, for processes in a sandbox: without threads and files.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// For each query.
const DEADLINE: Duration = Duration::from_secs(2);

/// A resolver that queries these servers; needs a runtime.
pub(crate) fn resolver(servers: &[IpAddr]) -> Result<TokioResolver> {
    let servers = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    // There is no hosts file, and the sandbox kills a process that looks for one.
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.cache_size = 0;
    options.timeout = DEADLINE;
    builder.build().context("make a resolver")
}
