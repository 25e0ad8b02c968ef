//! Services, the operator's programs: their root directories, how they start, and their output.

mod lines;
mod output;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};
use service::Service;

use crate::config::{CONFIG_DIR, CONFIG_PATH, Config};
use crate::network::resolv_conf;
use crate::{console, role, sandbox, sys};

pub(crate) use output::{Output, OutputLine, next_line};

/// The first argument that makes this program become a service. The second is the service's name.
pub(crate) const VERB: &str = "service";

/// The folder of the services' root directories, on the configuration's file system: a hard link cannot leave it.
const ROOTS_DIR: &str = "/services";

/// Makes each service's root directory, with its program and resolv.conf. Has to run before the root is read-only.
pub(crate) fn make_roots(config: &Config) -> Result<()> {
    for service in config.services {
        let root = root_dir(service);
        fs::create_dir_all(&root).with_context(|| format!("make directory {}", root.display()))?;
        let (file, link) = (Path::new(CONFIG_DIR).join(&service.program), root.join(&service.program));
        fs::hard_link(&file, &link).with_context(|| format!("link {} to {}", link.display(), file.display()))?;
        resolv_conf::write(&root, &config.name_servers_of(&service.name))?;
    }
    Ok(())
}

fn root_dir(service: &Service) -> PathBuf {
    Path::new(ROOTS_DIR).join(&service.name)
}

/// Starts `service`; returns its process id and the reading end of its output.
pub(crate) fn start(service: &Service) -> Result<(Pid, OwnedFd)> {
    let start = || -> Result<(Pid, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).context("make a pipe")?;
        let mut command = role::command();
        command.args([VERB, &service.name]).stdout(theirs.try_clone()?).stderr(theirs);
        Ok((role::pid_of(&sys::spawn(&mut command, None, &[])?)?, ours))
    };
    start().with_context(|| format!("start the service {service}"))
}

/// Enters the service's sandbox and executes its program. PID 1 decides whether to start it again when it exits.
pub(crate) fn become_service(name: &str) -> ExitCode {
    let Err(error) = execute(name);
    // PID 1 adds the service's name.
    console::print(&format!("{error:#}\n"));
    ExitCode::FAILURE
}

fn execute(name: &str) -> Result<Infallible> {
    let config = Config::load(Path::new(CONFIG_PATH))?;
    let service = config.services.iter().find(|service| service.name == name);
    let service = service.with_context(|| format!("the measured configuration has no service {name}"))?;
    let mut command = Command::new(Path::new("/").join(&service.program));
    command.args(&service.arguments).env_clear().envs(&service.environment);
    sandbox::enter_service(service, &root_dir(service))?;
    Err(command.exec()).with_context(|| format!("execute /{}", service.program))
}
