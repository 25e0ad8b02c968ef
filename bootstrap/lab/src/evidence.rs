//! What consoles, logs and reports prove: text in, values out.

mod console;
mod dns;
mod nitro;
mod wg_server;

pub(crate) use console::{first_handshake, gateway_verdict, ping, wg_show};
pub(crate) use dns::queries;
pub(crate) use nitro::running_enclave;
pub(crate) use wg_server::{attested, document, leased_addresses};
