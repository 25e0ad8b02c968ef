//! A process cannot leave a sandbox, so each case runs in its own process: this test program with [`CASE`] set.

use std::env;
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use socket2::{Domain, Socket, Type};

use super::*;

const CASE: &str = "ORCHESTRATOR_SANDBOX_CASE";

fn run(case: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "sandbox::tests::a_case", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn is_killed(case: &str) {
    let output = run(case);
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{case}: {}\n{}", output.status, text(&output));
}

fn survives(case: &str) {
    let output = run(case);
    assert!(output.status.success(), "{case}: {}\n{}", output.status, text(&output));
}

#[test]
#[ignore = "the other tests run it, each case in its own process"]
fn a_case() {
    let filtered = |role| {
        prctl::set_no_new_privs().unwrap();
        seccompiler::apply_filter(&filter(role).unwrap()).unwrap();
    };
    match env::var(CASE).as_deref() {
        Ok("relay opens vsock") => {
            filtered(Role::Relay);
            drop(Socket::new(Domain::VSOCK, Type::STREAM, None));
        }
        Ok("relay opens UDP") => {
            filtered(Role::Relay);
            drop(Socket::new(Domain::IPV4, Type::DGRAM, None));
        }
        Ok("relay opens a file") => {
            filtered(Role::Relay);
            drop(File::open("/"));
        }
        Ok("relay starts a program") => {
            filtered(Role::Relay);
            drop(Command::new("/bin/true").spawn());
        }
        Ok("probe opens UDP") => {
            filtered(Role::Probe);
            UdpSocket::bind("127.0.0.1:0").unwrap();
        }
        Ok("probe opens vsock") => {
            filtered(Role::Probe);
            drop(Socket::new(Domain::VSOCK, Type::STREAM, None));
        }
        Ok("probe opens a file") => {
            filtered(Role::Probe);
            drop(File::open("/"));
        }
        Ok("service") => a_network_program_s_life(),
        Ok("service opens vsock") => {
            service::tests::apply(true);
            Socket::new(Domain::VSOCK, Type::STREAM, None).unwrap();
        }
        Ok("signer opens TCP") => {
            filtered(Role::Signer);
            drop(Socket::new(Domain::IPV6, Type::STREAM, None));
        }
        Ok("signer gets ready and serves") => {
            let served = crate::signing::tests::serve_once(|module| {
                let seccomp = Filter(filter(Role::Signer).unwrap());
                let thread = module.start({
                    let seccomp = seccomp.clone();
                    move || seccomp.apply()
                });
                seccomp.apply().unwrap();
                thread.unwrap()
            });
            assert!(served.contains("{\"status\":\"ok\"}"), "{served}");
            // The thread has sent its request to /dev/null, which does not know it.
            assert!(served.contains("attestation_unavailable"), "{served}");
        }
        Ok("signer starts a thread") => {
            filtered(Role::Signer);
            drop(std::thread::spawn(|| ()).join());
        }
        Ok("signer opens vsock") => {
            filtered(Role::Signer);
            drop(Socket::new(Domain::VSOCK, Type::STREAM, None));
        }
        Ok("signer opens a file") => {
            filtered(Role::Signer);
            drop(File::open("/"));
        }
        Ok("signer asks the module") => {
            let null = File::open("/dev/null").unwrap();
            filtered(Role::Signer);
            let request = Request::DescribeNSM;
            assert!(matches!(nsm_process_request(null.as_raw_fd(), request), Response::Error(_)));
        }
        Ok("relay asks the module") => {
            let null = File::open("/dev/null").unwrap();
            filtered(Role::Relay);
            drop(nsm_process_request(null.as_raw_fd(), Request::DescribeNSM));
        }
        Ok("rights") => {
            let root = tempfile::tempdir().unwrap();
            let mut status = File::open("/proc/thread-self/status").unwrap();
            enter_at(Role::Relay, root.path(), |_filter| Ok(())).unwrap();
            // One read(2): read_to_string also queries the file's size, which the filter forbids.
            let mut buffer = [0; 8192];
            let len = status.read(&mut buffer).unwrap();
            crate::console::print(&String::from_utf8_lossy(&buffer[..len]));
            // The filter forbids removing the folder.
            std::mem::forget(root);
        }
        other => panic!("no such case: {other:?}"),
    }
}

#[test]
fn the_relay_opens_vsock_and_nothing_else() {
    survives("relay opens vsock");
    is_killed("relay opens UDP");
    is_killed("relay opens a file");
    is_killed("relay starts a program");
}

#[test]
fn the_probe_opens_inet_sockets_and_nothing_else() {
    survives("probe opens UDP");
    is_killed("probe opens vsock");
    is_killed("probe opens a file");
}

#[test]
fn the_signer_opens_inet_sockets_and_asks_the_module_and_nothing_else() {
    survives("signer opens TCP");
    survives("signer gets ready and serves");
    survives("signer asks the module");
    is_killed("signer opens vsock");
    is_killed("signer opens a file");
    is_killed("signer starts a thread");
    is_killed("relay asks the module");
}

/// All in one process: a forbidden call fails, and the process goes on.
fn a_network_program_s_life() {
    service::tests::apply(false);
    let no_such_call = |result: io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOSYS));
    File::open("/etc/passwd").unwrap();
    no_such_call(File::options().append(true).open("/dev/null").map(drop));
    std::thread::spawn(|| ()).join().unwrap();
    no_such_call(Command::new("/bin/true").spawn().map(drop));
    std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap();
    no_such_call(Socket::new(Domain::VSOCK, Type::STREAM, None).map(drop));
    no_such_call(Socket::new(Domain::UNIX, Type::STREAM, None).map(drop));
    Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
}

#[test]
fn a_service_is_a_network_program_and_nothing_else() {
    survives("service");
    survives("service opens vsock");
}

#[test]
fn user_groups_and_capabilities_are_gone() {
    if !nix::unistd::geteuid().is_root() {
        crate::console::print("this test needs root, to drop root's privileges\n");
        return;
    }
    let output = run("rights");
    let text = text(&output);
    for line in [
        "Uid:\t1001\t1001\t1001\t1001",
        "Gid:\t1001\t1001\t1001\t1001",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let groups = text.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert_eq!(groups.trim(), "", "groups are left");
}
