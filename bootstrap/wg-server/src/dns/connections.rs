//! The kernel's table of connections: when it is full, new questions get no answer, wg-server's own among them.

use std::fs;

const DIR: &str = "/proc/sys/net/netfilter";

/// Says that the table is full, with the fix.
pub(super) fn objection() -> Option<String> {
    let number = |name: &str| fs::read_to_string(format!("{DIR}/{name}")).ok()?.trim().parse().ok();
    describe(number("nf_conntrack_count")?, number("nf_conntrack_max")?)
}

fn describe(count: u64, most: u64) -> Option<String> {
    (count >= most).then(|| {
        format!(
            "the kernel's table of connections is full, {count} of {most}, so that nothing new passes, enclaves' questions \
             included; expected room: sysctl -w net.netfilter.nf_conntrack_max={}, and look who opens so many: conntrack -L",
            most.saturating_mul(4)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_named_with_its_size_and_one_with_room_is_not() {
        assert_eq!(describe(7, 8), None);
        let objection = describe(8, 8).unwrap();
        assert!(objection.contains("is full, 8 of 8") && objection.contains("nf_conntrack_max=32"), "{objection}");
    }
}
