//! `eif extract`: writes an image's sections to files.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::image::{Image, Kind};
use crate::{describe, input};

/// Writes an image's sections to a folder, to boot or inspect them without an enclave.
///
/// The files are `kernel`, `cmdline`, `ramdisk-0` (/init), `ramdisk-1` (/config) and so on, `initrd` (all ramdisks
/// concatenated, as the hypervisor loads them), and `metadata.json` and `signature.cbor` if the image has them. Refuses
/// an image with a wrong CRC.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Image
    file: PathBuf,
    /// Output folder; created if it does not exist
    dir: PathBuf,
}

/// Writes the files and returns their list.
pub(crate) fn extract(options: &Options) -> anyhow::Result<String> {
    let bytes = input::read("image", &options.file, describe::MAX_BYTES)?;
    let image = Image::parse(&bytes)
        .and_then(|image| image.crc.verdict().map(|()| image))
        .with_context(|| options.file.display().to_string())?;
    std::fs::create_dir_all(&options.dir).with_context(|| format!("create {}", options.dir.display()))?;
    let mut list = String::new();
    for (name, bytes) in parts(&image) {
        let path = options.dir.join(name);
        std::fs::write(&path, &bytes).with_context(|| format!("write {}", path.display()))?;
        writeln!(list, "{:>10} bytes  {}", bytes.len(), path.display())?;
    }
    Ok(list)
}

fn parts(image: &Image<'_>) -> Vec<(String, Vec<u8>)> {
    let mut ramdisks = 0;
    let mut parts = Vec::new();
    for section in &image.sections {
        let name = match section.kind {
            Kind::Kernel => "kernel".to_owned(),
            Kind::CommandLine => "cmdline".to_owned(),
            Kind::Signature => "signature.cbor".to_owned(),
            Kind::Metadata => "metadata.json".to_owned(),
            Kind::Ramdisk => {
                ramdisks += 1;
                format!("ramdisk-{}", ramdisks - 1)
            }
        };
        parts.push((name, section.data.to_vec()));
    }
    parts.push(("initrd".to_owned(), image.ramdisks().concat()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample;

    fn image_in(dir: &tempfile::TempDir, damage: Option<usize>) -> Options {
        let mut bytes = sample(&[(1, b"kernel"), (2, b"a=b"), (3, b"first"), (3, b"second")]);
        if let Some(position) = damage {
            bytes[position] ^= 1;
        }
        let file = dir.path().join("enclave.eif");
        std::fs::write(&file, bytes).unwrap();
        let dir = dir.path().join("out");
        Options { file, dir }
    }

    #[test]
    fn each_part_becomes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let options = image_in(&dir, None);
        extract(&options).unwrap();
        let read = |name| std::fs::read_to_string(options.dir.join(name)).unwrap();
        assert_eq!(read("kernel"), "kernel");
        assert_eq!(read("cmdline"), "a=b");
        assert_eq!(read("ramdisk-0"), "first");
        assert_eq!(read("ramdisk-1"), "second");
        assert_eq!(read("initrd"), "firstsecond");
    }

    #[test]
    fn a_damaged_image_is_not_extracted() {
        let dir = tempfile::tempdir().unwrap();
        let options = image_in(&dir, Some(562));
        let text = format!("{:#}", extract(&options).unwrap_err());
        assert!(text.contains("CRC"), "{text}");
        assert!(!options.dir.exists());
    }
}
