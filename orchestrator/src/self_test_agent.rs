//! The lab's test agent, in a process of its own; only with `[self_test]` in the measured configuration.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{CONFIG_PATH, Config};
use crate::role::Role;
use crate::sandbox;

/// Serves the lab until listening fails.
///
/// # Errors
/// The configuration, the sandbox, or the listener.
pub(crate) fn run() -> Result<()> {
    let config = Config::load(Path::new(CONFIG_PATH))?;
    let self_test = config.self_test.context("the measured configuration has no [self_test]")?;
    crate::runtime()?.block_on(async {
        sandbox::enter(Role::SelfTest)?;
        self_test::agent::serve(&[self_test.listen_addr()]).await
    })
}
