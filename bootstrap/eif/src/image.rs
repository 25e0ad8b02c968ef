//! An enclave image file, parsed.
//!
//! The section table, the section headers and the file's length must agree. Then every reader (this one, the
//! hypervisor, the format's library) sees the same sections.
//!
//! All numbers are big endian. The header:
//!
//! | offset | bytes  | meaning                                             |
//! |--------|--------|-----------------------------------------------------|
//! | 0      | 4      | `.eif`                                              |
//! | 4      | 2      | version                                             |
//! | 6      | 2      | flags; bit 0: the kernel is for arm64               |
//! | 8      | 8      | default memory in bytes                             |
//! | 16     | 8      | default number of CPUs                              |
//! | 24     | 2      | reserved                                            |
//! | 26     | 2      | number of sections                                  |
//! | 28     | 32 × 8 | offset of each section's header                     |
//! | 284    | 32 × 8 | size of each section's data                         |
//! | 540    | 4      | unused                                              |
//! | 544    | 4      | CRC-32 (IEEE) of everything in the file except this |
//!
//! A section is a 12-byte header (type u16, flags u16, size of the data u64) and the data.

use anyhow::{Context, bail, ensure};

pub(crate) const HEADER_LEN: usize = 548;
pub(crate) const SECTION_HEADER_LEN: usize = 12;
const MAX_SECTIONS: usize = 32;
const MAGIC: [u8; 4] = *b".eif";

/// Versions with a CRC; version 4 added the metadata section.
const VERSIONS: std::ops::RangeInclusive<u16> = 2..=4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Kernel,
    CommandLine,
    Ramdisk,
    Signature,
    Metadata,
}

impl Kind {
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Kernel,
            2 => Self::CommandLine,
            3 => Self::Ramdisk,
            4 => Self::Signature,
            5 => Self::Metadata,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::CommandLine => "cmdline",
            Self::Ramdisk => "ramdisk",
            Self::Signature => "signature",
            Self::Metadata => "metadata",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    /// Where the section's header starts in the file.
    pub(crate) offset: usize,
    pub(crate) data: &'a [u8],
}

/// An image's sections in file order: one kernel, one command line, then at least one ramdisk among the others.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) version: u16,
    pub(crate) flags: u16,
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) crc: Crc,
}

/// The checksum in the header, and the one computed over the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crc {
    pub(crate) stored: u32,
    pub(crate) computed: u32,
}

impl Crc {
    /// Fails, with both values, if they differ.
    pub(crate) fn verdict(self) -> anyhow::Result<()> {
        ensure!(
            self.stored == self.computed,
            "the CRC does not match: {:08x} in the header, expected {:08x}; the file was damaged or changed",
            self.stored,
            self.computed
        );
        Ok(())
    }
}

impl<'a> Image<'a> {
    /// Parses a whole file. Does not check the CRC, see [`Crc::verdict`].
    pub(crate) fn parse(file: &'a [u8]) -> anyhow::Result<Self> {
        let Some((header, sections)) = file.split_at_checked(HEADER_LEN) else {
            bail!("truncated: {} bytes, expected a header of {HEADER_LEN}", file.len());
        };
        let mut fields = Fields(header);
        let magic: [u8; 4] = fields.take()?;
        ensure!(magic == MAGIC, "not an enclave image: it starts with {magic:02x?}, expected \".eif\"");
        let version = fields.u16()?;
        ensure!(
            VERSIONS.contains(&version),
            "format version {version}, expected {} to {}",
            VERSIONS.start(),
            VERSIONS.end()
        );
        let flags = fields.u16()?;
        let _default_memory = fields.u64()?;
        let _default_cpus = fields.u64()?;
        let _reserved = fields.u16()?;
        let count = usize::from(fields.u16()?);
        ensure!(
            (1..=MAX_SECTIONS).contains(&count),
            "the header counts {count} sections, expected 1 to {MAX_SECTIONS}"
        );
        let offsets = fields.u64s()?;
        let sizes = fields.u64s()?;
        let _unused = fields.u32()?;
        let covered = header.len() - fields.0.len();
        let stored = fields.u32()?;

        let mut crc = flate2::Crc::new();
        crc.update(header.get(..covered).context("header")?);
        crc.update(sections);

        let mut rest = sections;
        let mut parsed = Vec::with_capacity(count);
        for (number, (offset, size)) in offsets.into_iter().zip(sizes).take(count).enumerate() {
            let at = file.len() - rest.len();
            let (section, after) =
                parse_section(rest, at, offset, size).with_context(|| format!("section {number} at byte {at}"))?;
            parsed.push(section);
            rest = after;
        }
        ensure!(rest.is_empty(), "{} bytes follow the last of {count} sections, expected none", rest.len());
        check_order(&parsed)?;
        Ok(Self { version, flags, sections: parsed, crc: Crc { stored, computed: crc.sum() } })
    }

    pub(crate) fn kernel(&self) -> &'a [u8] {
        self.of(Kind::Kernel).next().unwrap_or_default()
    }

    pub(crate) fn command_line(&self) -> &'a [u8] {
        self.of(Kind::CommandLine).next().unwrap_or_default()
    }

    pub(crate) fn metadata(&self) -> Option<&'a [u8]> {
        self.of(Kind::Metadata).next()
    }

    pub(crate) fn ramdisks(&self) -> Vec<&'a [u8]> {
        self.of(Kind::Ramdisk).collect()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> {
        self.sections.iter().filter(move |section| section.kind == kind).map(|section| section.data)
    }
}

/// Parses the section at the start of `rest`, which is at byte `at` of the file. `offset` and `size` are the table's.
fn parse_section(rest: &[u8], at: usize, offset: u64, size: u64) -> anyhow::Result<(Section<'_>, &[u8])> {
    ensure!(u64::try_from(at).is_ok_and(|at| at == offset), "the section table has it at byte {offset}");
    let Some((header, rest)) = rest.split_at_checked(SECTION_HEADER_LEN) else {
        bail!("truncated: {} bytes left, expected a section header of {SECTION_HEADER_LEN}", rest.len());
    };
    let mut fields = Fields(header);
    let number = fields.u16()?;
    let kind = Kind::from_number(number).with_context(|| format!("type {number} is unknown, expected 1 to 5"))?;
    let flags = fields.u16()?;
    let own_size = fields.u64()?;
    ensure!(own_size == size, "{}: {own_size} bytes in its header, expected the section table's {size}", kind.name());
    let Some((data, after)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size)) else {
        bail!("truncated: the {} has {size} bytes, and {} are left", kind.name(), rest.len());
    };
    let section = Section { kind, flags, offset: at, data };
    Ok((section, after))
}

fn check_order(sections: &[Section<'_>]) -> anyhow::Result<()> {
    let count = |kind| sections.iter().filter(|section| section.kind == kind).count();
    let kinds = |index: usize| sections.get(index).map(|section| section.kind);
    ensure!(
        kinds(0) == Some(Kind::Kernel) && kinds(1) == Some(Kind::CommandLine),
        "expected the kernel and the command line as the first two sections"
    );
    for kind in [Kind::Kernel, Kind::CommandLine] {
        ensure!(count(kind) == 1, "more than one {}, expected one", kind.name());
    }
    for kind in [Kind::Metadata, Kind::Signature] {
        ensure!(count(kind) <= 1, "more than one {} section, expected at most one", kind.name());
    }
    ensure!(count(Kind::Ramdisk) >= 1, "no ramdisk, expected one with /init");
    Ok(())
}

/// Reads big-endian numbers from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().context("the header is truncated")?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u64s(&mut self) -> anyhow::Result<[u64; MAX_SECTIONS]> {
        let mut numbers = [0; MAX_SECTIONS];
        for number in &mut numbers {
            *number = self.u64()?;
        }
        Ok(numbers)
    }
}

/// Builds an image from `(type, data)` pairs, independently of the format's library.
#[cfg(test)]
pub(crate) fn sample(sections: &[(u16, &[u8])]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(MAGIC);
    header.extend([0, 4, 0, 0]);
    header.extend([0; 18]);
    header.extend(u16::try_from(sections.len()).unwrap().to_be_bytes());
    let mut body = Vec::new();
    let mut offsets = [0; MAX_SECTIONS];
    let mut sizes = [0; MAX_SECTIONS];
    for (index, (kind, data)) in sections.iter().enumerate() {
        let size = u64::try_from(data.len()).unwrap();
        offsets[index] = u64::try_from(HEADER_LEN + body.len()).unwrap();
        sizes[index] = size;
        body.extend(kind.to_be_bytes());
        body.extend([0, 0]);
        body.extend(size.to_be_bytes());
        body.extend(*data);
    }
    header.extend(offsets.into_iter().chain(sizes).flat_map(u64::to_be_bytes));
    header.extend([0; 4]);
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    crc.update(&body);
    header.extend(crc.sum().to_be_bytes());
    header.extend(body);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A section's type and data.
    type Pair<'a> = (u16, &'a [u8]);

    const SECTIONS: [Pair<'_>; 5] = [(1, b"kernel"), (2, b"console=ttyS0"), (5, b"{}"), (3, b"first"), (3, b"second")];

    fn refusal(file: &[u8]) -> String {
        format!("{:#}", Image::parse(file).unwrap_err())
    }

    #[test]
    fn a_sound_image_is_parsed() {
        let file = sample(&SECTIONS);
        let image = Image::parse(&file).unwrap();
        image.crc.verdict().unwrap();
        assert_eq!(image.kernel(), b"kernel");
        assert_eq!(image.command_line(), b"console=ttyS0");
        assert_eq!(image.metadata(), Some(b"{}".as_slice()));
        assert_eq!(image.ramdisks(), [b"first".as_slice(), b"second"]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let file = sample(&SECTIONS);
        for len in 0..file.len() {
            let text = refusal(&file[..len]);
            assert!(text.contains("truncated"), "{len}: {text}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let file = sample(&SECTIONS);
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 0x10;
            let noticed = match Image::parse(&damaged) {
                Ok(image) => image.crc.verdict().is_err(),
                Err(_) => true,
            };
            assert!(noticed, "byte {position}");
        }
    }

    #[test]
    fn another_file_type_is_named_by_its_first_bytes() {
        assert!(refusal(&[0x7f; HEADER_LEN]).contains("[7f, 7f, 7f, 7f]"));
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let mut file = sample(&SECTIONS);
        file[5] = 9;
        assert!(refusal(&file).contains("version 9"));
    }

    #[test]
    fn a_section_count_beyond_the_table_is_refused() {
        let mut file = sample(&SECTIONS);
        file[27] = 33;
        assert!(refusal(&file).contains("33 sections"));
        file[27] = 0;
        assert!(refusal(&file).contains("0 sections"));
    }

    #[test]
    fn a_size_of_exabytes_is_refused_without_allocating_it() {
        let mut file = sample(&SECTIONS);
        file[284..292].copy_from_slice(&u64::MAX.to_be_bytes());
        file[HEADER_LEN + 4..HEADER_LEN + 12].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(refusal(&file).starts_with("section 0 at byte 548: truncated: the kernel"));
    }

    #[test]
    fn a_table_that_points_elsewhere_is_refused() {
        let mut file = sample(&SECTIONS);
        file[28 + 8 + 7] ^= 1;
        assert!(refusal(&file).contains("section 1 at byte 566: the section table has it at"));
    }

    #[test]
    fn a_size_on_which_table_and_section_differ_is_refused() {
        let mut file = sample(&SECTIONS);
        file[284 + 7] = 5;
        assert!(refusal(&file).contains("kernel: 6 bytes in its header, expected the section table's 5"));
    }

    #[test]
    fn bytes_after_the_last_section_are_refused() {
        let mut file = sample(&SECTIONS);
        file.push(0);
        assert!(refusal(&file).contains("1 bytes follow the last of 5 sections"));
    }

    #[test]
    fn sections_that_are_missing_repeated_or_out_of_order_are_refused() {
        let [kernel, command_line, metadata, ramdisk, _] = SECTIONS;
        let cases: [(&[Pair<'_>], &str); 7] = [
            (&[command_line, kernel, ramdisk], "the first two sections"),
            (&[kernel], "the first two sections"),
            (&[kernel, command_line, metadata], "no ramdisk"),
            (&[kernel, command_line, kernel, ramdisk], "more than one kernel"),
            (&[kernel, command_line, command_line, ramdisk], "more than one cmdline"),
            (&[kernel, command_line, metadata, metadata, ramdisk], "more than one metadata"),
            (&[kernel, command_line, ramdisk, (6, b"")], "type 6 is unknown"),
        ];
        for (sections, reason) in cases {
            let text = refusal(&sample(sections));
            assert!(text.contains(reason), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            Image::parse(&bytes).ok();
        }

        #[test]
        fn no_damage_makes_the_parser_panic(
            damage in prop::collection::vec((0..700usize, any::<u8>()), 1..8),
            len in 0..700usize,
        ) {
            let mut file = sample(&SECTIONS);
            for (position, byte) in damage {
                if let Some(place) = file.get_mut(position) {
                    *place = byte;
                }
            }
            file.truncate(len);
            Image::parse(&file).ok();
        }
    }
}
