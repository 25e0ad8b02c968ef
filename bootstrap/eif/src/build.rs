//! `eif build`: writes `enclave.eif` and `measurements.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aws_nitro_enclaves_image_format::defs::{EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::EifBuilder;
use sha2::{Digest, Sha384};
use tempfile::NamedTempFile;

use crate::image::{HEADER_LEN, Image, SECTION_HEADER_LEN};
use crate::measurements::{Measurements, Pcrs, Sha256Sums, Tool, sha256};
use crate::ramdisk::Compression;
use crate::{command_line, config_dir, input, kernel, ramdisk};

const IMAGE_NAME: &str = "enclave.eif";
const MEASUREMENTS_NAME: &str = "measurements.json";
const TOOL: Tool = Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

/// Larger than any kernel or static program for an enclave.
const MAX_INPUT_BYTES: u64 = 256 << 20;
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Builds an image: writes DIR/enclave.eif and DIR/measurements.json.
///
/// PCR0 measures the whole image; PCR1 the kernel, command line and /init; PCR2 the configuration. The tool reads the
/// image back and measures it again before it reports success. The image is not signed, so PCR8 is zero.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernel: an x86_64 bzImage of at most 256 MiB
    #[arg(long, value_name = "BZIMAGE")]
    kernel: PathBuf,

    /// The kernel's .config; only its hash is recorded
    #[arg(long, value_name = "FILE")]
    kernel_config: Option<PathBuf>,

    /// File with the kernel command line: options on one or more lines, `#` starts a comment; at most 1792 bytes of
    /// options
    #[arg(long, value_name = "FILE", required_unless_present = "cmdline")]
    cmdline_file: Option<PathBuf>,

    /// Kernel command line, in place of --cmdline-file
    #[arg(long, value_name = "OPTIONS", conflicts_with = "cmdline_file")]
    cmdline: Option<String>,

    /// Program to run as /init: a static x86_64 ELF executable of at most 256 MiB
    #[arg(long, value_name = "PATH")]
    init: PathBuf,

    /// Folder whose files become /config/*: regular files of at most 1 MiB each, without private keys. Only programs of
    /// services in enclave.toml may be executable, and larger
    #[arg(long, value_name = "DIR")]
    config: PathBuf,

    /// Output folder; created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Compression of the ramdisks
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
}

/// The image's sections, byte for byte.
struct Parts {
    kernel: Vec<u8>,
    kernel_release: String,
    command_line: String,
    ramdisks: [Vec<u8>; 2],
}

/// Builds the image and returns a summary of it.
pub(crate) fn build(options: &Options) -> anyhow::Result<String> {
    let kernel = input::read("--kernel", &options.kernel, MAX_INPUT_BYTES)?;
    let kernel_release = kernel::release(&kernel).with_context(|| named("--kernel", &options.kernel))?;
    let kernel_config = match &options.kernel_config {
        Some(path) => Some(input::read("--kernel-config", path, MAX_TEXT_BYTES)?),
        None => None,
    };
    let command_line = read_command_line(options)?;
    let init = input::read("--init", &options.init, MAX_INPUT_BYTES)?;
    service::check_program(&init).with_context(|| named("--init", &options.init))?;
    let config = config_dir::read(&options.config)?;

    let parts = Parts {
        ramdisks: [
            ramdisk::store(ramdisk::first(&init)?, options.compression)?,
            ramdisk::store(ramdisk::second(&config)?, options.compression)?,
        ],
        kernel,
        kernel_release,
        command_line,
    };

    std::fs::create_dir_all(&options.out).with_context(|| named("--out", &options.out))?;
    let image_path = options.out.join(IMAGE_NAME);
    let measurements_path = options.out.join(MEASUREMENTS_NAME);
    let (image, bytes, pcrs) = write_image(&parts, &options.out).with_context(|| named("write", &image_path))?;

    let measurements = Measurements {
        hash_algorithm: "SHA384",
        pcrs,
        sha256: Sha256Sums {
            eif: sha256(&bytes),
            kernel: sha256(&parts.kernel),
            kernel_config: kernel_config.as_deref().map(sha256),
            init: sha256(&init),
            command_line: sha256(parts.command_line.as_bytes()),
            config: config.iter().map(|(name, file)| (name.clone(), sha256(&file.bytes))).collect(),
            ramdisks: parts.ramdisks.iter().map(|bytes| sha256(bytes)).collect(),
        },
        tool: TOOL,
    };
    let mut json = serde_json::to_string_pretty(&measurements).context("write JSON")?;
    json.push('\n');

    // The measurements last, so that they never describe an image that does not exist.
    persist(image, &image_path)?;
    let mut file = temporary_in(&options.out)?;
    file.write_all(json.as_bytes()).with_context(|| named("write", &measurements_path))?;
    persist(file, &measurements_path)?;

    summary(&parts, &measurements, bytes.len(), &options.out)
}

fn named(role: &str, path: &Path) -> String {
    format!("{role} {}", path.display())
}

fn read_command_line(options: &Options) -> anyhow::Result<String> {
    if let Some(text) = &options.cmdline {
        return command_line::parse(text).context("--cmdline");
    }
    let path = options.cmdline_file.as_deref().context("expected either --cmdline-file FILE or --cmdline OPTIONS")?;
    let text = String::from_utf8(input::read("--cmdline-file", path, MAX_TEXT_BYTES)?);
    text.context("expected UTF-8 text")
        .and_then(|text| command_line::parse(&text))
        .with_context(|| named("--cmdline-file", path))
}

/// Writes the image with the format's library and reads it back. Compares it with the parts, and the library's PCRs
/// with PCRs computed independently.
fn write_image(parts: &Parts, dir: &Path) -> anyhow::Result<(NamedTempFile, Vec<u8>, Pcrs)> {
    let mut image = temporary_in(dir)?;
    let library_measured = assemble(parts, image.as_file_mut())?;
    let bytes = std::fs::read(image.path()).context("read back")?;
    let pcrs = verify(&bytes, parts, &library_measured).context("verify the image")?;
    Ok((image, bytes, pcrs))
}

/// The library's PCRs, by name: `PCR0` and so on.
type LibraryMeasured = BTreeMap<String, String>;

/// `EifBuilder` panics when it cannot read or write a file. So its inputs have just been written, and the output's disk
/// space is allocated.
fn assemble(parts: &Parts, image: &mut File) -> anyhow::Result<LibraryMeasured> {
    let metadata = metadata(&parts.kernel_release);
    let scratch = tempfile::tempdir().context("create a temporary folder")?;
    let write = |name: String, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).with_context(|| named("write", &path))?;
        anyhow::Ok(path)
    };
    let kernel_path = write("kernel".to_owned(), &parts.kernel)?;
    let mut ramdisk_paths = Vec::new();
    for (ramdisk, number) in parts.ramdisks.iter().zip(0..) {
        ramdisk_paths.push(write(format!("ramdisk-{number}"), ramdisk)?);
    }

    let metadata_len = serde_json::to_vec(&metadata).context("write the metadata section")?.len();
    let data = [parts.kernel.len(), parts.command_line.len(), metadata_len];
    let len = data
        .into_iter()
        .chain(parts.ramdisks.iter().map(Vec::len))
        .fold(HEADER_LEN, |total, len| total + SECTION_HEADER_LEN + len);
    nix::fcntl::posix_fallocate(&*image, 0, i64::try_from(len).context("size")?)
        .with_context(|| format!("reserve {len} bytes"))?;

    let x86_64 = 0;
    let mut builder = EifBuilder::new(&kernel_path, parts.command_line.clone(), None, Sha384::new(), x86_64, metadata);
    for path in &ramdisk_paths {
        builder.add_ramdisk(path);
    }
    Ok(builder.write_to(image))
}

/// Not measured. The build time is fixed: the same inputs give the same image.
fn metadata(kernel_release: &str) -> EifIdentityInfo {
    EifIdentityInfo {
        img_name: "enclave".to_owned(),
        img_version: TOOL.version.to_owned(),
        build_info: EifBuildInfo {
            build_time: "1970-01-01T00:00:00+00:00".to_owned(),
            build_tool: TOOL.name.to_owned(),
            build_tool_version: TOOL.version.to_owned(),
            img_os: "Linux".to_owned(),
            img_kernel: kernel_release.to_owned(),
        },
        docker_info: serde_json::Value::Null,
        custom_info: serde_json::Value::Null,
    }
}

fn verify(bytes: &[u8], parts: &Parts, library_measured: &LibraryMeasured) -> anyhow::Result<Pcrs> {
    let image = Image::parse(bytes)?;
    image.crc.verdict()?;
    let [first, second] = &parts.ramdisks;
    ensure!(
        image.kernel() == parts.kernel
            && image.command_line() == parts.command_line.as_bytes()
            && image.ramdisks() == [first.as_slice(), second],
        "the sections differ from the inputs"
    );
    let pcrs = Pcrs::of(image.kernel(), image.command_line(), &image.ramdisks());
    for (name, ours) in [("PCR0", &pcrs.pcr0), ("PCR1", &pcrs.pcr1), ("PCR2", &pcrs.pcr2)] {
        ensure!(
            library_measured.get(name) == Some(ours),
            "{name}: the format's library computed {:?}, expected {ours}",
            library_measured.get(name)
        );
    }
    Ok(pcrs)
}

fn temporary_in(dir: &Path) -> anyhow::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".eif-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .with_context(|| format!("create a file in {}", dir.display()))
}

fn persist(file: NamedTempFile, path: &Path) -> anyhow::Result<()> {
    file.persist(path).map(drop).with_context(|| named("write", path))
}

fn summary(parts: &Parts, measurements: &Measurements, len: usize, dir: &Path) -> anyhow::Result<String> {
    let [first, second] = &parts.ramdisks;
    let mut text = String::new();
    for (what, bytes) in [
        (format!("kernel {}", parts.kernel_release), parts.kernel.len()),
        ("ramdisk 0 (/init)".to_owned(), first.len()),
        ("ramdisk 1 (/config)".to_owned(), second.len()),
        (IMAGE_NAME.to_owned(), len),
    ] {
        writeln!(text, "{bytes:>10} bytes  {what}")?;
    }
    for (name, value) in
        [("PCR0", &measurements.pcrs.pcr0), ("PCR1", &measurements.pcrs.pcr1), ("PCR2", &measurements.pcrs.pcr2)]
    {
        writeln!(text, "{name}  {value}")?;
    }
    for name in [IMAGE_NAME, MEASUREMENTS_NAME] {
        writeln!(text, "{}", dir.join(name).display())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
    use serde_json::Value;

    use super::*;

    /// A folder with all inputs; each test changes what it is about.
    struct Inputs(tempfile::TempDir);

    impl Inputs {
        fn new() -> Self {
            let inputs = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(inputs.path("config")).unwrap();
            inputs.write("bzImage", &kernel::sample());
            inputs.write("init", &service::sample_program(false));
            inputs.write("cmdline", b"# why\npanic=1\nconsole=ttyS0\n");
            inputs.write("config/enclave.toml", b"[tunnel]\nmtu = 15360\n");
            inputs.write("config/ca.pem", b"certificate\n");
            inputs
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.path(name), bytes).unwrap();
        }

        fn options(&self) -> Options {
            Options {
                kernel: self.path("bzImage"),
                kernel_config: None,
                cmdline_file: Some(self.path("cmdline")),
                cmdline: None,
                init: self.path("init"),
                config: self.path("config"),
                out: self.path("out"),
                compression: Compression::None,
            }
        }

        fn build(&self) -> Value {
            build(&self.options()).unwrap();
            let json = std::fs::read(self.path("out/measurements.json")).unwrap();
            serde_json::from_slice(&json).unwrap()
        }

        fn refusal(&self) -> String {
            format!("{:#}", build(&self.options()).unwrap_err())
        }
    }

    fn changed(before: &Value, after: &Value) -> Vec<&'static str> {
        ["PCR0", "PCR1", "PCR2"].into_iter().filter(|pcr| before[pcr] != after[pcr]).collect()
    }

    #[test]
    fn the_same_inputs_in_two_folders_give_the_same_bytes() {
        for compression in [Compression::None, Compression::Gzip] {
            let images = [Inputs::new(), Inputs::new()].map(|inputs| {
                let options = Options { compression, ..inputs.options() };
                build(&options).unwrap();
                ["out/enclave.eif", "out/measurements.json"].map(|name| std::fs::read(inputs.path(name)).unwrap())
            });
            assert!(images[0] == images[1], "{compression:?}");
        }
    }

    #[test]
    fn the_pcrs_are_those_that_the_formats_library_reads_from_the_file() {
        let inputs = Inputs::new();
        let ours = inputs.build();
        let path = inputs.path("out/enclave.eif").display().to_string();
        let mut reader = EifReader::from_eif(path).unwrap();
        assert!(reader.check_crc());
        let theirs = reader.get_measurements().unwrap();
        for pcr in ["PCR0", "PCR1", "PCR2"] {
            assert_eq!(ours[pcr], theirs[pcr]);
        }
    }

    #[test]
    fn a_changed_byte_of_configuration_changes_the_deployment_and_not_the_release() {
        let inputs = Inputs::new();
        let before = inputs.build();
        inputs.write("config/enclave.toml", b"[tunnel]\nmtu = 15361\n");
        assert_eq!(changed(&before, &inputs.build()), ["PCR0", "PCR2"]);
    }

    #[test]
    fn a_changed_init_changes_the_release_and_not_the_deployment() {
        let inputs = Inputs::new();
        let before = inputs.build();
        let mut other = service::sample_program(false);
        other.push(0);
        inputs.write("init", &other);
        assert_eq!(changed(&before, &inputs.build()), ["PCR0", "PCR1"]);
    }

    #[test]
    fn a_changed_command_line_changes_the_release_and_a_changed_comment_nothing() {
        let inputs = Inputs::new();
        let before = inputs.build();
        inputs.write("cmdline", b"panic=1 console=ttyS0 # other words");
        assert_eq!(before, inputs.build());
        inputs.write("cmdline", b"panic=2 console=ttyS0");
        assert_eq!(changed(&before, &inputs.build()), ["PCR0", "PCR1"]);
    }

    #[test]
    fn the_measurements_file_names_every_input() {
        let inputs = Inputs::new();
        inputs.write(".config", b"CONFIG_WIREGUARD=y\n");
        let options = Options { kernel_config: Some(inputs.path(".config")), ..inputs.options() };
        build(&options).unwrap();
        let json = std::fs::read(inputs.path("out/measurements.json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["hashAlgorithm"], "SHA384");
        assert_eq!(json["tool"]["version"], TOOL.version);
        let sums = &json["sha256"];
        assert_eq!(sums["kernel"], sha256(&kernel::sample()));
        assert_eq!(sums["kernelConfig"], sha256(b"CONFIG_WIREGUARD=y\n"));
        assert_eq!(sums["init"], sha256(&service::sample_program(false)));
        assert_eq!(sums["commandLine"], sha256(b"panic=1 console=ttyS0"));
        assert_eq!(sums["config"]["ca.pem"], sha256(b"certificate\n"));
        let image = std::fs::read(inputs.path("out/enclave.eif")).unwrap();
        assert_eq!(sums["eif"], sha256(&image));
        let ramdisks = Image::parse(&image).unwrap().ramdisks().into_iter();
        let ramdisks: Vec<String> = ramdisks.map(sha256).collect();
        assert_eq!(sums["ramdisks"], Value::from(ramdisks));
    }

    #[test]
    fn a_private_key_in_the_configuration_leaves_no_image() {
        let inputs = Inputs::new();
        inputs.write("config/wg.toml", b"private_key = \"abc\"\n");
        let text = inputs.refusal();
        assert!(text.starts_with("--config "), "{text}");
        assert!(text.contains("wg.toml: it assigns"), "{text}");
        assert!(!inputs.path("out").exists());
    }

    #[test]
    fn an_input_that_is_wrong_is_named_with_its_flag() {
        for (name, flag) in [("bzImage", "--kernel"), ("init", "--init")] {
            let inputs = Inputs::new();
            inputs.write(name, &[b'x'; 2000]);
            let text = inputs.refusal();
            let start = format!("{flag} {}: ", inputs.path(name).display());
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn an_image_that_differs_from_its_inputs_is_noticed() {
        let parts = Parts {
            kernel: kernel::sample(),
            kernel_release: "6.12.1".to_owned(),
            command_line: "panic=1".to_owned(),
            ramdisks: [b"first...".to_vec(), b"second..".to_vec()],
        };
        let mut file = tempfile::tempfile().unwrap();
        let measured = assemble(&parts, &mut file).unwrap();
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        verify(&bytes, &parts, &measured).unwrap();

        let reason = |bytes: &[u8], parts: &Parts, measured: &LibraryMeasured| {
            format!("{:#}", verify(bytes, parts, measured).unwrap_err())
        };
        let mut damaged = bytes.clone();
        damaged[600] ^= 1;
        assert!(reason(&damaged, &parts, &measured).contains("CRC"));
        let other = Parts { command_line: "panic=2".to_owned(), ..parts };
        assert!(reason(&bytes, &other, &measured).contains("differ from the inputs"));
        let parts = Parts { command_line: "panic=1".to_owned(), ..other };
        let mut wrong = measured.clone();
        wrong.insert("PCR2".to_owned(), "00".to_owned());
        assert!(reason(&bytes, &parts, &wrong).contains("PCR2: the format's library"));
    }
}
