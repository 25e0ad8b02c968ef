//! Recognises a kernel image and reads its release.

use anyhow::{Context, ensure};

/// Returns the kernel's release, such as `6.12.94`. Refuses a file that an x86 boot loader would not start.
///
/// | offset | bytes | meaning (Documentation/arch/x86/boot.rst)                |
/// |--------|-------|----------------------------------------------------------|
/// | 0x1fe  | 2     | 0x55 0xaa                                                |
/// | 0x202  | 4     | `HdrS`                                                   |
/// | 0x20e  | 2     | version string, little endian, from 0x200 on; 0 for none |
pub(crate) fn release(bytes: &[u8]) -> anyhow::Result<String> {
    let header =
        bytes.get(0x1fe..0x210).context("too short, expected a bzImage (arch/x86/boot/bzImage of a kernel build)")?;
    let [0x55, 0xaa, _, _, b'H', b'd', b'r', b'S', .., low, high] = header else {
        anyhow::bail!("not a bzImage, expected arch/x86/boot/bzImage of a kernel build");
    };
    let pointer = usize::from(u16::from_le_bytes([*low, *high]));
    ensure!(pointer != 0, "the bzImage has no version string, expected one: it may be truncated");
    let text =
        bytes.get(pointer.saturating_add(0x200)..).context("the bzImage is truncated before its version string")?;
    let word: String =
        text.iter().take(64).take_while(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    ensure!(
        word.starts_with(|first: char| first.is_ascii_digit()),
        "the bzImage's version string is {word:?}, expected such as \"6.12.94\""
    );
    Ok(word)
}

/// The smallest file that is accepted as a bzImage.
#[cfg(test)]
pub(crate) fn sample() -> Vec<u8> {
    let mut bytes = vec![0; 0x300];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e] = 0x80;
    bytes[0x280..0x292].copy_from_slice(b"6.12.1 (x@y) #1 SM");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_first_word_of_the_version_string() {
        assert_eq!(release(&sample()).unwrap(), "6.12.1");
    }

    #[test]
    fn an_elf_kernel_is_refused() {
        let mut bytes = sample();
        bytes[0x202..0x206].copy_from_slice(b"\x7fELF");
        assert!(release(&bytes).is_err());
    }

    #[test]
    fn a_cut_kernel_is_refused() {
        for len in [0, 0x1ff, 0x20f, 0x280] {
            assert!(release(&sample()[..len]).is_err(), "{len}");
        }
    }
}
