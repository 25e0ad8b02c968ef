//! The pages whose commands run in the lab as they are written.

use std::fs;
use std::process::Command;

use lab::{Attempt, EnclaveId, Lab, Test};
use parent_vm::OFF_LIST_SERVER;

use super::services::root;
use super::shared_lab::{lab_with, restart_own, restoring};

/// The commands of a page's console blocks, each with the lines that its output shows.
pub(crate) fn commands(page: &str) -> Vec<(String, Vec<String>)> {
    let blocks = page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            // The rest of a command of several lines.
            (None, Some((command, _))) if command.ends_with('\\') => {
                command.pop();
                command.push_str(line.trim_start());
            }
            (None, last) => last.unwrap().1.push(line.to_owned()),
        }
    }
    commands
}

/// Runs a page's commands in the lab, and expects the lines of output that the page shows.
fn run(page: &str, lab: &Lab) {
    let commands = commands(&fs::read_to_string(root().join(page)).unwrap());
    assert!(commands.iter().any(|(_, lines)| !lines.is_empty()), "the page shows no output");
    for (command, lines) in commands {
        let output = Command::new("sh")
            .args(["-ec", &command])
            .current_dir(root())
            .env("ENCLAVE_LAB_DIR", lab.dir())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command}: {}\n{said}", output.status);
        for line in lines {
            assert!(said.contains(&line), "{command}: no line `{line}` in\n{said}");
        }
    }
}

#[test]
fn services_md_gives_an_enclave_that_answers_http() {
    let shared = lab_with(1);
    restoring(|| run("docs/services.md", &shared.lab), || restart_own(&shared.lab));
}

#[test]
fn egress_md_shows_what_the_enclave_may_reach() {
    let shared = lab_with(1);
    // What the parent refuses for the page to show.
    let refused = Test::Reach { to: OFF_LIST_SERVER, by: Attempt::Tcp };
    shared.lab.enclave(EnclaveId::FIRST).self_test(&refused).unwrap();
    run("docs/egress.md", &shared.lab);
}
