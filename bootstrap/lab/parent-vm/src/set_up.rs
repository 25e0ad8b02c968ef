//! `lab parent-vm set-up`: what user data, AWS's packages and EC2 bring, before wg-server starts.

use std::fs;

use anyhow::{Context, Result};

use crate::paths::{GATEWAY_PRIVATE_KEY_PATH, INTERNET_DIR, LOG_DIR, PRIVATE_KEY_PATH, RUN_DIR, WG_SERVER};
use crate::{internet, network, nitro};

const WG_SERVER_USER: &str = "wg-server";
/// `dns.user` of what ships.
const NAMED_USER: &str = "wg-named";

/// Sets the parent up; at a first boot without what user data does.
pub(crate) fn run(is_first_boot: bool) -> Result<()> {
    for dir in [RUN_DIR, LOG_DIR, INTERNET_DIR] {
        fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
    }
    network::set_up().context("the lab's internet")?;
    internet::write().context("the lab's internet")?;
    nitro::set_up().context("what nitro-cli's package brings")?;
    if is_first_boot {
        return Ok(());
    }
    nitro::add_user()?;
    for user in [WG_SERVER_USER, NAMED_USER] {
        network::command(&["useradd", "--system", "--no-create-home", "--shell", "/sbin/nologin", user])?;
    }
    make_key(PRIVATE_KEY_PATH).context("the parent's WireGuard key")?;
    make_key(GATEWAY_PRIVATE_KEY_PATH).context("the gateway's WireGuard key")
}

fn make_key(path: &str) -> Result<()> {
    network::command(&[WG_SERVER, "keygen", path])?;
    network::command(&["chown", &format!("{WG_SERVER_USER}:"), path])
}
