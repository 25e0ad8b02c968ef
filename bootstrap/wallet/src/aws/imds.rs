//! The role of the EC2 instance that this runs on, from the instance metadata service, version 2
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use aws_credential_types::Credentials;
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::http::{Connection, Question};

const ENDPOINT: &str = "http://169.254.169.254";
const TOKEN_PATH: &str = "/latest/api/token";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";
/// Of all requests together: off EC2 nobody answers, and nobody should wait for that.
const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER_LEN: usize = 16 << 10;

/// Asks the service each time.
pub(super) struct Imds {
    host: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleAnswer {
    code: String,
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl Imds {
    pub(super) fn new(endpoint: Option<&str>) -> Result<Self> {
        let endpoint = endpoint.unwrap_or(ENDPOINT);
        let uri: Option<Uri> = endpoint.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("http"));
        let host = uri.as_ref().and_then(Uri::host).with_context(|| {
            format!("the instance metadata service's endpoint {endpoint:?}, expected http://HOST or http://HOST:PORT")
        })?;
        let port = uri.as_ref().and_then(Uri::port_u16).unwrap_or(80);
        Ok(Self { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
    }

    pub(super) async fn credentials(&self) -> Result<Credentials> {
        let doing = || format!("ask the instance metadata service at {}:{}", self.host, self.port);
        timeout(DEADLINE, self.ask())
            .await
            .with_context(|| format!("no answer within {DEADLINE:?}"))
            .flatten()
            .with_context(doing)
    }

    async fn ask(&self) -> Result<Credentials> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let mut connection = Connection::new(stream, &self.host).await?;
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", "60")];
        let token = fetch(&mut connection, Method::PUT, TOKEN_PATH, &ttl).await?;
        let token = [("x-aws-ec2-metadata-token", text(&token)?)];
        let role = fetch(&mut connection, Method::GET, ROLE_PATH, &token).await?;
        let role = text(&role)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte);
        ensure!(
            !role.is_empty() && role.bytes().all(is_name),
            "{role:?} is no role's name: attach a role to the instance"
        );
        let answer = fetch(&mut connection, Method::GET, &format!("{ROLE_PATH}{role}"), &token).await?;
        parse(&answer).with_context(|| format!("the credentials of role {role}"))
    }
}

async fn fetch(
    connection: &mut Connection,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Zeroizing<Vec<u8>>> {
    let question = Question { method, path, headers, body: Zeroizing::default(), max_answer: MAX_ANSWER_LEN };
    let answer = connection.ask(question).await.with_context(|| path.to_owned())?;
    ensure!(answer.status == StatusCode::OK, "{path}: HTTP {}", answer.status.as_u16());
    Ok(answer.body)
}

fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map(str::trim).context("an answer that is not text")
}

/// Errors do not show the text, which has secrets.
fn parse(json: &[u8]) -> Result<Credentials> {
    let RoleAnswer { code, access_key_id, secret_access_key, token, expiration } =
        serde_json::from_slice(json).ok().context("not the JSON that the service documents")?;
    ensure!(code == "Success", "code {code:?}, expected \"Success\"");
    let expiration = OffsetDateTime::parse(&expiration, &Rfc3339).context("Expiration is no time")?;
    let expiry = SystemTime::from(expiration);
    Ok(Credentials::new(access_key_id, secret_access_key, Some(token), Some(expiry), "instance role"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"Code": "Success", "LastUpdated": "2026-01-31T12:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "not-a-secret", "Token": "not-a-token", "Expiration": "2026-01-31T18:00:00Z"}"#;

    #[test]
    fn a_roles_credentials_are_read_with_their_expiry() {
        let credentials = parse(ANSWER.as_bytes()).unwrap();
        assert_eq!(credentials.access_key_id(), "ASIAEXAMPLE");
        assert_eq!(credentials.session_token(), Some("not-a-token"));
        let expiry = credentials.expiry().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(expiry, Duration::from_secs(1_769_882_400));
    }

    #[test]
    fn other_answers_are_refused_without_being_shown() {
        for wrong in ["Success", "Expiration", "Token", "2026-01-31T18"].map(|part| ANSWER.replace(part, "x")) {
            let error = format!("{:#}", parse(wrong.as_bytes()).unwrap_err());
            assert!(!error.contains("not-a"), "{error}");
        }
    }

    #[test]
    fn the_service_speaks_http() {
        let imds = Imds::new(Some("http://[fd00:ec2::254]:81")).unwrap();
        assert_eq!((imds.host.as_str(), imds.port), ("fd00:ec2::254", 81));
        assert!(Imds::new(Some("https://192.0.2.1")).is_err());
    }
}
