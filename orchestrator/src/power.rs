//! The two ends of the machine: going down with a reason, and the panic that must not end in the kernel's.

use std::panic;
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

use crate::console;
use crate::role::Role;

/// Makes ctrl-alt-del a SIGINT to PID 1 instead of an immediate reboot, and a panic of PID 1 a line and a reboot.
pub(crate) fn guard() {
    panic::set_hook(Box::new(|info| {
        // On a line of its own; `info` has the place and the message in two lines.
        let what = info.to_string().replace('\n', " ");
        down(&format!("init: {what}"));
    }));
    // Refused only outside of the first process namespace: then there is no such key either.
    set_cad_enabled(false).ok();
}

/// Says why, and restarts the machine; to Nitro that is the end of the enclave.
pub(crate) fn down(reason: &str) -> ! {
    console::print(&format!("{reason}\n"));
    console::drain();
    loop {
        // Only a process without CAP_SYS_BOOT gets past it; PID 1 must still not end.
        reboot(RebootMode::RB_AUTOBOOT).ok();
        thread::sleep(Duration::from_secs(1));
    }
}

/// Makes a panic of another process a line on the console; the process aborts then, and PID 1 hears of it.
pub(crate) fn guard_role(role: Role) {
    panic::set_hook(Box::new(move |info| {
        console::print(&format!("{role}: {}\n", info.to_string().replace('\n', " ")));
    }));
}
