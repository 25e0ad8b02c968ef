//! The kernel's connection table, which the whole host shares. When it is full, the kernel drops the first packet of each
//! connection.

use std::path::Path;

/// Reports a full table, and what to do. The sentence stays the same while the problem lasts.
pub(crate) fn problem() -> Option<String> {
    let read = |name: &str| {
        let path = Path::new("/proc/sys/net/netfilter").join(name);
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    };
    // Without the module there is no table.
    judge(read("nf_conntrack_count")?, read("nf_conntrack_max")?)
}

/// Entries come and go between two checks: a table that is nearly full has been full.
fn judge(count: u64, most: u64) -> Option<String> {
    // 0: no limit (nf_conntrack_alloc).
    if most == 0 || count < most - most / 20 {
        return None;
    }
    Some(format!(
        "the host's connection table is full (net.netfilter.nf_conntrack_max is {most}): the kernel drops new connections of \
         enclaves and named's questions to its forwarders, while the tunnels stay up; `sysctl -w \
         net.netfilter.nf_conntrack_max={}`, and `conntrack -S` shows what is dropped",
        most.max(32_768).saturating_mul(2)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_full_is_named_and_one_with_room_is_not() {
        assert!(judge(8, 8).unwrap().contains("nf_conntrack_max is 8"));
        assert!(judge(65_000, 65_536).is_some());
        assert_eq!(judge(60_000, 65_536), None);
        assert_eq!(judge(7, 8), None);
        assert_eq!(judge(1_000_000, 0), None, "no limit");
    }

    #[test]
    fn the_sentence_is_the_same_as_long_as_the_problem_is() {
        assert_eq!(judge(65_000, 65_536), judge(65_536, 65_536));
    }
}
