//! The vsock ports that enclaves dial.

use anyhow::Result;
use tunnel::port::Port;
use tunnel::vsock::{self, Listener};

/// Those of wg-server and of the relay. Binding them also proves that no other wg-server serves the enclaves of this host.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) data: Listener,
    pub(crate) control: Listener,
}

impl Ports {
    pub(crate) fn bind() -> Result<Self> {
        Ok(Self { data: listen(Port::DATA)?, control: listen(Port::CONTROL)? })
    }
}

/// Listens on one of the ports.
pub(crate) fn listen(port: Port) -> Result<Listener> {
    vsock::listen(port).map_err(|error| {
        let errno = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .and_then(std::io::Error::raw_os_error);
        let reason = match errno {
            Some(nix::libc::EADDRINUSE) => format!("vsock port {port} is in use: another wg-server runs"),
            Some(nix::libc::EAFNOSUPPORT) => "this kernel has no vsock: load the module `vsock`".to_owned(),
            Some(nix::libc::EACCES) => {
                format!("vsock port {port} needs CAP_NET_BIND_SERVICE in the first user namespace")
            }
            _ => format!("vsock port {port}"),
        };
        anyhow::Error::new(error).context(reason)
    })
}
