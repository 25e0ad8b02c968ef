//! The two ramdisks: newc archives whose bytes depend on their contents alone.
//!
//! Owners are 0:0, times are zero, inode numbers count from 1, and entries keep the order given here.

use std::io::Write;

use anyhow::Context;
use cpio::newc::{Builder, ModeFileType, trailer};
use flate2::GzBuilder;

use crate::config_dir::{File, Files};

/// Compression of a ramdisk. The kernel recognises both.
///
/// From power-on to /init on an emulated CPU, medians, 5.3 MB of ramdisks: 1.21 s uncompressed, 1.33 s with gzip (1.5
/// MB), 1.38 s with zstd (1.1 MB). image.sh uses gzip: a signer triples the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Compression {
    /// Uncompressed: boots fastest, and the bytes do not depend on a compressor
    None,
    /// gzip at its highest level: smaller (the kernel needs CONFIG_RD_GZIP)
    Gzip,
}

struct Entry<'a> {
    path: String,
    content: Content<'a>,
    permissions: u32,
}

enum Content<'a> {
    File(&'a [u8]),
    Directory,
    Device { major: u32, minor: u32 },
}

/// The first ramdisk: `/init`, the two devices that Rust's runtime needs before `main`, and mount points.
pub(crate) fn first(init: &[u8]) -> anyhow::Result<Vec<u8>> {
    const DIRECTORIES: [(&str, u32); 5] =
        [("etc", 0o755), ("proc", 0o555), ("run", 0o755), ("sys", 0o555), ("tmp", 0o1777)];
    let device = |path: &str, permissions, major, minor| Entry {
        path: path.to_owned(),
        content: Content::Device { major, minor },
        permissions,
    };
    let mut entries =
        vec![directory("dev", 0o755), device("dev/console", 0o600, 5, 1), device("dev/null", 0o666, 1, 3)];
    entries.extend(DIRECTORIES.map(|(path, permissions)| directory(path, permissions)));
    entries.push(Entry { path: "init".to_owned(), content: Content::File(init), permissions: 0o755 });
    archive(entries)
}

/// The second ramdisk: the measured configuration as `/config/*`. Only programs of services are executable.
pub(crate) fn second(files: &Files) -> anyhow::Result<Vec<u8>> {
    let mut entries = vec![directory("config", 0o555)];
    entries.extend(files.iter().map(|(name, File { bytes, is_program })| Entry {
        path: format!("config/{name}"),
        content: Content::File(bytes),
        permissions: if *is_program { 0o555 } else { 0o444 },
    }));
    archive(entries)
}

/// Compresses `archive`. The gzip header has neither a name nor a time.
pub(crate) fn store(archive: Vec<u8>, compression: Compression) -> anyhow::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(archive),
        Compression::Gzip => {
            let mut encoder =
                GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), flate2::Compression::best());
            encoder.write_all(&archive).context("compress a ramdisk")?;
            encoder.finish().context("compress a ramdisk")
        }
    }
}

fn directory(path: &str, permissions: u32) -> Entry<'static> {
    Entry { path: path.to_owned(), content: Content::Directory, permissions }
}

fn archive(entries: Vec<Entry<'_>>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (entry, inode) in entries.into_iter().zip(1..) {
        bytes = append(bytes, &entry, inode).with_context(|| format!("add {} to a ramdisk", entry.path))?;
    }
    trailer(bytes).context("end a ramdisk")
}

fn append(archive: Vec<u8>, entry: &Entry<'_>, inode: u32) -> anyhow::Result<Vec<u8>> {
    let header = Builder::new(&entry.path).ino(inode).mode(entry.permissions).uid(0).gid(0).mtime(0);
    let (header, content) = match entry.content {
        Content::File(bytes) => (header.set_mode_file_type(ModeFileType::Regular), bytes),
        Content::Directory => (header.set_mode_file_type(ModeFileType::Directory).nlink(2), [].as_slice()),
        Content::Device { major, minor } => {
            (header.set_mode_file_type(ModeFileType::Char).rdev_major(major).rdev_minor(minor), [].as_slice())
        }
    };
    let len = u32::try_from(content.len()).context("expected less than 4 GiB, the limit of newc")?;
    let mut writer = header.write(archive, len);
    writer.write_all(content)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        let pair = |(name, text): &(&str, &str)| {
            ((*name).to_owned(), File { bytes: text.as_bytes().to_vec(), is_program: false })
        };
        pairs.iter().map(pair).collect()
    }

    fn header(inode: u32, mode: u32, links: u32, size: usize, device: (u32, u32), name: &str) -> String {
        let (major, minor) = device;
        let name_size = name.len() + 1;
        let mut text = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}{major:08x}{minor:08x}{name_size:08x}{0:08x}{name}\0",
            0
        );
        while !text.len().is_multiple_of(4) {
            text.push('\0');
        }
        text
    }

    #[test]
    fn the_first_ramdisk_has_golden_bytes() {
        let none = (0, 0);
        let expected = [
            header(1, 0o040_755, 2, 0, none, "dev"),
            header(2, 0o020_600, 1, 0, (5, 1), "dev/console"),
            header(3, 0o020_666, 1, 0, (1, 3), "dev/null"),
            header(4, 0o040_755, 2, 0, none, "etc"),
            header(5, 0o040_555, 2, 0, none, "proc"),
            header(6, 0o040_755, 2, 0, none, "run"),
            header(7, 0o040_555, 2, 0, none, "sys"),
            header(8, 0o041_777, 2, 0, none, "tmp"),
            header(9, 0o100_755, 1, 5, none, "init"),
            "hello\0\0\0".to_owned(),
            header(0, 0, 1, 0, none, "TRAILER!!!"),
        ]
        .concat();
        let bytes = first(b"hello").unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn the_second_ramdisk_has_golden_bytes() {
        let expected = concat!(
            "070701",   // magic
            "00000001", // inode
            "0000416d", // directory, 0555
            "00000000", // uid
            "00000000", // gid
            "00000002", // links
            "00000000", // time
            "00000000", // size
            "00000000", // device, major
            "00000000", // device, minor
            "00000000", // this device's major
            "00000000", // this device's minor
            "00000007", // length of the name with its NUL
            "00000000", // checksum, unused
            "config\0\0\0\0",
            "070701000000020000812400000000000000000000000100000000",
            "00000003000000000000000000000000000000000000000900000000",
            "config/a\0\0",
            "x=1\0",
            "070701000000000000000000000000000000000000000100000000",
            "00000000000000000000000000000000000000000000000b00000000",
            "TRAILER!!!\0\0\0\0",
        );
        let bytes = second(&files(&[("a", "x=1")])).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn only_the_program_of_a_service_is_executable() {
        let mut files = files(&[("a", "1"), ("b", "2")]);
        files.get_mut("b").unwrap().is_program = true;
        let text = String::from_utf8(second(&files).unwrap()).unwrap();
        let mode =
            |name: &str| text[..text.find(name).unwrap()].get(text.find(name).unwrap() - 96..).unwrap()[..8].to_owned();
        assert_eq!([mode("config/a"), mode("config/b")], ["00008124", "0000816d"]);
    }

    #[test]
    fn the_order_in_which_files_are_listed_does_not_matter() {
        let one = second(&files(&[("a", "1"), ("b", "2")])).unwrap();
        let other = second(&files(&[("b", "2"), ("a", "1")])).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn an_archive_ends_where_the_next_one_may_start() {
        // The kernel accepts an uncompressed archive only at a multiple of four (init/initramfs.c, `this_header & 3`).
        for text in ["", "1", "12", "123", "1234"] {
            assert!(first(text.as_bytes()).unwrap().len().is_multiple_of(4));
        }
    }

    #[test]
    fn a_gzip_header_has_no_time_and_no_name() {
        let bytes = store(b"abc".to_vec(), Compression::Gzip).unwrap();
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }
}
