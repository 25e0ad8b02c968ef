//! `eif describe`: an image's contents, as text or JSON.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::image::{HEADER_LEN, Image, Kind};
use crate::input;
use crate::measurements::{Pcrs, pcr8, sha256};
use crate::signature::signing_certificate;

/// Images built from containers have hundreds of megabytes; a larger file is a mistake.
pub(crate) const MAX_BYTES: u64 = 4 << 30;

/// Prints an image's sections (offsets and sizes in bytes), command line, metadata, CRC and measurements.
///
/// Fails with the reason if the file is not an image, is damaged or is inconsistent. A wrong CRC is reported after the
/// description.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Image
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The text to print, and whether the CRC is right.
pub(crate) struct Description {
    pub(crate) text: String,
    pub(crate) verdict: anyhow::Result<()>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    bytes: usize,
    sha256: String,
    version: u16,
    flags: u16,
    architecture: &'static str,
    sections: Vec<SectionReport>,
    command_line: &'a str,
    metadata: Option<Value>,
    crc: CrcReport,
    hash_algorithm: &'static str,
    #[serde(flatten)]
    pcrs: Pcrs,
    #[serde(rename = "PCR8", skip_serializing_if = "Option::is_none")]
    pcr8: Option<String>,
    signed: bool,
}

#[derive(Serialize)]
struct SectionReport {
    #[serde(rename = "type")]
    kind: &'static str,
    offset: usize,
    bytes: usize,
    flags: u16,
}

#[derive(Serialize)]
struct CrcReport {
    stored: String,
    computed: String,
    ok: bool,
}

/// Reads and describes the file.
pub(crate) fn describe(options: &Options) -> anyhow::Result<Description> {
    let bytes = input::read("image", &options.file, MAX_BYTES)?;
    describe_bytes(&bytes, options.json).with_context(|| options.file.display().to_string())
}

fn describe_bytes(bytes: &[u8], json: bool) -> anyhow::Result<Description> {
    let image = Image::parse(bytes)?;
    let report = report(bytes, &image)?;
    let text = if json {
        let mut text = serde_json::to_string_pretty(&report).context("write JSON")?;
        text.push('\n');
        text
    } else {
        table(&report)?
    };
    Ok(Description { text, verdict: image.crc.verdict() })
}

fn report<'a>(bytes: &[u8], image: &Image<'a>) -> anyhow::Result<Report<'a>> {
    let metadata = match image.metadata() {
        Some(bytes) => Some(serde_json::from_slice(bytes).context("metadata section: JSON")?),
        None => None,
    };
    let signature = image.sections.iter().find(|section| section.kind == Kind::Signature);
    let certificate = signature.map(|section| signing_certificate(section.data)).transpose()?;
    let sections = image.sections.iter().map(|section| SectionReport {
        kind: section.kind.name(),
        offset: section.offset,
        bytes: section.data.len(),
        flags: section.flags,
    });
    Ok(Report {
        bytes: bytes.len(),
        sha256: sha256(bytes),
        version: image.version,
        flags: image.flags,
        architecture: match image.flags & 1 {
            0 => "x86_64",
            _ => "arm64",
        },
        sections: sections.collect(),
        command_line: str::from_utf8(image.command_line()).context("cmdline section: text")?,
        metadata,
        crc: CrcReport {
            stored: format!("{:08x}", image.crc.stored),
            computed: format!("{:08x}", image.crc.computed),
            ok: image.crc.verdict().is_ok(),
        },
        hash_algorithm: "SHA384",
        pcrs: Pcrs::of(image.kernel(), image.command_line(), &image.ramdisks()),
        pcr8: certificate.as_deref().map(pcr8),
        signed: signature.is_some(),
    })
}

fn table(report: &Report<'_>) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "EIF version {}, {}, flags {:#06x}, {} bytes",
        report.version, report.architecture, report.flags, report.bytes
    )?;
    writeln!(text, "SHA-256  {}", report.sha256)?;
    writeln!(text, "\nsection          offset       bytes  flags")?;
    writeln!(text, "{:<11} {:>11} {HEADER_LEN:>11}", "header", 0)?;
    for section in &report.sections {
        writeln!(text, "{:<11} {:>11} {:>11}  {:#06x}", section.kind, section.offset, section.bytes, section.flags)?;
    }
    writeln!(text, "\ncommand line\n  {}", printable(report.command_line))?;
    if let Some(metadata) = &report.metadata {
        let json = serde_json::to_string_pretty(metadata).context("write JSON")?;
        writeln!(text, "\nmetadata (not measured)")?;
        for line in json.lines() {
            writeln!(text, "  {}", printable(line))?;
        }
    }
    let verdict = if report.crc.ok { "ok".to_owned() } else { format!("WRONG, expected {}", report.crc.computed) };
    writeln!(text, "\nCRC   {} {verdict}", report.crc.stored)?;
    writeln!(text, "PCR0  {}", report.pcrs.pcr0)?;
    writeln!(text, "PCR1  {}", report.pcrs.pcr1)?;
    writeln!(text, "PCR2  {}", report.pcrs.pcr2)?;
    if let Some(pcr8) = &report.pcr8 {
        writeln!(text, "PCR8  {pcr8}")?;
        writeln!(
            text,
            "The image is signed: PCR8 measures the certificate. The hypervisor verifies the signature at start."
        )?;
    }
    Ok(text)
}

/// Escapes control characters: a hostile image must not control the terminal.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == ' ' || character.is_ascii_graphic() {
            safe.push(character);
        } else {
            safe.extend(character.escape_unicode());
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::sample;
    use crate::signature;

    const METADATA: &[u8] = br#"{"ImageName":"enclave"}"#;

    fn sound() -> Vec<u8> {
        sample(&[(1, b"kernel"), (2, b"cmdline"), (5, METADATA), (3, b"first"), (3, b"second")])
    }

    #[test]
    fn a_sound_image_is_described() {
        let description = describe_bytes(&sound(), false).unwrap();
        description.verdict.unwrap();
        for expected in [
            "EIF version 4, x86_64, flags 0x0000, 655 bytes",
            "kernel              548           6  0x0000",
            "\n  cmdline\n",
            "\"ImageName\": \"enclave\"",
            " ok\nPCR0  ",
            &Pcrs::of(b"kernel", b"cmdline", &[b"first", b"second"]).pcr2,
        ] {
            assert!(description.text.contains(expected), "{expected}: {}", description.text);
        }
    }

    #[test]
    fn the_json_has_the_same_measurements() {
        let description = describe_bytes(&sound(), true).unwrap();
        let json: Value = serde_json::from_str(&description.text).unwrap();
        let pcrs = Pcrs::of(b"kernel", b"cmdline", &[b"first", b"second"]);
        assert_eq!(json["PCR0"], pcrs.pcr0);
        assert_eq!(json["crc"]["ok"], true);
        assert_eq!(json["sections"][3]["type"], "ramdisk");
    }

    #[test]
    fn a_signed_image_shows_its_signer_as_pcr8() {
        // { head -c 48 /dev/zero; openssl x509 -outform DER | sha384sum | xxd -r -p; } | sha384sum
        const PCR8: &str =
            "f0183adddbce95eac3175e9ff0caf34287d6b5bb91e733a504c6ce86939c15e96d4688c73473620d799ed265f0f22aa9";
        let signature = signature::tests::section(&signature::tests::certificate());
        let bytes = sample(&[(1, b"kernel"), (2, b"cmdline"), (3, b"first"), (4, &signature)]);
        let text = describe_bytes(&bytes, false).unwrap().text;
        assert!(text.contains(&format!("\nPCR8  {PCR8}\nThe image is signed: PCR8")), "{text}");
        let json =
            |bytes: &[u8]| -> Value { serde_json::from_str(&describe_bytes(bytes, true).unwrap().text).unwrap() };
        assert_eq!((&json(&bytes)["PCR8"], &json(&bytes)["signed"]), (&PCR8.into(), &true.into()));
        assert_eq!((&json(&sound())["PCR8"], &json(&sound())["signed"]), (&Value::Null, &false.into()));
        let damaged = sample(&[(1, b"k"), (2, b"c"), (3, b"r"), (4, b"not CBOR")]);
        let error = describe_bytes(&damaged, false).map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").starts_with("signature section: "), "{error:#}");
    }

    #[test]
    fn a_wrong_crc_is_shown_and_is_an_error() {
        let mut bytes = sound();
        bytes[560] ^= 1;
        let description = describe_bytes(&bytes, false).unwrap();
        assert!(description.text.contains("WRONG"), "{}", description.text);
        let text = description.verdict.unwrap_err().to_string();
        assert!(text.contains("the CRC does not match"), "{text}");
    }

    #[test]
    fn escape_sequences_in_an_image_do_not_reach_the_terminal() {
        let bytes = sample(&[(1, b"k"), (2, b"a\x1b[2Jb"), (5, "{\"a\":\"\u{9b}\u{202e}\"}".as_bytes()), (3, b"r")]);
        let text = describe_bytes(&bytes, false).unwrap().text;
        assert!(text.contains("a\\u{1b}[2Jb"), "{text}");
        assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn damaged_metadata_is_named() {
        let bytes = sample(&[(1, b"k"), (2, b"c"), (5, b"{"), (3, b"r")]);
        let error = describe_bytes(&bytes, false).map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").starts_with("metadata section: JSON: "));
    }

    #[test]
    fn deeply_nested_metadata_is_an_error_not_an_overflow() {
        let deep = "[".repeat(100_000);
        let bytes = sample(&[(1, b"k"), (2, b"c"), (5, deep.as_bytes()), (3, b"r")]);
        assert!(describe_bytes(&bytes, false).is_err());
    }

    #[test]
    fn a_command_line_that_is_not_text_is_named() {
        let bytes = sample(&[(1, b"k"), (2, b"\xff"), (3, b"r")]);
        let error = describe_bytes(&bytes, false).map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").starts_with("cmdline section: text: "));
    }

    proptest! {
        #[test]
        fn no_sections_make_describe_panic(
            sections in prop::collection::vec((0..8u16, prop::collection::vec(any::<u8>(), 0..40)), 0..33),
            damage in prop::option::of((0..2000usize, any::<u8>())),
            json: bool,
        ) {
            let sections: Vec<(u16, &[u8])> =
                sections.iter().map(|(kind, data)| (*kind, data.as_slice())).collect();
            let mut bytes = sample(sections.get(..32).unwrap_or(&sections));
            if let Some((position, byte)) = damage
                && let Some(place) = bytes.get_mut(position)
            {
                *place = byte;
            }
            describe_bytes(&bytes, json).ok();
        }

        #[test]
        fn no_text_in_an_image_makes_describe_panic(
            command_line in prop::collection::vec(any::<u8>(), 0..40),
            metadata in "\\PC{0,40}",
            json: bool,
        ) {
            let metadata = serde_json::to_vec(&metadata).unwrap();
            let bytes = sample(&[(1, b"k"), (2, &command_line), (5, &metadata), (3, b"r")]);
            describe_bytes(&bytes, json).ok();
        }
    }
}
