//! AWS in the lab's internet: responses in AWS's form, under AWS's names, with certificates of this lab's web CA
//! only.

use std::fs;

use super::shared_lab::lab_with;
use lab::{EnclaveId, Parent, Report, Test};
use serde_json::{Value, json};

const KMS: &str = "kms.eu-central-1.amazonaws.com";
const SECRETS: &str = "secretsmanager.eu-central-1.amazonaws.com";
const STS: &str = "sts.eu-central-1.amazonaws.com";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// The access key of `wallet` in the stand-in's configuration.
const WALLET: [&str; 2] = [
    "ASIATESTONLYWALLET00:TEST/ONLY/secret/of/the/wallets/role/000",
    "X-Amz-Security-Token: TEST/ONLY/session/token/of/the/wallets/role",
];
const METADATA: &str = "http://169.254.169.254/latest";
const TOKEN_TTL: [&str; 2] = ["-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"];

/// curl on the parent: the response's body and, in a last line, its status. Waits for servers that are not up yet.
fn curl(parent: &Parent, arguments: &[&str]) -> String {
    let patience = ["--retry", "60", "--retry-delay", "1", "--retry-connrefused", "--max-time", "60"];
    let base = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}"];
    let command = [&base[..], &patience, arguments].concat();
    parent.output(&command).unwrap()
}

/// A request to a server under its name, from a client that trusts only the lab's web CA.
fn https(parent: &Parent, name: &str, arguments: &[&str]) -> String {
    let address = if name == KMS { "198.51.100.90" } else { "198.51.100.91" };
    let resolved = format!("{name}:443:{address}");
    let url = format!("https://{name}/");
    let base = ["--cacert", "/payload/web-ca.pem", "--resolve", &resolved, &url];
    curl(parent, &[&base[..], arguments].concat())
}

/// As [`https`], signed by `wallet`.
fn signed(parent: &Parent, name: &str, target: &str, body: &str) -> String {
    signed_by(WALLET, &[], parent, name, target, body)
}

/// As [`https`], signed with `id:secret`, with the header of the session token.
fn signed_by(
    [user, token]: [&str; 2],
    options: &[&str],
    parent: &Parent,
    name: &str,
    target: &str,
    body: &str,
) -> String {
    let service = name.split('.').next().unwrap();
    let scope = format!("aws:amz:eu-central-1:{service}");
    let target = format!("X-Amz-Target: {target}");
    let headers = ["-H", "Content-Type: application/x-amz-json-1.1", "-H", &target, "-H", token];
    let arguments = [&["--aws-sigv4", &scope, "--user", user, "--data-binary", body][..], &headers].concat();
    https(parent, name, &[&arguments[..], options].concat())
}

/// One request, whatever the response is.
fn encrypt(parent: &Parent) -> String {
    let body = format!(r#"{{"KeyId":"{KEY}","Plaintext":"aGVsbG8=","EncryptionContext":{{"purpose":"lab"}}}}"#);
    signed_by(WALLET, &["--retry", "0"], parent, KMS, "TrentService.Encrypt", &body)
}

fn wait_for_kms(parent: &Parent) {
    https(parent, KMS, &[]);
}

/// One response of the metadata service to a request with a token.
fn metadata(parent: &Parent, path: &str) -> String {
    let token = curl(parent, &[&["-X", "PUT", &format!("{METADATA}/api/token")][..], &TOKEN_TTL].concat());
    let token = token.strip_suffix("\n200").expect("a token");
    let header = format!("X-aws-ec2-metadata-token: {token}");
    curl(parent, &["-H", &header, &format!("{METADATA}/meta-data/{path}")])
}

#[test]
fn kms_refuses_a_request_without_a_signature() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    let headers = ["-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: TrentService.Encrypt"];
    let said = https(&parent, KMS, &[&headers[..], &["--data-binary", "{}"]].concat());
    assert!(said.contains("MissingAuthenticationTokenException") && said.ends_with("\n400"), "{said}");
}

#[test]
fn wallet_may_encrypt_until_the_key_policy_says_otherwise() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    wait_for_kms(&parent);
    let said = encrypt(&parent);
    assert!(said.contains("CiphertextBlob") && said.contains(KEY) && said.ends_with("\n200"), "{said}");

    let first = parent.output(&["cat", "/run/lab/internet/key-policy.json"]).unwrap();
    let refusal = format!("{:#}", parent.set_key_policy("{}").unwrap_err());
    assert!(refusal.contains("key-policy.json"), "{refusal}");
    assert_eq!(parent.output(&["cat", "/run/lab/internet/key-policy.json"]).unwrap(), first);

    parent.set_key_policy(&first.replace("\"kms:Encrypt\"", "\"kms:DescribeKey\"")).unwrap();
    let said = encrypt(&parent);
    parent.set_key_policy(&first).unwrap();
    assert!(said.contains("AccessDeniedException"), "{said}");
    assert!(encrypt(&parent).ends_with("\n200"));
}

#[test]
fn the_parent_with_the_enclaves_own_role_opens_nothing() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    wait_for_kms(&parent);
    let said = metadata(&parent, "iam/security-credentials/default-role");
    let credentials: Value = serde_json::from_str(said.strip_suffix("\n200").expect("credentials")).unwrap();
    let part = |name: &str| credentials[name].as_str().expect("a part of them").to_owned();
    let user = format!("{}:{}", part("AccessKeyId"), part("SecretAccessKey"));
    let token = format!("X-Amz-Security-Token: {}", part("Token"));
    let answer: Value = serde_json::from_str(encrypt(&parent).strip_suffix("\n200").expect("a ciphertext")).unwrap();
    let body = json!({
        "KeyId": KEY,
        "CiphertextBlob": answer["CiphertextBlob"],
        "EncryptionContext": {"purpose": "lab"},
    });
    let said = signed_by([&user, &token], &[], &parent, KMS, "TrentService.Decrypt", &body.to_string());
    assert!(said.contains("AccessDeniedException") && said.ends_with("\n400"), "{said}");
}

#[test]
fn the_key_policy_asks_for_the_image_of_the_lab() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    let measurements = parent.output(&["cat", "/etc/wg-server/measurements.json"]).unwrap();
    let image = measurements.split("\"PCR0\": \"").nth(1).unwrap().split('"').next().unwrap();
    let policy = parent.output(&["cat", "/run/lab/internet/key-policy.json"]).unwrap();
    assert!(policy.contains(&format!("\"kms:RecipientAttestation:ImageSha384\": \"{image}\"")), "{policy}");
}

#[test]
fn a_fault_in_the_file_goes_wrong_as_long_as_it_is_there() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    wait_for_kms(&parent);
    let path = "/run/lab/internet/kms-fault.toml";
    parent.shell(&format!("echo 'fault = \"internal-error\"' >{path}")).unwrap();
    let said = encrypt(&parent);
    parent.shell(&format!("rm {path}")).unwrap();
    assert!(said.contains("KMSInternalException") && said.ends_with("\n500"), "{said}");
    assert!(encrypt(&parent).ends_with("\n200"));
}

#[test]
fn secrets_manager_keeps_a_secret_and_knows_no_other() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    let said = signed(&parent, SECRETS, "secretsmanager.GetSecretValue", r#"{"SecretId":"none"}"#);
    assert!(said.contains("ResourceNotFoundException"), "{said}");
    assert!(said.ends_with("\n400") || said.ends_with("\n404"), "{said}");

    let token = "01234567-89ab-cdef-0123-456789abcdef";
    let body = format!(r#"{{"Name":"aws-test","SecretString":"sealed","ClientRequestToken":"{token}"}}"#);
    let said = signed(&parent, SECRETS, "secretsmanager.CreateSecret", &body);
    assert!(said.contains("arn:aws:secretsmanager:eu-central-1:111122223333:secret:aws-test"), "{said}");
    let said = signed(&parent, SECRETS, "secretsmanager.GetSecretValue", r#"{"SecretId":"aws-test"}"#);
    assert!(said.contains("\"SecretString\": \"sealed\"") && said.contains(token), "{said}");
    let delete = r#"{"SecretId":"aws-test","ForceDeleteWithoutRecovery":true}"#;
    assert!(signed(&parent, SECRETS, "secretsmanager.DeleteSecret", delete).ends_with("\n200"));
}

#[test]
fn sts_knows_the_account() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    let [user, token] = WALLET;
    let query = ["--data-binary", "Action=GetCallerIdentity&Version=2011-06-15"];
    let signature = ["--aws-sigv4", "aws:amz:eu-central-1:sts", "--user", user, "-H", token];
    let said = https(&parent, STS, &[&signature[..], &query].concat());
    assert!(said.contains("<Account>111122223333</Account>"), "{said}");
}

#[test]
fn nobody_else_s_ca_vouches_for_the_servers() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    for (name, address) in [(KMS, "198.51.100.90"), (SECRETS, "198.51.100.91"), (STS, "198.51.100.91")] {
        // Waits until the server is up, with the right CA.
        https(&parent, name, &[]);
        let with_debian_s = format!("curl -s --resolve {name}:443:{address} https://{name}/ >/dev/null; echo $?");
        // curl(1): 60 is a certificate that no known CA has signed.
        assert_eq!(parent.shell(&with_debian_s).unwrap().trim(), "60", "{name}");
    }
    let on_host = fs::read_to_string(shared.lab.dir().join("web-ca.pem")).unwrap();
    assert_eq!(parent.output(&["cat", "/payload/web-ca.pem"]).unwrap(), on_host);
    // An image that was built earlier has another lab's CA, or none.
    if std::env::var_os("ENCLAVE_LAB_EIF").is_none() {
        assert_eq!(fs::read_to_string(shared.lab.dir().join("eif/config/web-ca.pem")).unwrap(), on_host);
    }
}

#[test]
fn the_metadata_service_has_credentials_for_who_has_a_token() {
    let shared = lab_with(0);
    let parent = shared.lab.parent().unwrap();
    let roles = "iam/security-credentials/";
    assert_eq!(metadata(&parent, roles), "default-role\n200");
    let said = metadata(&parent, "iam/security-credentials/default-role");
    for part in ["\"Code\": \"Success\"", "ASIATESTONLYENCLAVE0", "\"Expiration\": "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(curl(&parent, &[&format!("{METADATA}/meta-data/{roles}")]), "\n401");
    assert_eq!(curl(&parent, &["-X", "PUT", &format!("{METADATA}/api/token")]), "\n400");
}

#[test]
fn an_enclave_is_within_two_hops_of_the_metadata_service_and_resolves_the_names_that_it_asks() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    let said = parent.output(&["ping", "-n", "-c", "1", "169.254.169.254"]).unwrap();
    assert!(said.contains("ttl=2 "), "{said}");
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    // The signer does not use STS, so the allow-list does not have its name.
    for (name, address) in [(KMS, Some("198.51.100.90")), (SECRETS, Some("198.51.100.91")), (STS, None)] {
        let report = enclave.self_test(&Test::Resolve { name: format!("{name}.") }).unwrap();
        let Report::Resolved(resolved) = report else { panic!("{report:?}") };
        let expected: Vec<std::net::IpAddr> = address.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(resolved.addresses, expected, "{name}");
    }
}
