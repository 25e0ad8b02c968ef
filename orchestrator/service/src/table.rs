//! Parses and checks the `[[services]]` tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{Restart, Service};

/// Few, because a reviewer of the image has to read each.
pub const MAX_SERVICES: usize = 8;
/// UID of the first service. The others follow.
const FIRST_USER: u32 = 1100;
/// Short, because it starts each console line of the service.
const MAX_NAME_LEN: usize = 16;
const MAX_PORTS: usize = 16;
const MAX_ARGUMENTS: usize = 64;
/// In bytes, of an argument, and of a variable's name with its value.
const MAX_ARGUMENT_LEN: usize = 4096;
const MIB: u64 = 1 << 20;
const DEFAULT_MEMORY_MIB: u64 = 64;
const MAX_MEMORY_MIB: u64 = 1 << 20;
/// Names of PID 1, of its roles, and of the packets that no process sent.
const RESERVED: [&str; 6] = ["init", "kernel", "probe", "relay", "resolver", "signer"];

/// One `[[services]]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTable {
    name: String,
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    memory_mib: Option<u64>,
    #[serde(default)]
    listen: Vec<u16>,
    #[serde(default)]
    restart: Restart,
    #[serde(default)]
    vsock: bool,
}

/// Checks all tables together. `taken` lists ports in use and the process that uses each.
///
/// # Errors
/// One sentence with the service, the key and the expected value.
pub fn check(tables: Vec<ServiceTable>, taken: &[(u16, &str)]) -> Result<Vec<Service>> {
    ensure!(tables.len() <= MAX_SERVICES, "services: {} tables, expected at most {MAX_SERVICES}", tables.len());
    let mut services: Vec<Service> = Vec::new();
    for (table, user) in tables.into_iter().zip(FIRST_USER..) {
        let name = table.name.escape_debug().to_string();
        let service = table.check(user).with_context(|| format!("services: {name}"))?;
        for earlier in &services {
            ensure!(earlier.name != service.name, "services: {name}: name: used twice, expected a unique name");
        }
        for port in &service.listen {
            let of_enclave = taken.iter().find(|(taken, _)| taken == port).map(|(_, owner)| *owner);
            let of_service = services.iter().find(|earlier| earlier.listen.contains(port));
            if let Some(owner) = of_enclave.or(of_service.map(|earlier| earlier.name.as_str())) {
                bail!("services: {name}: listen: port {port} is used by {owner}, expected another port");
            }
        }
        services.push(service);
    }
    Ok(services)
}

impl ServiceTable {
    fn check(self, user: u32) -> Result<Service> {
        check_name(&self.name)?;
        check_program_name(&self.program)?;
        check_arguments(&self.arguments)?;
        for (name, value) in &self.environment {
            check_variable(name, value)?;
        }
        let memory_mib = self.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB);
        ensure!(
            (1..=MAX_MEMORY_MIB).contains(&memory_mib),
            "memory_mib: {memory_mib} is out of range, expected 1 to {MAX_MEMORY_MIB}"
        );
        ensure!(self.listen.len() <= MAX_PORTS, "listen: {} ports, expected at most {MAX_PORTS}", self.listen.len());
        for (at, port) in self.listen.iter().enumerate() {
            ensure!(*port != 0, "listen: 0 is not a port, expected 1 to 65535");
            let is_new = !self.listen.iter().take(at).any(|earlier| earlier == port);
            ensure!(is_new, "listen: {port} is listed twice, expected each port once");
        }
        Ok(Service {
            name: self.name,
            program: self.program,
            arguments: self.arguments,
            environment: self.environment,
            memory: memory_mib * MIB,
            listen: self.listen,
            restart: self.restart,
            vsock: self.vsock,
            user,
        })
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    ensure!(
        is_plain && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.len() <= MAX_NAME_LEN,
        "name: expected 1 to {MAX_NAME_LEN} lower-case letters, digits and `-`, a letter first"
    );
    ensure!(!RESERVED.contains(&name), "name: reserved for a process of the enclave, expected another name");
    Ok(())
}

fn check_program_name(program: &str) -> Result<()> {
    ensure!(
        !program.is_empty() && !program.contains(['/', '\0']) && !program.starts_with('.'),
        "program: `{}` is not the name of a file beside enclave.toml, expected one such as \"hello\"",
        program.escape_debug()
    );
    // Its root directory also contains /etc.
    ensure!(program != "etc", "program: expected a name other than `etc`");
    Ok(())
}

fn check_arguments(arguments: &[String]) -> Result<()> {
    let count = arguments.len();
    ensure!(count <= MAX_ARGUMENTS, "arguments: {count} of them, expected at most {MAX_ARGUMENTS}");
    for argument in arguments {
        let len = argument.len();
        ensure!(len <= MAX_ARGUMENT_LEN, "arguments: one of {len} bytes, expected at most {MAX_ARGUMENT_LEN}");
        ensure!(!argument.contains('\0'), "arguments: `{}`: expected no zero byte", argument.escape_debug());
    }
    Ok(())
}

fn check_variable(name: &str, value: &str) -> Result<()> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    ensure!(
        is_name,
        "environment: `{}` is not the name of a variable, expected letters, digits and `_`, such as RUST_LOG",
        name.escape_debug()
    );
    ensure!(!value.contains('\0'), "environment: {name}: expected a value without a zero byte");
    let len = name.len() + value.len();
    ensure!(len <= MAX_ARGUMENT_LEN, "environment: {name}: {len} bytes, expected at most {MAX_ARGUMENT_LEN}");
    Ok(())
}
