//! Reboots with a reason on the console, also when PID 1 panics: a PID 1 that exits makes the kernel panic.

use std::panic;
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

use crate::console;
use crate::role::Role;

/// Turns ctrl-alt-del into SIGINT for PID 1, and a panic of PID 1 into a line on the console and a reboot.
pub(crate) fn guard() {
    panic::set_hook(Box::new(|info| {
        // On one line: `info` has the location and the message on two.
        let what = info.to_string().replace('\n', " ");
        down(&format!("init: {what}"));
    }));
    // Fails only outside the initial PID namespace, where ctrl-alt-del does not arrive.
    set_cad_enabled(false).ok();
}

/// Prints the error and reboots, which ends the enclave on Nitro.
pub(crate) fn down(error: &str) -> ! {
    console::print_error(&format!("{error}\n"));
    reboot_now()
}

/// The same for an orderly end.
pub(crate) fn off(reason: &str) -> ! {
    console::print(&format!("power off: {reason}\n"));
    reboot_now()
}

fn reboot_now() -> ! {
    console::drain();
    loop {
        // Returns only without CAP_SYS_BOOT. PID 1 must not exit even then.
        reboot(RebootMode::RB_AUTOBOOT).ok();
        thread::sleep(Duration::from_secs(1));
    }
}

/// Prints a panic of a child process on one line. The process then aborts, and PID 1 reaps it.
pub(crate) fn guard_role(role: Role) {
    panic::set_hook(Box::new(move |info| {
        console::print_error(&format!("{role}: {}\n", info.to_string().replace('\n', " ")));
    }));
}
