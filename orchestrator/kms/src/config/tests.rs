use std::error::Error as _;

use super::*;

const GOOD: &str = r#"
[kms]
key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
encryption_context = { purpose = "ethereum-signer" }
endpoint = "https://kms.lab.example:8443"
deadline = "20s"
attempt_timeout = "5s"
[secrets]
endpoint = "https://secretsmanager.lab.example"
[imds]
endpoint = "http://192.0.2.1:8080"
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kms: KmsTable,
    #[serde(default)]
    secrets: SecretsTable,
    #[serde(default)]
    imds: ImdsTable,
}

fn checked(text: &str, dir: &Path) -> Result<(KmsSettings, SecretsSettings, ImdsSettings), ConfigError> {
    let file: File = toml::from_str(text).unwrap();
    let kms = file.kms.check(dir)?;
    let secrets = file.secrets.check(&kms)?;
    Ok((kms, secrets, file.imds.check()?))
}

/// The error of the good file with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the file");
    checked(&GOOD.replacen(from, to, 1), Path::new("/")).unwrap_err().to_string()
}

#[test]
fn the_good_file_is_read() {
    let (kms, secrets, imds) = checked(GOOD, Path::new("/")).unwrap();
    assert_eq!(kms.key.region(), "eu-central-1");
    assert_eq!(kms.endpoint, "https://kms.lab.example:8443".parse().unwrap());
    assert_eq!(secrets.key.region(), "eu-central-1");
    assert_eq!(imds.endpoint, "192.0.2.1:8080".parse().unwrap());
}

#[test]
fn what_is_left_out_is_as_on_aws() {
    let short: String =
        GOOD.lines().filter(|line| !line.starts_with("endpoint")).map(|line| format!("{line}\n")).collect();
    let (kms, secrets, imds) = checked(&short, Path::new("/")).unwrap();
    assert!(kms.roots.are_amazons());
    assert_eq!(kms.endpoint.to_string(), "https://kms.eu-central-1.amazonaws.com");
    assert_eq!(secrets.endpoint.to_string(), "https://secretsmanager.eu-central-1.amazonaws.com");
    assert_eq!(imds.endpoint, "169.254.169.254:80".parse().unwrap());
}

#[test]
fn the_sample_in_the_documentation_is_read() {
    let lines = include_str!("../config.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let sample = lines.skip_while(|line| *line != "```toml").skip(1).take_while(|line| *line != "```");
    let sample: Vec<&str> = sample.collect();
    let (kms, ..) = checked(&sample.join("\n"), Path::new("/")).unwrap();
    assert!(kms.roots.are_amazons());
    let keys = |line: &&str| line.contains(" = ") && !line.contains("roots_path");
    let everything: Vec<_> =
        sample.iter().map(|line| line.strip_prefix("# ").filter(|rest| keys(rest)).unwrap_or(line)).collect();
    let (kms, ..) = checked(&everything.join("\n"), Path::new("/")).unwrap();
    assert_eq!(kms.retry_budget, RetryBudget { deadline: kms_deadline(), attempt_timeout: kms_attempt_timeout() });
}

#[test]
fn an_unknown_key_is_named() {
    for (from, to) in
        [("deadline", "dead_line"), ("[secrets]", "[secrets]\nregion = \"x\""), ("[imds]", "[imds]\nx = 1")]
    {
        let error = toml::from_str::<File>(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[test]
fn a_key_that_is_no_arn_is_named_with_what_is_wrong() {
    let text = GOOD.replacen("key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/signer", 1);
    let error = checked(&text, Path::new("/")).unwrap_err();
    assert!(error.to_string().starts_with("kms.key_arn: `arn:aws:kms:"), "{error}");
    assert_eq!(error.source().unwrap().to_string(), "it names an alias, not a key");
}

#[test]
fn a_context_that_kms_would_not_take_is_refused() {
    let context = "{ purpose = \"ethereum-signer\" }";
    assert!(refused(context, "{}").starts_with("kms.encryption_context: is empty, expected at least one"));
    assert!(refused(context, "{ \"aws:x\" = \"y\" }").starts_with("kms.encryption_context: a name"));
    assert!(refused(context, "{ ledger = \"a/b\" }").starts_with("kms.encryption_context: has an entry `ledger`"));
    let long = format!("{{ x = \"{}\" }}", "y".repeat(8192));
    assert!(refused(context, &long).starts_with("kms.encryption_context: 8199 bytes"));
}

#[test]
fn an_endpoint_that_is_none_is_named_with_what_is_right() {
    let right = "is not a server, expected https://HOST or https://HOST:PORT";
    let error = refused("https://kms.lab.example:8443", "http://kms.lab.example");
    assert_eq!(error, format!("kms.endpoint: `http://kms.lab.example` {right}"));
    let error = refused("https://secretsmanager.lab.example", "https://");
    assert_eq!(error, format!("secrets.endpoint: `https://` {right}"));
    let error = refused("https://kms.lab.example:8443", "https://kms.lab.example:65536");
    assert_eq!(error, format!("kms.endpoint: `https://kms.lab.example:65536` {right}"));
    let error = refused("http://192.0.2.1:8080", "http://metadata.example");
    assert!(
        error.starts_with("imds.endpoint: `http://metadata.example` is not a server, expected http://ADDRESS or"),
        "{error}"
    );
}

#[test]
fn times_have_bounds() {
    assert_eq!(refused("\"20s\"", "\"3m\""), "kms.deadline: expected a time from \"100ms\" to \"2m\"");
    assert_eq!(
        refused("\"5s\"", "\"21s\""),
        "kms.attempt_timeout: expected a time from \"100ms\" to kms.deadline, 20s"
    );
    assert!(refused("[imds]", "[imds]\nattempt_timeout = \"0s\"").starts_with("imds.attempt_timeout: "));
}

#[test]
fn roots_are_read_from_the_configurations_folder() {
    let dir = tempfile::tempdir().unwrap();
    let text = GOOD.replacen("deadline", "roots_path = \"lab.pem\"\ndeadline", 1);
    let error = checked(&text, dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("kms.roots_path: "), "{error}");
    fs::write(dir.path().join("lab.pem"), "no PEM").unwrap();
    let error = checked(&text, dir.path()).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "no certificate in it");
    let pem = rcgen::generate_simple_self_signed(["lab".to_owned()]).unwrap().cert.pem();
    fs::write(dir.path().join("lab.pem"), format!("{pem}{}", "\n".repeat(1 << 20))).unwrap();
    let error = checked(&text, dir.path()).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "more than a MiB");
    fs::write(dir.path().join("lab.pem"), pem).unwrap();
    assert!(!checked(&text, dir.path()).unwrap().0.roots.are_amazons());
}
