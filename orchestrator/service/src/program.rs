//! Checks a program that has to run without other files: `/init`, or a service.

use anyhow::{Context, ensure};
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PT_INTERP};
use elf::endian::AnyEndian;
use elf::file::Class;

/// Refuses a program that the enclave cannot run: its image has neither a dynamic loader nor libraries.
///
/// # Errors
/// What the file is, and what was expected.
pub fn check(bytes: &[u8]) -> anyhow::Result<()> {
    let file = elf::ElfBytes::<AnyEndian>::minimal_parse(bytes).context("expected a statically linked ELF program")?;
    let header = file.ehdr;
    ensure!(
        header.class == Class::ELF64 && header.e_machine == EM_X86_64,
        "the program is for another machine (ELF machine {}), expected x86_64",
        header.e_machine
    );
    ensure!(
        header.e_type == ET_EXEC || header.e_type == ET_DYN,
        "ELF type {} is not an executable, expected the linker's output",
        header.e_type
    );
    let segments = file.segments().context("the ELF file has no program headers, expected an executable")?;
    ensure!(
        segments.iter().all(|segment| segment.p_type != PT_INTERP),
        "the program asks for a dynamic loader, expected a static one (rustc -C target-feature=+crt-static)"
    );
    Ok(())
}

/// The smallest 64-bit ELF program, for tests: a header and one PT_LOAD segment, or one PT_INTERP.
#[must_use]
pub fn sample(wants_loader: bool) -> Vec<u8> {
    let mut bytes = [0; 120];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = *b"\x7fELF";
    [bytes[4], bytes[5], bytes[6]] = [2, 1, 1]; // 64 bits, little endian, version
    [bytes[16], bytes[18], bytes[20]] = [2, 62, 1]; // e_type, e_machine, e_version
    [bytes[32], bytes[52], bytes[54]] = [64, 64, 56]; // e_phoff, e_ehsize, e_phentsize
    [bytes[56], bytes[58]] = [1, 64]; // e_phnum, e_shentsize
    bytes[64] = if wants_loader { 3 } else { 1 };
    bytes.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_static_program_is_accepted() {
        check(&sample(false)).unwrap();
    }

    #[test]
    fn a_program_that_wants_a_loader_is_refused() {
        let text = check(&sample(true)).unwrap_err().to_string();
        assert!(text.contains("dynamic loader"), "{text}");
    }

    #[test]
    fn a_script_is_refused() {
        assert!(check(b"#!/bin/sh\necho no shell in there\n").is_err());
    }

    #[test]
    fn a_program_for_another_machine_is_refused() {
        let mut bytes = sample(false);
        bytes[18] = 183;
        let text = check(&bytes).unwrap_err().to_string();
        assert!(text.contains("another machine"), "{text}");
    }

    #[test]
    fn an_object_file_is_refused() {
        let mut bytes = sample(false);
        bytes[16] = 1;
        assert!(check(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(position in 0..120usize, byte: u8, len in 0..120usize) {
            let mut bytes = sample(false);
            bytes[position] = byte;
            bytes.truncate(len.max(1));
            check(&bytes).ok();
        }
    }
}
