//! The stand-in for nitro-enclaves-allocator. It reads the configuration as AWS's does, and refuses more than the
//! host has. It reserves nothing: memory and processors belong to the lab's host.

use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::paths::{ALLOCATOR_PATH, LAB};
use crate::units::{Unit, unit};

/// The unit's name.
const NAME: &str = "nitro-enclaves-allocator";
/// The memory of a parent with 8 vCPUs and 16 GiB.
const MAX_MEMORY_MIB: u64 = 16_384;
const MAX_CPUS: u64 = 8;

/// The configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    memory_mib: u64,
    cpus: u64,
}

/// The service.
pub(super) fn service() -> Unit {
    let service = format!("Type=oneshot\nRemainAfterExit=yes\nExecStart={LAB} parent-vm allocate\n");
    Unit { is_enabled: false, ..unit(NAME, "", &service) }
}

/// Checks the configuration; what to print.
pub(super) fn allocate() -> Result<String> {
    let text = fs::read_to_string(ALLOCATOR_PATH).with_context(|| format!("read {}", ALLOCATOR_PATH))?;
    let request = Request::parse(&text).context(ALLOCATOR_PATH)?;
    request.ensure_is_there()?;
    Ok(format!("reserved for enclaves: {request}"))
}

impl Request {
    /// Reads the part of YAML that AWS's allocator reads: after `---`, a key and its value on each line, or a
    /// comment.
    fn parse(text: &str) -> Result<Self> {
        let (mut memory_mib, mut cpus) = (None, None);
        let lines = text.lines().map(str::trim).zip(1_u32..).skip_while(|(line, _)| *line != "---").skip(1);
        for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once(':').with_context(|| format!("line {number}: expected `key: value`"))?;
            let key = key.trim();
            let field = match key {
                "memory_mib" => &mut memory_mib,
                "cpu_count" => &mut cpus,
                "cpu_pool" => {
                    bail!("line {number}: cpu_pool: the lab does not choose processors; expected cpu_count")
                }
                _ => bail!("line {number}: unexpected key {key:?}; expected memory_mib or cpu_count"),
            };
            let value = value.trim().trim_matches('"');
            let count: u64 = value
                .parse()
                .with_context(|| format!("line {number}: {key}: {value:?}; expected a whole number like 2"))?;
            *field = Some(count);
        }
        Ok(Self {
            memory_mib: memory_mib.context("memory_mib is missing; expected MiB like 512")?,
            cpus: cpus.context("cpu_count is missing; expected a number like 2")?,
        })
    }

    fn ensure_is_there(self) -> Result<()> {
        let Self { memory_mib, cpus } = self;
        ensure!(cpus > 0, "cpu_count: 0; expected 1 or more");
        ensure!(cpus <= MAX_CPUS, "cpu_count: {cpus}; expected at most {MAX_CPUS}, the processors of this host");
        ensure!(
            memory_mib <= MAX_MEMORY_MIB,
            "memory_mib: {memory_mib}; expected at most {MAX_MEMORY_MIB}, the memory of this host"
        );
        Ok(())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} processors", self.memory_mib, self.cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nitro::ALLOCATED;

    fn error(text: &str) -> String {
        let refused = Request::parse(text).and_then(Request::ensure_is_there);
        refused.map_or_else(|error| format!("{error:#}"), |()| "nothing".to_owned())
    }

    #[test]
    fn what_user_data_writes_can_be_set_aside() {
        let request = Request::parse(ALLOCATED).unwrap();
        assert_eq!(request, Request { memory_mib: 512, cpus: 2 });
        request.ensure_is_there().unwrap();
    }

    #[test]
    fn as_much_as_the_host_has_can_be_set_aside_and_no_more() {
        assert_eq!(error("---\n# all of it\nmemory_mib: 16384\ncpu_count: \"8\"\n"), "nothing");
        let expected = "memory_mib: 16385; expected at most 16384, the memory of this host";
        assert_eq!(error("---\nmemory_mib: 16385\ncpu_count: 8\n"), expected);
        let expected = "cpu_count: 9; expected at most 8, the processors of this host";
        assert_eq!(error("---\nmemory_mib: 512\ncpu_count: 9\n"), expected);
        assert!(error("---\nmemory_mib: 512\ncpu_count: 0\n").starts_with("cpu_count: 0; expected 1"));
    }

    #[test]
    fn a_configuration_that_aws_s_would_not_take_is_refused_by_its_line() {
        for (text, expected) in [
            ("memory_mib: 512\ncpu_count: 2\n", "memory_mib is missing"),
            ("---\nmemory_mib: 512\n", "cpu_count is missing"),
            ("---\nmemory_mib: 512\ncpus: 2\n", "line 3: unexpected key \"cpus\""),
            ("---\nmemory_mib:\n", "line 2: memory_mib: \"\"; expected a whole number"),
            ("---\nmemory_mib 512\n", "line 2: expected `key: value`"),
        ] {
            assert!(error(text).starts_with(expected), "{text:?}: {}", error(text));
        }
    }
}
